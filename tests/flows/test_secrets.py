"""A whole run on guarded services, MLflow on PostgreSQL and S3 behind a login, with secrets planted in every address.

Forecasts come out, strangers and wrong passwords are told so, and afterwards the secrets are searched for in every byte
that was kept or said.
"""

import base64
import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, urlsplit

import pandas as pd
import psutil
import pytest
from sqlalchemy import create_engine

from lstm.errors import ConfigError
from tasks.runtime.network import free_port
from tasks.tracking.connection import check_server
from tests.support.postgres import postgres_server
from tests.support.servers import add_scripts_to_path, run_server
from tests.support.tables import DATA, make_hourly
from tests.support.workspace import LSTM, Place

pytestmark = pytest.mark.service

PLANTED = {
    "source": "PLANTED-in/the@source%73",
    "study": "PLANTED-in/the@study%73",
    "mlflow": "PLANTED-in/the@mlflow%73",
    "prefect": "PLANTED-in-the-prefect-login-73",
    "s3": "PLANTEDinTheKeyOfTheBucket73",
    "serve": "PLANTED-in-the-serving-token-73",
    "wrong": "PLANTED-and/wrong@all%73",
}


@dataclass
class Guarded:
    """Addresses of the services, a workspace that uses them, and the output of its commands."""

    place: Place
    database: str  # of the superuser, without its name
    mlflow: str
    prefect: str
    s3: str
    output: list[bytes] = field(default_factory=list)

    def url(self, user: str, password: str, database: str) -> str:
        host = urlsplit(self.database).netloc.rpartition("@")[2]
        return f"postgresql+psycopg://{user}:{quote(password, safe='')}@{host}/{database}"

    @property
    def environment(self) -> dict[str, str]:
        """Environment of a command."""
        (self.place.folder / "tmp").mkdir(exist_ok=True)
        return {
            **self.place.environment,
            "TMPDIR": str(self.place.folder / "tmp"),
            "SHOPS_DB": self.url("planted_source", PLANTED["source"], "shops").replace("+psycopg", ""),
            "LSTM_STUDY_STORAGE": self.url("planted_study", PLANTED["study"], "studies"),
            "MLFLOW_TRACKING_URI": self.mlflow.replace("//", f"//admin:{quote(PLANTED['mlflow'], safe='')}@"),
            "PREFECT_API_URL": self.prefect,
            "PREFECT_API_AUTH_STRING": f"admin:{PLANTED['prefect']}",
            "AWS_SECRET_ACCESS_KEY": PLANTED["s3"],
            "LSTM_SERVE_TOKEN": PLANTED["serve"],
        }

    def run(self, *arguments: str, **changed: str) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end and keep its output."""
        environment = {**self.environment, **changed}
        done = subprocess.run(
            [*LSTM, *arguments], cwd=self.place.folder, env=environment, capture_output=True, timeout=300
        )
        self.output += [done.stdout, done.stderr]
        return done


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Guarded]:
    """PostgreSQL, S3, MLflow with basic auth and Prefect with its own, and a trained champion."""
    pytest.importorskip("moto")
    place, servers = Place(tmp_path_factory.mktemp("guarded")), tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:
        database = stack.enter_context(postgres_server())
        s3, mlflow, prefect = (f"http://127.0.0.1:{free_port()}" for _ in range(3))
        services = Guarded(place, database, mlflow, f"{prefect}/api", s3)
        fill(services)
        stack.enter_context(serving_all(services, servers))
        source = {"sql": "select * from shops order by shop, time", "uri": "env:SHOPS_DB"}
        place.write(
            data={**DATA, "source": source, "calendar": {"features": ["hour"]}},
            model={"sequence_length": 24, "hidden_size": 8, "num_layers": 1, "epochs": 2, "dropout": 0.0},
            search={"trials": 2, "workers": 1, "space": {"learning_rate": {"low": 0.005, "high": 0.02, "log": True}}},
        )
        (place.folder / "shops.csv").rename(servers / "shops.csv")
        done = services.run("train", "shops.yaml", "--json")
        assert done.returncode == 0, done.stderr.decode()
        yield services


def fill(services: Guarded) -> None:
    """Create the databases, each with a user of its own."""
    engine = create_engine(services.database, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("shops", "studies", "mlflow", "logins"):
            connection.exec_driver_sql(f"create database {name}")
        for user, name in (("source", "shops"), ("study", "studies")):
            connection.exec_driver_sql(
                f"create role planted_{user} login password '{PLANTED[user]}'".replace("%", "%%")
            )
            connection.exec_driver_sql(f"alter database {name} owner to planted_{user}")
    engine.dispose()
    engine = create_engine(services.url("planted_source", PLANTED["source"], "shops"))
    make_hourly().to_sql("shops", engine, index=False)
    engine.dispose()


@contextmanager
def serving_all(services: Guarded, folder: Path) -> Iterator[None]:
    """Run S3, MLflow and Prefect."""
    s3 = services.s3
    bucket = {"AWS_ACCESS_KEY_ID": "writer", "AWS_SECRET_ACCESS_KEY": PLANTED["s3"], "AWS_DEFAULT_REGION": "us-east-1"}
    common = {**add_scripts_to_path(services.place.environment), **bucket, "MLFLOW_S3_ENDPOINT_URL": s3}
    superuser = services.database.removesuffix("postgres")
    logins = folder / "logins.ini"
    function = "mlflow.server.auth:authenticate_request_basic_auth"
    logins.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = {superuser}logins\n".replace("%", "%%")
        + f"admin_username = admin\nauthorization_function = {function}\nauth_cache_ttl_seconds = 60\n"
    )
    guarded = {
        "MLFLOW_AUTH_CONFIG_PATH": str(logins),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PLANTED["mlflow"],
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "of-the-sessions",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "PREFECT_SERVER_API_AUTH_STRING": f"admin:{PLANTED['prefect']}",
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{services.place.folder / 'prefect.db'}",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    }
    port = {name: str(urlsplit(getattr(services, name)).port) for name in ("s3", "mlflow", "prefect")}
    python = [sys.executable, "-m"]
    options: dict[str, Any] = {"environment": {**common, **guarded}, "folder": folder}
    with ExitStack() as stack:
        moto = [*python, "moto.server", "-H", "127.0.0.1", "-p", port["s3"]]
        stack.enter_context(run_server(moto, f"{s3}/moto-api/", folder / "s3.log", **options))
        urllib.request.urlopen(urllib.request.Request(f"{s3}/models", method="PUT")).close()
        command = [*python, "mlflow", "server", "--app-name", "basic-auth", "--workers", "1", "--host", "127.0.0.1"]
        command += ["--port", port["mlflow"], "--backend-store-uri", f"{superuser}mlflow"]
        command += ["--artifacts-destination", "s3://models"]
        uvicorn = [*python, "uvicorn", "--factory", "prefect.server.api.server:create_app", "--port", port["prefect"]]
        stack.enter_context(
            run_server(
                [*uvicorn, "--log-level", "warning"],
                f"{services.prefect}/health",
                services.place.folder / "prefect.log",
                **options,
            )
        )
        stack.enter_context(
            run_server(command, f"{services.mlflow}/health", services.place.folder / "mlflow.log", **options)
        )
        yield


def status(url: str, *, method: str = "GET", **headers: str) -> int:
    request = urllib.request.Request(url, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_strangers_get_nothing_from_mlflow_or_prefect(guarded):
    asked = f"{guarded.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
    basic = base64.b64encode(f"admin:{PLANTED['mlflow']}".encode()).decode()
    assert status(asked) == 401
    assert status(asked, Authorization=f"Basic {basic}") == 200
    assert status(f"{guarded.prefect}/admin/version") == 401


@pytest.fixture(scope="module")
def read(guarded) -> list[subprocess.CompletedProcess[bytes]]:
    """`compare` and `forecast`."""
    with ThreadPoolExecutor(2) as pool:
        commands = (["compare", "shops", "--json"], ["forecast", "shops", "--out", "next.parquet"])
        return list(pool.map(lambda command: guarded.run(*command), commands))


def test_models_are_kept_in_postgres_and_s3_and_forecast_from_there(guarded, read):
    assert [command.returncode for command in read] == [0, 0], read
    rows = json.loads(read[0].stdout)
    assert "champion" in rows[0]["aliases"] + rows[1]["aliases"]
    forecasts = pd.read_parquet(guarded.place.folder / "next.parquet")
    assert forecasts.groupby("series").size().to_dict() == {"north": 6, "south": 6}
    engine = create_engine(guarded.database.removesuffix("postgres") + "mlflow")
    stored = pd.read_sql("select storage_location, source from model_versions", engine)
    engine.dispose()
    assert len(stored) == len(rows) and stored["storage_location"].str.startswith("mlflow-artifacts:/").all()
    assert not list((guarded.place.folder / "mlruns").rglob("MLmodel"))


@pytest.fixture(scope="module")
def failed(guarded) -> dict[str, subprocess.CompletedProcess[bytes]]:
    """Commands that fail for different reasons."""
    study = guarded.url("planted_study", PLANTED["wrong"], "studies")
    wrong = quote(PLANTED["wrong"], safe="")
    elsewhere = guarded.environment["SHOPS_DB"].replace("127.0.0.1", "localhost.invalid")
    table = "data.source={sql: select * from nothing, uri: env:SHOPS_DB}"
    train = ["train", "shops.yaml"]
    login = guarded.mlflow.replace("//", f"//admin:{wrong}@")
    runs: dict[str, tuple[list[str], dict[str, str]]] = {
        "wrong login": (["compare", "shops"], {"MLFLOW_TRACKING_URI": login}),
        "no such host": (train, {"SHOPS_DB": elsewhere}),
        "no such table": ([*train, "--set", table], {}),
        "wrong password": ([*train, "--fresh"], {"LSTM_STUDY_STORAGE": study}),
    }
    with ThreadPoolExecutor(2) as pool:
        return dict(zip(runs, pool.map(lambda run: guarded.run(*run[0], **run[1]), runs.values()), strict=True))


@pytest.mark.parametrize(
    ("why", "message"),
    [
        ("wrong login", ": the server refuses the login of 'admin' (401)"),
        ("no such host", "query on env:SHOPS_DB: the database can't be reached"),
        ("no such table", "query on env:SHOPS_DB: the query failed"),
        ("wrong password", "127.0.0.1"),
    ],
)
def test_what_fails_says_why_in_one_line(failed, why, message):
    lines = failed[why].stderr.decode().splitlines()
    (line,) = [line for line in lines if line.startswith("lstm: ")]
    assert failed[why].returncode == 2 and message in line and "Traceback" not in "".join(lines)


def test_a_missing_login_is_told_at_once(guarded, monkeypatch):
    for name in ("USERNAME", "PASSWORD"):
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
    message = r"asks for a login \(401\). Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD.$"
    with pytest.raises(ConfigError, match=message):
        check_server(guarded.mlflow)


@pytest.fixture(scope="module")
def served(guarded) -> dict[str, Any]:
    """Output and responses of a server that listens on all addresses."""
    command = [*LSTM, "serve", "shops", "--host", "0.0.0.0", "--port", "0", "--workers", "2"]
    with (guarded.place.folder / "serve.log").open("wb") as errors:
        options = {"cwd": guarded.place.folder, "env": guarded.environment, "stdout": subprocess.PIPE, "stderr": errors}
        process = subprocess.Popen(command, **options)
    try:
        line = process.stdout.readline()
        tree = [process, *psutil.Process(process.pid).children(recursive=True)]
        guarded.output += [line, *(" ".join(psutil.Process(member.pid).cmdline()).encode() for member in tree)]
        url = re.search(r"http://[\d.]+:\d+", line.decode())[0]
        closed = ("invocations", "docs", "openapi.json", "ping/", "nothing")
        wrong = (f"Bearer {PLANTED['wrong']}", f"Bearer {PLANTED['serve'][:-1]}", f"Basic {PLANTED['serve']}", "Bearer")
        example = line.decode().partition(": ")[2].strip()
        asked = ["bash", "-c", f"{example} --silent --fail"]
        return {
            "open": [status(f"{url}/{path}") for path in ("ping", "health", "version")],
            "closed": [status(f"{url}/{path}", method="POST") for path in closed],
            "wrong": [status(f"{url}/invocations", method="POST", Authorization=login) for login in wrong],
            "example": example,
            "answer": subprocess.run(asked, env=guarded.environment, capture_output=True, text=True, timeout=60).stdout,
        }
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        process.stdout.close()


def test_a_token_guards_the_served_champion(served):
    assert (set(served["open"]), set(served["closed"]), set(served["wrong"])) == ({200}, {401}, {401})
    assert '-H "Authorization: Bearer $LSTM_SERVE_TOKEN"' in served["example"]
    assert len(json.loads(served["answer"])["predictions"]) == 12


def encodings_of(secret: str) -> dict[str, bytes]:
    """Return a secret in every encoding that may be written."""
    raw = secret.encode()
    encodings = {"raw": raw, "quoted": quote(secret, safe="").encode(), "plus": quote_plus(secret).encode()}
    encodings |= {
        "lower": quote(secret, safe="").lower().encode(),
        "path": quote(secret).encode(),
        "hex": raw.hex().encode(),
    }
    for shift in range(3):  # in base64 of a longer text, the middle is the same at one of three shifts
        whole = base64.b64encode(b"x" * shift + raw)
        encodings[f"base64+{shift}"] = whole[4 if shift else 0 : len(whole) // 4 * 4 - 4]
    return encodings


def planted_in(content: bytes) -> list[str]:
    """Return the planted secrets in some content."""
    return [
        f"{name} {form}"
        for name, secret in PLANTED.items()
        for form, text in encodings_of(secret).items()
        if text in content
    ]


def in_the_database(guarded: Guarded, name: str) -> bytes:
    """Return every row of every table."""
    import psycopg

    url = guarded.database.replace("+psycopg", "").removesuffix("postgres") + name
    rows = []
    with psycopg.connect(url) as connection:
        tables = connection.execute("select tablename from pg_tables where schemaname = 'public'").fetchall()
        for (table,) in tables:
            with connection.cursor().copy(f'copy "{table}" to stdout') as copy:
                rows += [f"{table}\n".encode(), *map(bytes, copy)]
    return b"".join(rows)


def in_the_bucket(guarded: Guarded) -> dict[str, bytes]:
    """Return the content of every object."""
    import boto3

    login = {"aws_access_key_id": "reader", "aws_secret_access_key": "-", "region_name": "us-east-1"}
    client = boto3.client("s3", endpoint_url=guarded.s3, **login)
    pages = client.get_paginator("list_objects_v2").paginate(Bucket="models")
    names = [item["Key"] for page in pages for item in page.get("Contents", ())]
    return {name: client.get_object(Bucket="models", Key=name)["Body"].read() for name in names}


def test_the_search_for_secrets_finds_them_in_every_form():
    secret = PLANTED["mlflow"]
    header = base64.b64encode(f"admin:{secret}".encode())
    for content in (secret.encode(), quote(secret, safe="").encode(), header, b"x" + base64.b64encode(secret.encode())):
        assert [match.split()[0] for match in planted_in(b"before " + content + b" after")][:1] == ["mlflow"]


def test_no_secret_is_anywhere(guarded, read, failed, served):
    """Search files, databases, the bucket, logs and the output of all commands."""
    contents = {f"output {number}": content for number, content in enumerate(guarded.output)}
    files = [path for path in guarded.place.folder.rglob("*") if path.is_file()]
    contents |= {str(path.relative_to(guarded.place.folder)): path.read_bytes() for path in files}
    contents |= {name: in_the_database(guarded, name) for name in ("shops", "studies", "mlflow", "logins")}
    assert (
        b"trial-00" in contents["mlflow"] and b"learning_rate" in contents["studies"] and b"admin" in contents["logins"]
    )
    assert b"flow_run" in contents["prefect.db"] and any("prefect.log" in name for name in contents)
    objects = in_the_bucket(guarded)
    assert {"report.html", "model.safetensors", "config.yaml"} <= {name.rpartition("/")[2] for name in objects}
    contents |= objects
    assert {name: found for name, content in contents.items() if (found := planted_in(content))} == {}
