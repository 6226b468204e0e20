"""A model for each segment of the data, through the real command, here and on a Dask cluster; and their forecasts."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from mlflow import MlflowClient

from tests.support.tables import DATA, make_hourly
from tests.support.workspace import Place

pytestmark = pytest.mark.slow

GOOD = "data.where={shop: [north, south]}"
FORECAST = """
from datetime import datetime
from flows.forecast import forecast
forecast.fn("shops.yaml", ({good!r},), datetime(2024, 4, 9, 12))
"""


@pytest.fixture(scope="module")
def partitioned(tmp_path_factory) -> tuple[Place, subprocess.CompletedProcess[str]]:
    """A place where two segments have been trained, and one that has too few rows has been tried before them."""
    place = Place(tmp_path_factory.mktemp("partitioned"))
    data = {**DATA, "series": [], "source": "shops.csv", "partition_by": "shop"}
    space = {"learning_rate": {"low": 0.005, "high": 0.02, "log": True}}
    place.write(data=data, search={"trials": 2, "space": space})
    frame = make_hourly(40, ("north", "south"))
    few = frame[frame["shop"] == "north"][:60].assign(shop="brief")
    pd.concat([few, frame]).to_csv(place.folder / "shops.csv", index=False)
    return place, place.run("train", "shops.yaml", "--json", "--reason", "drift of sales", check=False)


@pytest.fixture(scope="module")
def client(partitioned) -> MlflowClient:
    return MlflowClient(f"sqlite:///{partitioned[0].folder / 'mlruns' / 'mlflow.db'}")


def parents(client: MlflowClient, name: str) -> list:
    experiment = client.get_experiment_by_name(name)
    return client.search_runs([experiment.experiment_id], "tags.kind = 'train'", order_by=["attributes.start_time"])


def test_a_segment_that_fails_stops_no_other_and_is_told_in_one_line(partitioned):
    _, done = partitioned
    assert done.returncode == 2  # all that failed is bad input
    (line,) = done.stderr.splitlines()
    assert line.startswith("lstm: shops.brief: ") and "Traceback" not in line
    rows = {row["name"]: row for row in json.loads(done.stdout)["segments"]}
    assert list(rows) == ["shops.brief", "shops.north", "shops.south"]
    assert rows["shops.brief"]["error"] and line.endswith(rows["shops.brief"]["error"])
    assert rows["shops.brief"]["version"] is None and not rows["shops.brief"]["champion"]
    for name in ("shops.north", "shops.south"):
        assert rows[name]["champion"] and not rows[name]["error"]
        assert rows[name]["test_rmse"] > 0 and rows[name]["val_rmse"] > 0


def test_each_segment_has_an_experiment_and_a_run_that_says_which_and_why(partitioned, client):
    for segment in ("north", "south"):
        run = parents(client, f"shops.{segment}")[0]
        assert run.data.tags["segment"] == segment and run.data.tags["reason"] == "drift of sales"
        assert run.data.params["data.partition_by"] == "[]" and segment in run.data.params["data.where"]
    assert client.get_experiment_by_name("shops.brief") is None


def test_a_segment_is_compared_and_forecast_by_its_name(partitioned):
    place, _ = partitioned
    rows = json.loads(place.run("compare", "shops.north", "--json").stdout)
    assert any("champion" in row["aliases"] for row in rows)
    forecasts = json.loads(place.run("forecast", "shops.north", "--json").stdout)
    assert len(forecasts) == 6 and forecasts[0]["model_version"].startswith("shops.north/")


@pytest.mark.parametrize("runner", ["dask", "ray"])
def test_a_rerun_on_a_cluster_finds_what_was_trained_and_shows_a_table(partitioned, client, runner):
    place, _ = partitioned
    cluster = ("--set", f"execution.runner={runner}", "--set", "execution.workers=2")
    done = place.run("train", "shops.yaml", "--set", GOOD, *cluster)
    assert "2 segments" in done.stdout and "the proposed version is champion: 2 of 2; failed: 0." in done.stdout
    for name in ("shops.north", "shops.south"):
        newest = parents(client, name)[-1]
        below = client.search_runs([newest.info.experiment_id], f"tags.mlflow.parentRunId = '{newest.info.run_id}'")
        trials = [run for run in below if run.data.tags["kind"] == "trial"]
        assert len(trials) == 2 and all("answered_from" in run.data.tags for run in trials)


def test_scheduled_forecasts_are_made_for_every_segment(partitioned):
    place, _ = partitioned
    command = [sys.executable, "-c", FORECAST.format(good=GOOD)]
    done = subprocess.run(command, cwd=place.folder, env=place.environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    for name in ("shops.north", "shops.south"):
        (path,) = (place.folder / "mlruns" / "forecasts" / name).glob("*.parquet")
        rows = pd.read_parquet(path)
        assert len(rows) == 6 and rows["model_version"].str.startswith(f"{name}/").all()
