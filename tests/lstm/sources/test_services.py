"""Sources behind real servers: PostgreSQL, and S3 as moto serves it."""

import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import create_engine

from lstm.config.data import DataSpec
from lstm.errors import DataError
from lstm.sources.source import Source, open_source
from tasks.runtime.network import free_port
from tests.support.postgres import PASSWORD, QUOTED, SECRETS, missing

pytestmark = pytest.mark.service


def open_table(source: object, downloads: Path, **more: object) -> Source:
    return open_source(DataSpec.parse({"time": "time", "target": "sales", "source": source, **more}), downloads)


def error_message(source: object, downloads: Path, **more: object) -> str:
    """Return the message of the error: one line; neither it nor its traceback contains a secret."""
    with pytest.raises(DataError) as caught:
        list(open_table(source, downloads, **more).chunks(None))
    message = str(caught.value)
    assert "\n" not in message
    printed = "".join(traceback.format_exception(caught.value))
    assert [secret for secret in SECRETS if secret in printed] == []
    return message


# --- PostgreSQL

SERIES = "(select generate_series(1, 1000000000) as n) as series"  # row by row; as a table it would fill the disk


@pytest.fixture(scope="module")
def postgres(postgres: str) -> str:
    """Host and port of a server with a table of 250,000 rows."""
    create_shops_table(f"postgresql+psycopg://reader:{QUOTED}@{postgres}/postgres")
    return postgres


def create_shops_table(url: str) -> None:
    times = pd.date_range("2024-01-01", periods=250_000, freq="min", tz="UTC")
    shops = pd.DataFrame({"time": times, "shop": "007", "sales": np.arange(250_000) / 4})
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("create table shops (time timestamptz, shop text, sales numeric)")
        with connection.connection.cursor() as cursor, cursor.copy("copy shops from stdin (format csv)") as copy:
            copy.write(shops.to_csv(index=False, header=False))
    engine.dispose()


@pytest.fixture
def database(postgres: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    monkeypatch.setenv("DB", f"postgresql://reader:{QUOTED}@{postgres}/postgres")
    return {"sql": "select * from shops order by time", "uri": "env:DB"}


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_query_on_postgres_is_read_in_chunks(database, postgres, monkeypatch, tmp_path, scheme):
    monkeypatch.setenv("DB", f"{scheme}://reader:{QUOTED}@{postgres}/postgres")
    source = open_table(database, tmp_path)
    assert (source.name, source.columns()) == ("query on env:DB", ["time", "shop", "sales"])
    chunks = list(source.chunks(["time", "sales"], rows=70_000))
    assert [len(chunk) for chunk in chunks] == [70_000, 70_000, 70_000, 40_000]
    table = pd.concat(chunks, ignore_index=True)
    assert table["time"].iloc[-1] == pd.Timestamp("2024-01-01", tz="UTC") + pd.Timedelta(minutes=249_999)
    assert table["sales"].sum() == np.arange(250_000).sum() / 4


def test_the_rows_of_a_query_stay_on_the_server_until_fetched(database, tmp_path):
    endless = {
        **database,
        "sql": f"select n as time, 1 / (200000 - n) as sales from {SERIES}",
    }
    chunks = open_table(endless, tmp_path).chunks(None, rows=50_000)
    assert [len(next(chunks)) for _ in range(3)] == [50_000] * 3
    with pytest.raises(DataError, match=r"^query on env:DB: the query failed \(division by zero\)"):
        list(chunks)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_a_long_query_takes_a_bounded_amount_of_memory(database, tmp_path):
    script = f"""if True:
        from pathlib import Path
        from lstm.sources.source import open_source
        from lstm.config.data import DataSpec

        def peak():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

        query = {{"sql": "select n as time, n * 0.5 as sales from {SERIES} limit 1500000", "uri": "env:DB"}}
        source = open_source(DataSpec.parse(dict(source=query, time="time", target="sales")), Path({str(tmp_path)!r}))
        chunks = source.chunks(None, rows=20_000)
        rows, before = len(next(chunks)), peak()
        for chunk in chunks:
            rows += len(chunk)
        print(rows, peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rows, megabytes = done.stdout.split()
    assert int(rows) == 1_500_000
    assert float(megabytes) < 30  # as Python objects, the rows are over 200


def test_an_unfinished_query_is_closed(database, tmp_path):
    chunks = open_table({**database, "sql": f"select n as time, n as sales from {SERIES}"}, tmp_path).chunks(
        None, rows=10
    )
    assert next(chunks)["sales"].tolist() == list(range(1, 11))
    chunks.close()
    count = "select count(*) as n from pg_stat_activity where backend_type = 'client backend'"
    for _ in range(50):
        (chunk,) = open_table({**database, "sql": count}, tmp_path).chunks(None)
        if chunk["n"].tolist() == [1]:  # the one that counts
            return
        time.sleep(0.1)
    pytest.fail("the connection is still there")


def test_a_query_may_cast_and_use_patterns(database, tmp_path):
    statement = "select time, sales::float8 as sales from shops where shop like '%7' and time < '2024-01-01 00:10Z';"
    (chunk,) = open_table({**database, "sql": statement}, tmp_path).chunks(None)
    assert chunk["sales"].tolist() == [n / 4 for n in range(10)]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("postgresql://reader:{password}x@{server}/postgres", "password authentication failed for user"),
        ("postgresql://stranger:{password}@{server}/postgres", "password authentication failed for user"),
        ("postgresql://reader:{password}@{server}/nowhere", 'database "***" does not exist'),
        ("postgresql://reader:{password}@127.0.0.1:9/postgres", "onnection refused"),
        ("postgresql://reader:{password}@host.invalid/postgres", "the database can't be reached or refuses"),
        ("postgresql://reader:{password}@{server}:x/postgres", "the variable's value (not shown) is no database URL"),
        (
            "postgresql://reader:{password}@{server}/postgres?sslmode=strange",
            "the database can't be reached or refuses",
        ),
        ("postgresql+nodriver://reader:{password}@{server}/postgres", "SQLAlchemy knows no such database or driver"),
        ("postgresql://{server}/postgres?user=reader&password={password}x", "authentication failed for"),
    ],
)
def test_a_bad_postgres_url_is_reported_without_any_part_of_it(
    database, postgres, monkeypatch, tmp_path, caplog, address, expected
):
    monkeypatch.setenv("DB", address.format(password=QUOTED, server=postgres))
    message = error_message(database, tmp_path)
    assert message.startswith("query on env:DB: ") and expected in message
    for part in ("reader", "stranger", "127.0.0.1", postgres.split(":")[1], "host.invalid", "nowhere"):
        assert part not in message
    assert PASSWORD not in caplog.text and QUOTED not in caplog.text


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("select * from nowhere", 'the query failed (relation "nowhere" does not exist)'),
        ("selec 1", 'the query failed (syntax error at or near "selec")'),
        ("delete from shops", 'syntax error at or near "delete"'),
        ("select gone from shops", 'column "gone" does not exist'),
        ("select time, time from shops", "column 'time' is there twice"),
        ("select 1; drop table shops", "the query failed"),
    ],
)
def test_a_bad_query_on_postgres_is_refused_and_changes_nothing(database, tmp_path, statement, expected):
    assert expected in error_message({**database, "sql": statement}, tmp_path)
    assert open_table(database, tmp_path).columns() == ["time", "shop", "sales"]


# --- S3


@pytest.fixture(scope="module")
def s3_server() -> Iterator[str]:
    """Start an S3 server and return its URL."""
    for package in ("moto", "s3fs"):
        try:
            __import__(package)
        except ImportError:
            missing(package)
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_for(port, server)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(10)


def wait_for(port: int, server: "subprocess.Popen[bytes]") -> None:
    for _ in range(300):
        assert server.poll() is None, "moto's server has ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError("moto's server does not listen")


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """An empty bucket; where it is and who may read it stands in the environment alone."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "ENDPOINT_URL": s3_server,
        "ACCESS_KEY_ID": "reader",
        "SECRET_ACCESS_KEY": "secretkey73",
        "DEFAULT_REGION": "us-east-1",
        "EC2_METADATA_DISABLED": "true",
        "MAX_ATTEMPTS": "1",
        "CONFIG_FILE": str(tmp_path / "none"),
        "SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    system = s3()
    system.mkdir("shops")
    yield "s3://shops"
    system.rm("shops", recursive=True)


def s3():
    import s3fs

    return s3fs.S3FileSystem(skip_instance_cache=True)


def put(path: str, frame: pd.DataFrame) -> bytes:
    content = frame.to_parquet() if path.endswith("parquet") else frame.to_csv(index=False).encode()
    s3().pipe_file(path, content)
    return content


FRAME = pd.DataFrame({"time": [1, 2], "sales": [1.5, 2.5]})


def test_a_file_on_s3_is_read_with_credentials_of_the_environment(bucket, tmp_path):
    from hashlib import sha256

    for name in ("a.csv", "deep/a.parquet"):
        content = put(f"{bucket}/{name}", FRAME)
        source = open_table(f"{bucket}/{name}", tmp_path)
        assert (source.name, source.sha256) == (name.split("/")[-1], sha256(content).hexdigest())
        (chunk,) = source.chunks(None)
        pd.testing.assert_frame_equal(chunk, FRAME)


@pytest.mark.parametrize("place", ["data/part-*.parquet", "data", "data/", "data/**/*.parquet"])
def test_a_pattern_or_folder_on_s3_is_read_in_the_order_of_its_paths(bucket, tmp_path, place):
    for part in (3, 1, 2):
        put(f"{bucket}/data/part-{part}.parquet", FRAME.assign(sales=part))
    put(f"{bucket}/other.csv", FRAME)
    put(f"{bucket}/data-old/part-9.parquet", FRAME)
    source = open_table(f"{bucket}/{place}", tmp_path)
    assert pd.concat(source.chunks(None))["sales"].tolist() == [1, 1, 2, 2, 3, 3]


def test_several_files_on_s3_can_be_pinned_and_are_then_read_without_network(bucket, tmp_path, monkeypatch):
    for year in (2023, 2024):
        put(f"{bucket}/data/year={year}/a.parquet", FRAME)
    first = open_table(f"{bucket}/data", tmp_path)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    again = open_table(f"{bucket}/data", tmp_path, sha256=first.sha256)
    assert pd.concat(again.chunks(None))["year"].tolist() == [2023, 2023, 2024, 2024]
    monkeypatch.undo()


def test_other_content_on_s3_than_pinned_is_refused(bucket, tmp_path):
    put(f"{bucket}/a.csv", FRAME)
    assert "but data.sha256 says 000" in error_message(f"{bucket}/a.csv", tmp_path, sha256="0" * 64)


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("s3://shops/gone.csv", "gone.csv: there is no file at s3://shops/gone.csv (not found)."),
        ("s3://nobucket/a.csv", "a.csv: there is no file at s3://nobucket/a.csv"),
        ("s3://shops/gone-*.csv", "there is no .csv, .csv.gz or .parquet file at s3://shops/gone-*.csv"),
        ("s3://shops/a.json", "a.json: must end in .csv, .csv.gz or .parquet."),
        ("s3://shops/*.json", "a.json: must end in .csv, .csv.gz or .parquet."),
        ("s3://shops", "shops: there is no .csv, .csv.gz or .parquet file at s3://shops."),
    ],
)
def test_a_missing_file_on_s3_is_reported(bucket, tmp_path, place, expected):
    s3().pipe_file("shops/a.json", b"{}")
    assert expected in error_message(place, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_s3_without_network_or_credentials_is_reported(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for place in ("s3://shops/a.csv", "s3://shops/*.csv"):
        assert f"no network: {place} could not be reached" in error_message(place, tmp_path)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    message = error_message("s3://shops/a.csv", tmp_path)
    assert "s3://shops/a.csv may not be read (there are no credentials in the environment)" in message
    monkeypatch.undo()


def test_an_s3_url_in_the_environment_is_never_shown(bucket, tmp_path, monkeypatch, caplog):
    put(f"{bucket}/a.csv", FRAME)
    for address in (f"{bucket}/a.csv", f"{bucket}/*.csv"):
        monkeypatch.setenv("TABLE", address)
        assert open_table("env:TABLE", tmp_path).name == "env:TABLE"
    for address in ("s3://shops/secretkey73.csv", "s3://secretkey73/a.csv", "s3://wrongkey73:secretkey73@shops/b.csv"):
        monkeypatch.setenv("TABLE", address)
        assert error_message("env:TABLE", tmp_path).startswith("env:TABLE: ")
    assert "key73" not in caplog.text
