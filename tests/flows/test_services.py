"""The three uses on real servers: a scheduled run, a served champion, runs in the MLflow UI."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ..conftest import ROOT

pytestmark = pytest.mark.service


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def running(command: list[str], url: str, log: Path, **options: Any) -> Iterator[None]:
    """A server that answers at `url`, ended with all its children."""
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, start_new_session=True, **options)
    try:
        deadline = time.monotonic() + 180
        while not answers(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(url: str) -> bool:
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def with_scripts(environment: dict[str, str]) -> dict[str, str]:
    """mlflow and prefect start uvicorn by name: what activating the virtual environment does."""
    return {**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def post(url: str, body: str, kind: str = "application/json") -> tuple[int, Any]:
    request = urllib.request.Request(url, body.encode(), {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def test_the_served_champion_answers_with_forecasts(trained):
    place, _ = trained
    port = free_port()
    store = f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}"
    environment = {**with_scripts(place.environment), "MLFLOW_TRACKING_URI": store}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/shops@champion"]
    command += ["--env-manager", "local", "--port", str(port)]
    history = pd.read_csv(place.folder / "shops.csv").groupby("shop").tail(30)
    split = json.loads(history.to_json(orient="split", index=False))
    address = f"http://127.0.0.1:{port}"
    with running(command, f"{address}/ping", place.folder / "serve.log", env=environment, cwd=place.folder.parent):
        status, answer = post(f"{address}/invocations", json.dumps({"dataframe_split": split}))
        assert status == 200
        made = pd.DataFrame(answer["predictions"])
        assert list(made.columns) == ["series", "time", "forecast", "lo-80", "hi-80", "lo-95", "hi-95"]
        assert made.groupby("series").size().to_dict() == {"north": 6, "south": 6}
        params = {"horizon": 2, "levels": [50]}
        status, answer = post(f"{address}/invocations", json.dumps({"dataframe_split": split, "params": params}))
        assert (status, len(answer["predictions"])) == (200, 4)
        assert "lo-50" in answer["predictions"][0]
        status, by_csv = post(f"{address}/invocations", history.to_csv(index=False), "text/csv")
        assert status == 200
        assert [row["forecast"] for row in by_csv["predictions"]] == pytest.approx(made["forecast"].tolist())
        short = json.loads(history.groupby("shop").tail(3).to_json(orient="split", index=False))
        status, answer = post(f"{address}/invocations", json.dumps({"dataframe_split": short}))
        assert status == 400
        assert "needs 24 rows of history" in answer["message"]
    (place.folder / "serve.log").unlink()


def test_deployments_run_through_a_real_server_and_worker(trained, tmp_path):
    place, _ = trained
    port = free_port()
    environment = {
        **with_scripts(place.environment),
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PWD": str(ROOT),
    }

    def prefect(*arguments: str) -> str:
        command = [sys.executable, "-m", "prefect", "--no-prompt", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    server = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    worker = [sys.executable, "-m", "prefect", "worker", "start", "--pool", "lstm", "--with-healthcheck"]
    health = free_port()
    worker_environment = {**environment, "PREFECT_WORKER_WEBSERVER_PORT": str(health)}
    options = {"env": environment, "cwd": ROOT}
    with running(server, f"http://127.0.0.1:{port}/api/health", tmp_path / "server.log", **options):
        prefect("work-pool", "create", "lstm", "--type", "process")
        prefect("deploy", "--all")
        scheduled = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}}
        count_url = f"http://127.0.0.1:{port}/api/flow_runs/count"
        deadline = time.monotonic() + 90
        while post(count_url, json.dumps(scheduled)) == (200, 0) and time.monotonic() < deadline:
            time.sleep(1)
        assert post(count_url, json.dumps(scheduled))[1] > 0, "the cron schedules of prefect.yaml make no runs"
        health_url = f"http://127.0.0.1:{health}/health"
        with running(worker, health_url, tmp_path / "worker.log", env=worker_environment, cwd=ROOT):
            overrides = [
                "name=scheduled",
                "search.trials=1",
                "model.epochs=1",
                f"data.source={place.folder / 'shops.csv'}",
            ]
            parameters = ["--param", f"config={json.dumps(str(place.folder / 'shops.yaml'))}"]
            parameters += ["--param", f"overrides={json.dumps(overrides)}"]
            said = prefect("deployment", "run", "train/train", *parameters, "--watch")
            assert "finished successfully" in said
            forecast = ["--param", 'model="shops"', "--param", f"data={json.dumps(str(place.folder / 'shops.csv'))}"]
            assert "finished successfully" in prefect("deployment", "run", "forecast/forecast", *forecast, "--watch")
    written = list((place.folder / "mlruns" / "forecasts" / "shops").glob("*.parquet"))
    assert len(written) == 1
    assert len(pd.read_parquet(written[0])) == 12
