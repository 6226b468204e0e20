"""The scheduled forecasts of a trained champion: slots, what they know, and what happens where something breaks."""

import json
import logging
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlparse

import pandas as pd
import pytest

from flows.forecast import forecast
from lstm.errors import CheckpointError, ConfigError, DataError, LstmError
from lstm.load_config import load_config
from tasks.forecast_store.log import ForecastLog, open_log
from tasks.tracking import runs
from tests.support.tables import make_hourly
from tests.support.workspace import Place

pytestmark = pytest.mark.xdist_group("trained")  # one process trains for all of them

TEN = datetime(2024, 4, 8, 10)
COLUMNS = ["series", "time", "forecast", "lo-80", "hi-80", "lo-95", "hi-95", "issued_at", "model_version", "run"]


@dataclass(frozen=True)
class Shops:
    """A trained champion, and a source to forecast from."""

    place: Place
    source: Path

    @property
    def overrides(self) -> tuple[str, ...]:
        return (f"data.source={self.source}",)

    def forecast(self, hour: float, *overrides: str):
        """Run the flow for the slot `hour` hours after TEN."""
        (result,) = forecast.fn("shops.yaml", (*self.overrides, *overrides), at(hour))
        return result

    def log(self, *overrides: str) -> ForecastLog:
        return open_log(load_config("shops.yaml", overrides))

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Modification time and content of each file of the log."""
        folder = self.place.folder / "mlruns" / "forecasts" / "shops"
        return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in sorted(folder.iterdir())}

    @contextmanager
    def damaged(self, alias: str) -> Iterator[str]:
        """Truncate the weights of a version inside the block; yield the version."""
        client = runs.client()
        version = client.get_model_version_by_alias("shops", alias)
        folder = Path(unquote(urlparse(client.get_model_version_download_uri("shops", version.version)).path))
        (path,) = folder.rglob("model.safetensors")
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        try:
            yield f"shops/{version.version}"
        finally:
            path.write_bytes(whole)

    @contextmanager
    def previous(self) -> Iterator[str]:
        """Set the alias `previous` inside the block; yield its version."""
        client = runs.client()
        champion = client.get_model_version_by_alias("shops", "champion").version
        number = next(version for version in ("1", "2") if version != str(champion))
        client.set_registered_model_alias("shops", "previous", number)
        try:
            yield f"shops/{number}"
        finally:
            client.delete_registered_model_alias("shops", "previous")


def at(hour: float) -> datetime:
    return (pd.Timestamp(TEN) + pd.Timedelta(hour, "h")).to_pydatetime()


def stamp(hour: float) -> pd.Timestamp:
    return pd.Timestamp(at(hour), tz="UTC")


@pytest.fixture
def shops(trained, tmp_path, monkeypatch) -> Iterator[Shops]:
    place, _ = trained
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "LSTM_"))]:
        if name.endswith(("_URI", "_URL", "_HOME")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LSTM_HOME", str(place.folder / "mlruns"))
    monkeypatch.chdir(place.folder)
    runs.client.cache_clear()
    source = tmp_path / "shops.csv"
    make_hourly().to_csv(source, index=False)
    yield Shops(place, source)
    shutil.rmtree(place.folder / "mlruns" / "forecasts", ignore_errors=True)
    runs.client.cache_clear()


def test_a_slot_s_rows_say_what_they_are(shops):
    result = shops.forecast(0.3)
    rows = shops.log().read()
    assert result.slots == ("2024-04-08T10:00:00+00:00",)
    assert list(rows.columns) == COLUMNS
    assert rows.groupby("series")["time"].agg(["min", "max"]).drop_duplicates().values.tolist() == [
        [stamp(1), stamp(6)]
    ]
    assert rows["issued_at"].unique().tolist() == [stamp(0)]
    assert rows["model_version"].unique().tolist() == [result.version] and rows["run"].unique().tolist() == [""]
    assert (rows["lo-95"] < rows["lo-80"]).all() and (rows["lo-80"] < rows["forecast"]).all()


def test_a_slot_that_is_in_the_log_is_left_as_it_is(shops, caplog):
    shops.forecast(0)
    before = shops.files()
    make_hourly(seed=1).to_csv(shops.source, index=False)
    with caplog.at_level(logging.INFO):
        assert shops.forecast(0.9).slots == ()
    assert shops.files() == before
    assert "slot 2024-04-08T10:00:00+00:00 is in the log already" in caplog.text


def test_slots_that_were_missed_are_made_up_for(shops, caplog):
    shops.forecast(0)
    before = shops.files()
    result = shops.forecast(6, "forecast.backfill=3")
    assert result.slots == tuple(stamp(hour).isoformat() for hour in (3, 4, 5, 6))
    assert result.left_out == 2 and "2 missed slots are older than forecast.backfill (3) reaches" in caplog.text
    assert shops.log().slots() == [stamp(hour) for hour in (0, 3, 4, 5, 6)]
    assert before.items() <= shops.files().items()


def test_a_slot_that_is_made_up_for_is_what_it_would_have_been(shops):
    whole = make_hourly()
    for hour in (0, 1, 2):  # the source as it was then
        whole[whole["time"] <= stamp(hour).strftime("%Y-%m-%dT%H:%M:%SZ")].to_csv(shops.source, index=False)
        shops.forecast(hour)
    live = shops.files()
    for name in list(live)[1:]:
        (shops.place.folder / "mlruns" / "forecasts" / "shops" / name).unlink()
    later = whole.assign(sales=whole["sales"].where(whole["time"] <= "2024-04-08T12:00:00Z", -1000.0))
    later.to_csv(shops.source, index=False)
    assert len(shops.forecast(2).slots) == 2
    assert {name: rows for name, (_, rows) in shops.files().items()} == {name: rows for name, (_, rows) in live.items()}


KILLED = """if True:
    import os, sys
    from datetime import datetime
    from flows.forecast import forecast
    from tasks.forecast_store.log import FolderLog

    write, left = FolderLog.write, 2
    def dying(self, slot, frame):
        global left
        if not left:
            os._exit(9)
        left -= 1
        write(self, slot, frame)
    FolderLog.write = dying
    forecast.fn("shops.yaml", (sys.argv[1],), datetime.fromisoformat(sys.argv[2]))
"""


@pytest.mark.slow
def test_a_run_that_is_killed_between_two_slots_is_gone_on_from(shops):
    shops.forecast(0)
    shops.forecast(5)
    undisturbed = {name: rows for name, (_, rows) in shops.files().items()}
    for hour in range(1, 6):
        (shops.place.folder / "mlruns" / "forecasts" / "shops" / f"{stamp(hour):%Y%m%dT%H%M%SZ}.parquet").unlink()
    command = [sys.executable, "-c", KILLED, *shops.overrides, at(5).isoformat()]
    killed = subprocess.run(command, env=shops.place.environment, capture_output=True, text=True, timeout=120)
    assert killed.returncode == 9, killed.stderr
    before = shops.files()
    assert shops.log().slots() == [stamp(hour) for hour in (0, 1, 2)]
    assert shops.forecast(5).slots == tuple(stamp(hour).isoformat() for hour in (3, 4, 5))
    assert before.items() <= shops.files().items()
    assert {name: rows for name, (_, rows) in shops.files().items()} == undisturbed


def test_a_champion_that_can_not_be_loaded_gives_way_to_the_one_before_and_that_is_loud(shops, caplog):
    with shops.previous() as previous, shops.damaged("champion") as champion:
        result = shops.forecast(0)
    assert result.version == previous != champion
    assert champion in result.fallback
    assert shops.log().read()["model_version"].unique().tolist() == [previous]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"the champion can't be loaded, so {previous} forecasts instead" in record.getMessage()
    assert shops.forecast(1).fallback == ""  # mended


def test_where_neither_can_be_loaded_the_champion_s_trouble_is_told(shops):
    with shops.previous() as previous, shops.damaged("previous"), shops.damaged("champion") as champion:
        with pytest.raises(CheckpointError, match=champion) as caught:
            shops.forecast(0)
        assert previous not in str(caught.value)
    with shops.damaged("champion") as champion, pytest.raises(CheckpointError, match=champion):
        shops.forecast(0)
    assert shops.log().slots() == []


def test_without_a_champion_there_are_no_forecasts(shops):
    with pytest.raises(CheckpointError, match="there is no registered model 'other'"):
        shops.forecast(0, "name=other")
    client = runs.client()
    champion = client.get_model_version_by_alias("shops", "champion").version
    with shops.previous():
        client.delete_registered_model_alias("shops", "champion")
        try:
            with pytest.raises(CheckpointError, match="'shops' has no alias 'champion'"):
                shops.forecast(0)
        finally:
            client.set_registered_model_alias("shops", "champion", champion)
    assert shops.log().slots() == []


def test_a_table_of_a_database_holds_the_same_as_the_files(shops, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG_URI", f"sqlite:///{tmp_path}/log.db")
    sql = "forecast.log={format: sql, uri: 'env:LOG_URI'}"
    for overrides in ((), (sql,), (sql,)):
        shops.forecast(0, *overrides)
        shops.forecast(2, *overrides)
    assert len(shops.log(sql).slots()) == 3
    pd.testing.assert_frame_equal(shops.log(sql).read(), shops.log().read(), check_exact=True)


def test_a_log_that_can_not_be_reached_is_told_before_anything_is_read(shops, monkeypatch):
    monkeypatch.delenv("LOG_URI", raising=False)
    shops.source.unlink()
    with pytest.raises(DataError, match="env:LOG_URI: the variable is not set"):
        shops.forecast(0, "forecast.log={format: sql, uri: 'env:LOG_URI'}")


def test_a_slot_ahead_of_the_clock_is_refused(shops):
    with pytest.raises(ConfigError, match="slot 2124-01-01T00:00:00.*: lies ahead of the clock"):
        forecast.fn("shops.yaml", shops.overrides, datetime(2124, 1, 1))
    assert shops.log().slots() == []


def test_data_that_end_long_before_the_slot_are_forecast_from_their_end_with_a_warning(shops, caplog):
    make_hourly()[lambda rows: rows["time"] <= "2024-04-08T20:00:00Z"].to_csv(shops.source, index=False)
    assert shops.forecast(12).slots and not caplog.records  # 4 of 6 steps lie ahead
    shops.forecast(14)
    assert "half of the forecast or more lies before slot 2024-04-09T00:00:00+00:00" in caplog.text
    assert shops.log().read(stamp(14))["time"].min() == stamp(11)


def test_series_that_the_champion_does_not_know_are_named_and_cost_the_others_nothing(shops, caplog):
    make_hourly(shops=("north", "south", "west")).to_csv(shops.source, index=False)
    shops.forecast(0)
    assert shops.log().read()["series"].unique().tolist() == ["north", "south"]
    assert "1 series have no forecast ('west': it was not there in training)" in caplog.text


def test_series_of_the_training_that_the_source_has_no_more_are_named(shops, caplog):
    make_hourly(shops=("north",)).to_csv(shops.source, index=False)
    shops.forecast(0)
    assert shops.log().read()["series"].unique().tolist() == ["north"]
    assert "1 series that it knows are no more in the source ('south')" in caplog.text


def test_a_target_that_waits_for_its_training_is_not_written_into_the_log(shops, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG_URI", f"sqlite:///{tmp_path}/log.db")
    sql = "forecast.log={format: sql, uri: 'env:LOG_URI'}"
    shops.forecast(0, sql, "data.target=visitors", "data.observed=[]")
    with closing(sqlite3.connect(tmp_path / "log.db")) as connection:
        assert connection.execute("select distinct target from lstm_forecasts").fetchall() == [("sales",)]


def test_a_missed_slot_that_can_not_be_made_does_not_stop_the_newer_ones(shops, caplog):
    shops.forecast(0)
    recent = make_hourly()[lambda rows: rows["time"] > "2024-04-07T13:00:00Z"]  # of the source the last days are left
    recent.to_csv(shops.source, index=False)
    result = shops.forecast(5)
    assert result.failed == tuple(stamp(hour).isoformat() for hour in (1, 2))  # 24 rows of history from 13:00 on
    assert shops.log().slots() == [stamp(hour) for hour in (0, 3, 4, 5)]
    assert "missed slot 2024-04-08T11:00:00+00:00 can't be made up for" in caplog.text


def test_one_model_that_fails_stops_no_other_and_is_named(shops, monkeypatch):
    def two(settings):
        return (settings.model_copy(update={"name": "shops.gone"}), settings)

    monkeypatch.setattr("flows.forecast.partition_configs", two)
    with pytest.raises(LstmError, match=r"1 of 2 models have no forecasts: shops.gone: .*no registered model"):
        shops.forecast(0)
    assert shops.log().slots() == [stamp(0)]


SCHEDULED = """if True:
    import asyncio, json, os, sys
    from datetime import datetime, timezone
    from tasks.settings import set_default_environment
    set_default_environment()
    from flows.services.prefect_server import prefect_server, wait_until_ready

    async def report_of(run):
        from prefect import get_client
        from prefect.client.schemas.filters import LogFilter
        async with get_client() as client:
            for _ in range(60):
                logs = await client.read_logs(LogFilter(flow_run_id={"any_": [run]}))
                events = (await client._client.post("/events/filter", json={
                    "filter": {"event": {"name": ["lstm.forecast.fallback"]}}})).json()["events"]
                if events and any(log.level >= 40 for log in logs):
                    break
                await asyncio.sleep(0.5)
            flow_run = await client.read_flow_run(run)
            errors = [log.message for log in logs if log.level >= 40]
            return dict(tags=flow_run.tags, state=flow_run.state.name, errors=errors,
                        events=[dict(resource=event["resource"], payload=event["payload"]) for event in events])

    def run(slot):
        state = module.forecast(
            "shops.yaml", tuple(json.loads(sys.argv[1])), datetime.fromisoformat(slot), return_state=True)
        return state, str(state.state_details.flow_run_id)

    with prefect_server():
        from flows import forecast as module
        wait_until_ready()
        _, first = run(sys.argv[2])
        report = asyncio.run(report_of(first))
        module.partition_configs = lambda settings: (settings.model_copy(update={"name": "shops.gone"}), settings)
        state, second = run(sys.argv[3])
        print(json.dumps({**report, "runs": [first, second], "second": [state.name, state.message]}))
"""


@pytest.mark.service
def test_a_flow_run_tells_a_fallback_by_log_tag_and_event_and_fails_by_the_name_of_the_model_that_failed(shops):
    slots = [at(0).isoformat(), at(1).isoformat()]
    with shops.previous() as previous, shops.damaged("champion"):
        done = subprocess.run(
            [sys.executable, "-c", SCHEDULED, json.dumps(shops.overrides), *slots],
            env=shops.place.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["state"] == "Completed" and report["tags"] == ["fallback"]
    assert f"so {previous} forecasts instead" in report["errors"][0]
    (event,) = report["events"]
    assert event["resource"]["prefect.resource.id"] == "lstm.model.shops"
    assert (event["payload"]["version"], event["payload"]["config"]) == (previous, "shops.yaml")
    state, message = report["second"]
    assert state == "Failed" and "1 of 2 models have no forecasts: shops.gone" in message
    rows = shops.log().read()
    assert rows.groupby("issued_at")["run"].unique().map(list).tolist() == [[run] for run in report["runs"]]
