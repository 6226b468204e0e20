"""Monitoring of a trained champion: forecasts by slots, actuals that come, a break, and a training that follows."""

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from flows.forecast import forecast
from flows.monitor import monitor
from flows.services.processes import start
from lstm.errors import CheckpointError, DataError
from lstm.load_config import load_config
from tasks.forecast_store.log import open_log
from tasks.monitoring.mlflow_log import log_monitoring
from tasks.monitoring.result import MonitorResult
from tasks.runtime.network import free_port
from tasks.tracking import runs
from tests.support.paths import ROOT
from tests.support.servers import add_scripts_to_path, request, run_server
from tests.support.stores import copy_stores
from tests.support.tables import make_hourly
from tests.support.workspace import Place

slow, service = pytest.mark.slow, pytest.mark.service

FIRST = pd.Timestamp("2024-04-10", tz="UTC")  # the champion's data end an hour before
BREAK = FIRST + pd.Timedelta(9, "D")
EVERY = "forecast.every=6h"


def day(number: float) -> pd.Timestamp:
    return FIRST + pd.Timedelta(number, "D")


@dataclass(frozen=True)
class Watched:
    """A champion with 14 days of logged forecasts; from the tenth day on, sales are 1.5 times as high."""

    place: Place
    source: Path

    @property
    def overrides(self) -> tuple[str, ...]:
        return (f"data.source={self.source}", EVERY)

    @property
    def config(self):
        return load_config("shops.yaml", self.overrides)

    def judged(self, number: float, *overrides: str) -> MonitorResult:
        (result,) = monitor.fn("shops.yaml", (*self.overrides, *overrides), day(number).to_pydatetime())
        return result

    def joined(self, number: float) -> pd.DataFrame:
        """Merge the forecasts issued so far with the true values known by then."""
        rows = open_log(self.config).read(None, day(number) + pd.Timedelta(1, "us"))
        came = pd.read_csv(self.source, parse_dates=["time"]).rename(columns={"shop": "series"})
        return rows.merge(came[came["time"] <= day(number)], on=["series", "time"])


def broken() -> pd.DataFrame:
    rows = make_hourly(60)
    rows.loc[rows["time"] >= BREAK.strftime("%Y-%m-%dT%H:%M:%SZ"), "sales"] *= 1.5
    return rows


@pytest.fixture(scope="module")
def watched(trained, tmp_path_factory) -> Iterator[Watched]:
    place, _ = trained
    source = tmp_path_factory.mktemp("watched") / "shops.csv"
    broken().to_csv(source, index=False)
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "LSTM_"))]:
            if name.endswith(("_URI", "_URL", "_HOME")):
                patch.delenv(name)
        patch.setenv("LSTM_HOME", str(place.folder / "mlruns"))
        patch.chdir(place.folder)
        runs.client.cache_clear()
        champion = Watched(place, source)
        for number in range(14):
            forecast.fn("shops.yaml", champion.overrides, day(number).to_pydatetime())
        yield champion
        shutil.rmtree(place.folder / "mlruns" / "forecasts", ignore_errors=True)
        runs.client.cache_clear()


def monitor_runs() -> list:
    experiment = runs.experiment_id("shops")
    return list(runs.client().search_runs([experiment], "tags.kind = 'monitor'"))


def history(run_id: str, metric: str) -> list[tuple[int, float]]:
    return [(point.step, point.value) for point in runs.client().get_metric_history(run_id, metric)]


@slow
def test_figures_are_those_of_a_plain_merge(watched):
    result, both = watched.judged(8), watched.joined(8)
    error = both["forecast"] - both["sales"]
    assert result.forecasts - result.waiting == len(both)
    assert result.live["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert result.live["coverage_80"] == pytest.approx(both["sales"].between(both["lo-80"], both["hi-80"]).mean())
    assert sum(row["windows"] for row in result.by_age) == both.groupby(["series", "issued_at"]).ngroups


@slow
def test_what_was_promised_is_what_the_registry_says(watched):
    result = watched.judged(8)
    champion = runs.client().get_model_version_by_alias("shops", "champion")
    metrics = runs.client().get_run(champion.run_id).data.metrics
    assert result.version == f"shops/{champion.version}"
    assert result.promised == {
        name: metrics[f"test_{name}"] for name in ("rmse", "mae", "mase", "rmse_skill", "coverage_80", "coverage_95")
    }
    assert result.age_days == 8


@slow
def test_quiet_days_are_no_drift_and_a_break_is_found_within_two_days(watched):
    assert [number for number in range(1, 10) if watched.judged(number).drifted] == []
    first = next(number for number in range(10, 14) if watched.judged(number).drifted)
    assert first <= 11
    assert watched.judged(first).reason.startswith(
        f"drift: the latest error of {watched.judged(8).version}, on the rise"
    )


@slow
def test_nothing_after_the_moment_is_looked_at(watched):
    then = watched.judged(8)
    rows = pd.read_csv(watched.source)
    later = rows["time"] > day(8).strftime("%Y-%m-%dT%H:%M:%SZ")
    whole = watched.source.read_bytes()
    rows[~later].to_csv(watched.source, index=False)
    try:
        assert watched.judged(8) == then
    finally:
        watched.source.write_bytes(whole)


@slow
def test_the_history_is_one_run_a_version_with_a_point_a_day(watched):
    config, results = watched.config, [replace(watched.judged(number), version="shops/77") for number in (6, 7)]
    for result in (*results, *results):  # the second time nothing is added
        log_monitoring(config, result, alarm=True)
    (run,) = [run for run in monitor_runs() if run.data.tags["model_version"] == "shops/77"]
    assert run.info.run_name == "monitor-shops-v77" and run.info.status == "FINISHED"
    points = history(run.info.run_id, "live_rmse")
    assert points == [(6, results[0].live["rmse"]), (7, results[1].live["rmse"])]
    named = {"promised_rmse", "live_mase", "live_rmse_skill", "live_coverage_80", "cusum", "psi_sales", "ks_visitors"}
    assert named <= set(run.data.metrics)
    assert {file.path for file in runs.client().list_artifacts(run.info.run_id)} == {"monitor.json", "monitor.png"}
    (point,) = [metric for metric in runs.client().get_metric_history(run.info.run_id, "live_rmse") if metric.step == 7]
    assert pd.Timestamp(point.timestamp, unit="ms", tz="UTC") == day(7)


@slow
def test_drift_is_told_once_within_the_cool_down_and_a_new_champion_has_one_of_its_own(watched):
    config, moments = watched.config, (0, 3, 6.9, 7, 8)
    drift = replace(watched.judged(12), version="shops/78")
    results = [replace(drift, moment=day(12 + number).isoformat(), age_days=12 + int(number)) for number in moments]
    assert [log_monitoring(config, result, alarm=True).alarmed for result in results] == [
        True,
        False,
        False,
        True,
        False,
    ]
    assert log_monitoring(config, replace(results[1], version="shops/79"), alarm=True).alarmed
    calm = replace(drift, version="shops/80", drifted=False)
    assert not log_monitoring(config, calm, alarm=True).alarmed


@slow
def test_by_hand_there_is_no_alarm_and_no_cool_down(watched):
    result = replace(watched.judged(12), version="shops/81")
    assert result.drifted and not log_monitoring(watched.config, result, alarm=False).alarmed
    assert log_monitoring(watched.config, result, alarm=True).alarmed


@slow
def test_before_anything_came_there_is_nothing_to_judge(watched):
    result = watched.judged(0)
    assert result.live == {} and result.errors is None and not result.drifted
    assert result.reason.startswith(f"nothing to judge yet: {result.waiting} forecasts of {result.version} wait")


@slow
def test_forecasts_by_other_versions_are_counted_and_not_judged(watched):
    log, (slot, *_) = open_log(watched.config), open_log(watched.config).slots()
    rows = log.read(slot, slot + pd.Timedelta(1, "us"))
    before = watched.judged(8)
    log.write(slot, rows.assign(model_version="shops/70"))
    try:
        result = watched.judged(8)
        assert result.others == len(rows)
        assert result.forecasts == before.forecasts - len(rows)
    finally:
        log.write(slot, rows)


@slow
def test_no_forecast_in_the_window_says_which_was_the_newest(watched):
    with pytest.raises(DataError, match="no forecast since .* the newest slot is 2024-04-23T00:00:00"):
        watched.judged(60)


@slow
def test_without_a_log_or_a_champion_the_command_ends_with_two(watched):
    place = watched.place
    unknown = place.run("monitor", "shops.yaml", "--set", "name=nobody", check=False)
    assert unknown.returncode == 2 and "no registered model 'nobody'" in unknown.stderr
    empty = "forecast.log.format=csv"  # nothing was ever written as such
    silent = place.run("monitor", "shops.yaml", "--set", empty, check=False)
    assert silent.returncode == 2 and "the log holds no forecast yet" in silent.stderr
    assert len(silent.stderr.splitlines()) == 1
    with pytest.raises(CheckpointError):
        monitor.fn("shops.yaml", ("name=nobody",))


@slow
def test_the_command_prints_a_table_for_people_and_json(watched, capsys):
    from flows.cli.output import as_json
    from flows.cli.output_runs import show_monitoring

    result = watched.judged(12)
    show_monitoring((result,))
    printed = capsys.readouterr().out
    assert "promised by the backtest" in printed and "drift: the latest error" in printed and "visitors" in printed
    assert json.loads(as_json(result.to_dict()))["errors"]["ratio"] == pytest.approx(result.errors.ratio)


@service
def test_the_monitor_s_event_starts_a_training_whose_run_says_why(watched, tmp_path):
    place = Place(tmp_path / "place")  # with stores of its own: a version is registered
    copy_stores(watched.place.folder, place.folder, "prefect")
    port, health = free_port(), free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = add_scripts_to_path({**place.environment, "PREFECT_API_URL": api, "PWD": str(ROOT)})
    environment |= {"PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_WORKER_WEBSERVER_PORT": str(health)}
    overrides = [*watched.overrides, "search.trials=1", "model.epochs=1", "register.gate.beats=persistence"]
    config = str(place.folder / "shops.yaml")
    watch = f"from flows.monitor import monitor; monitor({config!r}, {tuple(overrides)!r}, {day(12).isoformat()!r})"

    def prefect(*words: str) -> list[str]:
        return [sys.executable, "-m", "prefect", "--no-prompt", *words]

    def done(command: list[str], log: str) -> None:
        assert start(command, tmp_path / log, environment, folder=ROOT).wait(240) == 0, (tmp_path / log).read_text()

    with ExitStack() as servers:
        server = prefect("server", "start", "--host", "127.0.0.1", "--port", str(port))
        servers.enter_context(run_server(server, f"{api}/health", tmp_path / "server.log", environment, ROOT))
        done(prefect("work-pool", "create", "lstm", "--type", "process"), "pool.log")
        done(prefect("deploy", "--name", "train"), "deploy.log")
        worker, url = (
            prefect("worker", "start", "--pool", "lstm", "--with-healthcheck"),
            f"http://127.0.0.1:{health}/health",
        )
        servers.enter_context(run_server(worker, url, tmp_path / "worker.log", environment, ROOT))
        done([sys.executable, "-c", watch], "monitor.log")
        run = _wait_for_run(api, "train", config)
    assert run["state_type"] == "COMPLETED", (tmp_path / "worker.log").read_text()
    assert run["parameters"]["overrides"] == overrides
    client = MlflowClient(f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("shops").experiment_id
    trainings = client.search_runs([experiment], "tags.kind = 'train'")
    (reason,) = [training.data.tags["reason"] for training in trainings if "reason" in training.data.tags]
    assert reason == watched.judged(12).reason
    assert reason.startswith("drift: the latest error of shops/")


def _wait_for_run(api: str, name: str, config: str) -> dict:
    """Wait for the run that an automation has started to end; return it."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        _, flow_runs = request(f"{api}/flow_runs/filter", {"flows": {"name": {"any_": [name]}}})
        ended = [flow_run for flow_run in flow_runs if flow_run["state_type"] in ("COMPLETED", "FAILED", "CRASHED")]
        matching = [flow_run for flow_run in ended if flow_run["parameters"].get("config") == config]
        if matching:
            return matching[0]
        time.sleep(1)
    raise AssertionError(f"no run of {name} has ended")
