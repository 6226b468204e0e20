"""A registered version, trained again through the command: the same bits, and a changed data set by its name."""

import json
from pathlib import Path

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.support.stores import copy_stores
from tests.support.workspace import Place

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def copied(trained, tmp_path_factory) -> Place:
    """A copy of the trained workspace whose data may be changed; the artifacts stay where they were logged."""
    place, _ = trained
    copy = Place(tmp_path_factory.mktemp("copied"))
    copy_stores(place.folder, copy.folder)
    return copy


def client_of(place: Place) -> MlflowClient:
    return MlflowClient(f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}")


@pytest.mark.parametrize("model", ["shops@best-single", "shops@best-ensemble"])
def test_a_version_is_reproduced_to_the_bit(trained, copied, model):
    _, outcome = trained
    report = json.loads(copied.run("reproduce", model, "--json").stdout)
    assert report["reproduced"] is True and report["reasons"] == [] and report["tolerance"] == 1e-6
    assert report["training_run_id"] == outcome["run_id"] and report["data"]["change"] == "none"
    assert all(member["same_bits"] for member in report["members"])
    assert set(report["same"].values()) == {True} and report["same"]
    rows = {row["name"]: row for row in report["metrics"]}
    assert {"val_rmse", "val_mae", "test_rmse", "test_mae"} <= rows.keys()
    assert max(row["relative"] for row in rows.values()) <= 1e-6


def test_a_reproduction_is_a_run_with_its_figures_and_registers_nothing(trained, copied):
    _, outcome = trained
    client = client_of(copied)
    before = [(version.version, version.aliases) for version in client.search_model_versions("name = 'shops'")]
    done = copied.run("reproduce", outcome["run_id"])
    assert "reproduced to 1e-06" in done.stdout and "same bits" in done.stdout
    runs = client.search_runs([client.get_experiment_by_name("shops").experiment_id], "tags.kind = 'reproduction'")
    assert runs[0].info.status == "FINISHED" and runs[0].data.tags["reproduced"] == "true"
    assert runs[0].data.tags["reproduces"] == f"shops/{outcome['promotion']['version']}"
    logged = json.loads(Path(client.download_artifacts(runs[0].info.run_id, "reproduction.json")).read_text())
    assert logged["verdict"] == runs[0].data.tags["verdict"] and logged["run_id"] == runs[0].info.run_id
    assert [(version.version, version.aliases) for version in client.search_model_versions("name = 'shops'")] == before


def test_a_changed_row_and_newer_rows_are_told_apart_and_both_exit_1(copied):
    path = copied.folder / "shops.csv"
    good = pd.read_csv(path)
    try:
        good.assign(sales=good["sales"].where(good.index != 100, 1.0)).to_csv(path, index=False)
        changed = copied.run("reproduce", "shops", check=False)
        last = good.groupby("shop").tail(5)
        later = pd.to_datetime(last["time"]) + pd.Timedelta(5, "h")
        pd.concat([good, last.assign(time=later.dt.strftime("%Y-%m-%dT%H:%M:%SZ"))]).to_csv(path, index=False)
        grown = copied.run("reproduce", "shops", "--json", check=False)
    finally:
        good.to_csv(path, index=False)
    assert changed.returncode == 1 and "reason: the data have changed: sha256" in changed.stdout
    assert changed.stdout.count("(1920 rows, 2024-03-01T00:00:00+00:00 to 2024-04-09T23:00:00+00:00)") == 2
    assert "nothing was trained" in changed.stdout
    report = json.loads(grown.stdout)
    assert grown.returncode == 1 and report["reproduced"] is False and report["data"]["change"] == "appended"
    assert report["reasons"][0].endswith("10 newer ones have come after 2024-04-09T23:00:00+00:00")
    assert all(member["same_bits"] for member in report["members"])
    assert "from the rows of then reproduced to 1e-06" in report["verdict"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("reproduce", "shop"), "there is no registered model 'shop'"),
        (("reproduce", "0" * 32), "MLflow has no run"),
        (("backtest", "gone.yaml"), "gone.yaml: can't be read"),
        (("backtest", "shops.yaml", "--set", "evaluate.backtest.folds=1"), "evaluate.backtest.folds"),
    ],
)
def test_bad_requests_end_with_one_line_and_exit_code_2(copied, arguments, message):
    done = copied.run(*arguments, check=False)
    assert done.returncode == 2 and done.stdout == "" and done.stderr.count("\n") == 1
    assert message in done.stderr


def test_the_backtest_prints_its_folds(copied):
    report = json.loads(copied.run("backtest", "shops.yaml", "--set", "evaluate.backtest.folds=2", "--json").stdout)
    assert report["refit"] is True and [span["windows"] for span in report["spans"]] == [110, 110]
    printed = copied.run("backtest", "shops.yaml", "--no-refit", "--set", "evaluate.backtest.folds=2").stdout
    assert "RMSE by fold" in printed and "fitted once, before the first fold" in printed
