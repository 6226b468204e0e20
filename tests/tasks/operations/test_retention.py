"""Retention in a real store: runs, versions, forecasts, prepared data, scratch and logs."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import ViewType

from lstm.config.pipeline import PipelineConfig
from lstm.errors import CheckpointError, StoreError
from tasks.forecast_store.log import open_log
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.operations import retention
from tasks.operations.disk_cleanup import _delete_unused
from tasks.operations.retention import Removed, clean
from tasks.registry.checksum import CHECKSUM_TAG, checksum
from tasks.registry.models import load_forecaster
from tasks.registry.promotion import promote
from tasks.registry.versions import alias_version, create_version, set_alias, tag_version
from tasks.runtime import log_rotation
from tasks.settings import store_folder
from tasks.tracking import runs
from tasks.window import window
from tests.support.paths import ROOT
from tests.support.tables import DATA, make_hourly

DAY = 86_400


def config(**keys):
    return PipelineConfig.parse({"name": "shops", "data": DATA, "window": {"horizon": 6}, "retention": keys})


class Store:
    """Training runs as the flow leaves them: a parent with a trial, a baseline and a version."""

    def __init__(self, saved):
        self.saved, self.seal, self.client = saved, checksum(saved), runs.client()
        self.experiment = runs.experiment_id("shops")

    def run(self, kind="train", status="FINISHED", versions=1):
        parent = self.client.create_run(self.experiment, tags={"kind": kind, "owner": "host:1:1"}).info.run_id
        self.client.log_text(parent, "x" * 10_000, "report.html")
        below = {"mlflow.parentRunId": parent}
        for kind_of_child in ("trial", "baseline"):
            child = self.client.create_run(self.experiment, tags={"kind": kind_of_child, **below}).info.run_id
            self.client.log_metric(child, "val_rmse", 1.0)
            self.client.log_text(child, "y" * 1000, "curve.txt")
            self.client.set_terminated(child)
        for _ in range(versions):
            self.register(child)
        if status != "RUNNING":
            self.client.set_terminated(parent, status)
        return parent

    def register(self, run):
        model_id = self.client.create_logged_model(self.experiment, "model", run, {CHECKSUM_TAG: self.seal}).model_id
        self.client.log_model_artifacts(model_id, str(self.saved))
        self.client.finalize_logged_model(model_id, "READY")
        return create_version("shops", run, model_id, {"kind": "best-single", "gate": "challenger"})

    def parents(self):
        """Return the ids of parent runs, oldest first."""
        all_runs = self.client.search_runs([self.experiment], run_view_type=ViewType.ALL)
        parents = [run for run in all_runs if "mlflow.parentRunId" not in run.data.tags]
        return [run.info.run_id for run in reversed(parents)]

    def versions(self):
        return sorted(int(version.version) for version in self.client.search_model_versions("name = 'shops'"))

    def rows(self):
        """Count the rows of the tables that grow with runs."""
        import sqlite3

        with sqlite3.connect(store_folder(".") / "mlflow.db") as connection:
            counts = {
                name: connection.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]
                for name in ("runs", "metrics", "latest_metrics", "tags", "params", "logged_models")
            }
        connection.close()
        return counts


@pytest.fixture
def shops(store, saved):
    return Store(saved)


def files_below(place):
    return [path for path in place.rglob("*") if path.is_file()]


def test_old_runs_are_deleted_with_files_models_versions_and_rows(shops):
    mlflow_runs = [shops.run() for _ in range(2)]
    bounded, size = shops.rows(), len(files_below(store_folder("artifacts")))
    mlflow_runs += [shops.run() for _ in range(3)]
    removed = clean(config(runs=2))
    assert shops.parents() == mlflow_runs[-2:]
    assert shops.versions() == [4, 5]
    assert (removed.runs, removed.versions, removed.marked) == (3, 3, False)
    assert removed.bytes > 3 * 10_000
    assert shops.rows() == bounded
    assert len(files_below(store_folder("artifacts"))) == size
    assert not [path for path in store_folder("artifacts").rglob("*") if path.is_dir() and not files_below(path)]


def test_a_second_clean_up_removes_nothing(shops):
    for _ in range(3):
        shops.run()
    clean(config(runs=1))
    assert clean(config(runs=1)) == Removed()


@pytest.mark.slow
def test_current_previous_and_former_champions_still_load(shops):
    for _ in range(6):
        shops.run()
    set_alias("shops", "champion", 1)
    promote("shops", "4", force=True)
    tag_version("shops", 3, {"gate": "champion"})
    set_alias("shops", "previous", 1)
    set_alias("shops", "champion", 2)
    removed = clean(config(runs=1))
    assert shops.versions() == [1, 2, 3, 4, 6]
    assert removed.runs == 1
    assert all(load_forecaster(f"shops/{number}")[0].name for number in (1, 2, 3, 4, 6))
    assert load_forecaster("shops@champion")[1] == "shops/2"
    with pytest.raises(CheckpointError, match="no version '5'"):
        load_forecaster("shops/5")


def test_a_run_with_a_champion_keeps_all_its_versions(shops):
    run = shops.run(versions=2)
    shops.run()
    set_alias("shops", "champion", 1)
    assert clean(config(runs=1)) == Removed()
    assert shops.parents()[0] == run
    assert load_forecaster("shops/2")[0].name


def test_a_version_that_was_copied_to_another_model_is_kept(shops):
    shops.run()
    shops.run()
    shops.client.copy_model_version("models:/shops/1", "production")
    assert clean(config(runs=1)).runs == 0
    assert load_forecaster("production/1")[0].name


def test_an_old_running_run_is_kept(shops):
    running = shops.run(status="RUNNING")
    for _ in range(3):
        shops.run()
    assert clean(config(runs=1)).runs == 2
    assert shops.parents()[0] == running
    assert shops.client.get_run(running).info.status == "RUNNING"
    assert [artifact.path for artifact in shops.client.list_artifacts(running)] == ["report.html"]


def test_kinds_are_counted_separately_and_foreign_runs_are_kept(shops):
    backtest = shops.run(kind="backtest", versions=0)
    foreign = shops.client.create_run(shops.experiment, run_name="somebody's own").info.run_id
    for _ in range(2):
        shops.run()
    clean(config(runs=1))
    assert len(shops.parents()) == 3
    assert {backtest, foreign} < set(shops.parents())


def test_runs_of_other_models_are_kept(shops):
    for _ in range(2):
        shops.run()
    other = config(runs=1).model_copy(update={"name": "stores"})
    assert clean(other) == Removed()
    assert len(shops.parents()) == 2


def test_numbers_of_removed_versions_are_not_reused(shops):
    shops.run()
    shops.run()
    clean(config(runs=1))
    shops.run()
    assert shops.versions() == [2, 3]


class KilledError(BaseException):
    """A simulated kill between two deletions."""


@pytest.mark.slow
def test_an_interrupted_clean_up_is_finished_by_the_next_one(store, saved, monkeypatch):
    shops = Store(saved)
    database = shops.client._tracking_client.store
    steps = {
        "runs": (database, "_hard_delete_run"),
        "models": (database, "_hard_delete_logged_model"),
        "files": (retention, "_delete_artifacts"),
        "versions": (retention, "_delete_versions"),
    }
    kills = 0
    for place, name in steps.values():
        for moment in (0, 1, 2):
            while len(shops.parents()) < 4:
                shops.run()
            kept, calls, real = shops.parents()[-2:], [], getattr(place, name)

            def killed(*arguments, real=real, calls=calls, moment=moment):
                calls.append(arguments)
                if len(calls) > moment:
                    raise KilledError
                return real(*arguments)

            with monkeypatch.context() as patched:
                patched.setattr(place, name, killed)
                with pytest.raises(KilledError):
                    clean(config(runs=1 if moment == 2 else 2))
            kills += 1
            clean(config(runs=2 if moment < 2 else 1))
            assert shops.parents() == kept[-2 if moment < 2 else -1 :]
            assert all(load_forecaster(f"shops/{number}")[0].name for number in shops.versions())
    assert kills == 12
    clean(config(runs=1))
    assert shops.rows()["runs"] == 3 and shops.rows()["logged_models"] == len(shops.versions()) == 1


def test_a_second_clean_up_does_nothing_while_the_first_runs(shops):
    shops.run()
    shops.run()
    with FileLock(store_folder(".") / ".retention.lock"):
        assert clean(config(runs=1)) == Removed()
    assert clean(config(runs=1)).runs == 1


def test_behind_a_server_runs_are_only_marked_as_deleted(shops, monkeypatch):
    monkeypatch.setattr(retention, "_has_direct_store", lambda: False)
    first, second = shops.run(), shops.run()
    removed = clean(config(runs=1))
    assert (removed.runs, removed.marked) == (1, True)
    assert shops.client.get_run(first).info.lifecycle_stage == "deleted"
    assert shops.client.get_run(second).info.lifecycle_stage == "active"
    assert len(shops.client.search_logged_models([shops.experiment])) == 1
    assert clean(config(runs=1)) == Removed()


def test_a_store_that_does_not_answer_is_a_one_line_error(shops, monkeypatch):
    from mlflow.exceptions import MlflowException

    def broken(*_, **__):
        raise MlflowException("database is locked\nand more")

    monkeypatch.setattr(MlflowClient, "search_runs", broken)
    with pytest.raises(StoreError, match=r"^shops: old runs can't be removed \(database is locked\)"):
        clean(config())


def test_without_any_store_there_is_nothing_to_remove(home):
    assert clean(config()) == Removed()
    assert not (home / "mlflow.db").exists()


def aged(path, days):
    """Set the times of a path and all below it to `days` ago."""
    for file in (path, *path.rglob("*")):
        os.utime(file, (time.time() - days * DAY,) * 2)
    return path


def prepared(place, **changes):
    make_hourly().to_csv(place / "shops.csv", index=False)
    settings = PipelineConfig.parse(
        {"name": "shops", "data": {**DATA, "source": str(place / "shops.csv")}, "window": {"horizon": 6}, **changes}
    )
    table = ingest.fn(settings)
    panel = normalize.fn(settings.with_frequency(table.frequency), table)
    return table.path, panel.folder, window.fn(settings, panel).folder


def test_unused_prepared_data_are_deleted_and_created_again(home, tmp_path):
    paths = prepared(tmp_path)
    for path in paths:
        aged(path, 31)
    [source] = store_folder("work").glob("source-*")
    aged(source, 31)
    removed = clean(config(work="30d"))
    assert removed.files == 4 and removed.bytes > 0
    assert not list(store_folder("work").iterdir())
    assert prepared(tmp_path) == paths
    assert all(path.exists() for path in paths)


def test_use_keeps_prepared_data(home, tmp_path):
    paths = prepared(tmp_path)
    for path in paths:
        aged(path, 31)
    assert prepared(tmp_path) == paths
    assert clean(config(work="30d")).files == 0
    assert all(path.exists() for path in paths)


def test_data_used_within_a_day_or_since_the_oldest_running_run_are_kept(shops, tmp_path):
    paths = [aged(path, days) for path, days in zip(prepared(tmp_path), (0.9, 3, 9), strict=True)]
    began = int((time.time() - 5 * DAY) * 1000)
    running = shops.client.create_run(shops.experiment, start_time=began).info.run_id
    clean(config(work="1h"))
    assert [path.exists() for path in paths] == [True, True, False]
    shops.client.set_terminated(running)
    clean(config(work="1h"))
    assert [path.exists() for path in paths] == [True, False, False]


def test_prepared_data_used_during_deletion_are_put_back(home, tmp_path, monkeypatch):
    _, panel, _ = prepared(tmp_path)
    aged(panel, 31)
    rename = Path.rename

    def used_before(path, target):
        os.utime(path)
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", used_before)
    assert _delete_unused(panel, time.time() - 30 * DAY).count == 0
    assert (panel / "panel.json").exists()


def test_partial_files_are_deleted_after_a_day(home):
    kept = store_folder("forecasts/shops")
    work, downloads = store_folder("work"), store_folder("downloads")
    old = [work / ".removed-panel-d", downloads / ".partial-e", kept / ".20260101T000000Z.7"]
    young = [downloads / ".partial-f", kept / "20260101T000000Z.parquet"]
    for path in (*old, *young):
        (path / "deep").mkdir(parents=True)
        (path / "deep" / "file").write_text("x" * 100)
        aged(path, 2)
    os.utime(young[0] / "deep" / "file")
    removed = clean(config())
    assert (removed.files, removed.bytes) == (3, 300)
    assert all(path.exists() for path in young)


def test_unused_downloads_are_deleted(home):
    kept, gone = store_folder("downloads") / ("a" * 64), store_folder("downloads") / ("b" * 64)
    for path, days in ((kept, 29), (gone, 31)):
        path.mkdir()
        (path / "table.csv").write_text("time\n")
        aged(path, days)
    assert clean(config()).files == 1
    assert kept.exists() and not gone.exists()


@pytest.mark.parametrize("name", ["downloads/thesis.pdf", "work/table-of-contents.docx", "work/windows-licence.txt"])
def test_foreign_files_are_kept(home, name):
    foreign = home / name
    foreign.parent.mkdir(parents=True, exist_ok=True)
    foreign.write_text("mine")
    aged(foreign, 1000)
    assert clean(config()).files == 0
    assert foreign.read_text() == "mine"


def test_a_long_log_is_rotated_while_it_is_written(home, monkeypatch):
    monkeypatch.setattr(log_rotation, "MAX_LOG_BYTES", 1000)
    log = store_folder("logs") / "worker.log"
    with log.open("ab", buffering=0) as writer:
        for _ in range(3):
            writer.write(b"x" * 1001)
            clean(config())
            writer.write(b"goes on\n")
            assert log.read_bytes() == b"goes on\n"
            log.write_bytes(b"")
    assert (store_folder("logs") / "worker.old.log").stat().st_size == 1001
    assert len(list(store_folder("logs").iterdir())) == 2


@pytest.mark.slow
def test_a_killed_clean_up_is_finished_by_the_next_one(shops):
    for _ in range(6):
        shops.run()
    set_alias("shops", "champion", 1)
    killed = (
        "import os, signal\n"
        "from lstm.config.pipeline import PipelineConfig\n"
        "from tasks.operations import retention\n"
        "from tests.support.tables import DATA\n"
        "real, seen = retention._delete_artifacts, []\n"
        "def one(uri):\n"
        "    seen.append(uri)\n"
        "    return real(uri) if len(seen) < 5 else os.kill(os.getpid(), signal.SIGKILL)\n"
        "retention._delete_artifacts = one\n"
        "sections = {'name': 'shops', 'data': DATA, 'window': {'horizon': 6}, 'retention': {'runs': 1}}\n"
        "retention.clean(PipelineConfig.parse(sections))\n"
    )
    done = subprocess.run([sys.executable, "-c", killed], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == -signal.SIGKILL
    assert len(shops.parents()) < 6
    assert alias_version("shops", "champion") == 1 and load_forecaster("shops@champion")[0].name
    assert clean(config(runs=1)).runs > 0
    assert len(shops.parents()) == 2 and shops.versions() == [1, 6]


def test_what_was_removed_is_json_ready():
    values = json.loads(json.dumps(Removed(1, 2, 3, 4, 5, True).to_dict()))
    assert values == {"runs": 1, "versions": 2, "forecasts": 3, "files": 4, "bytes": 5, "marked": True}


def test_old_forecasts_are_deleted_by_the_given_time(home):
    log = open_log(config())
    slots = [pd.Timestamp("2026-01-01", tz="UTC") + pd.Timedelta(days=days) for days in range(4)]
    for slot in slots:
        log.write(slot, pd.DataFrame({"series": ["north"], "time": [slot], "forecast": [1.0]}))
    assert clean(config(forecasts="2d"), now=slots[-1] + pd.Timedelta(hours=1)).forecasts == 2
    assert log.slots() == slots[2:]
