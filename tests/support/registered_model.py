"""A registered version of a small forecaster, without a training run."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from lstm.config.data import DataSpec
from lstm.config.pipeline import PipelineConfig
from lstm.forecasting.forecaster import Forecaster
from tasks.registry.packaging import log_model
from tasks.registry.versions import create_version, set_alias
from tasks.settings import artifact_location, tracking_uri
from tasks.tracking import runs
from tests.support.forecasters import make_forecaster
from tests.support.tables import DATA, make_hourly

MANY = 10_000  # series that the forecaster knows
ROWS = 24  # of history that it needs


def forecaster() -> Forecaster:
    """Return a forecaster of two untrained networks that knows north, south and `MANY` - 2 more shops."""
    frame = make_hourly()
    small = make_forecaster(DataSpec.parse({**DATA, "calendar": {"features": ["hour"]}}), frame)
    names = ("north", "south", *(f"shop-{number:05d}" for number in range(MANY - 2)))
    scales = {key: np.resize(getattr(small.normalizer, key), (MANY, 2)) for key in ("center", "scale")}
    return replace(small, normalizer=replace(small.normalizer, names=names, **scales))


def history(rows: int = ROWS + 6) -> pd.DataFrame:
    """Return the newest rows of the two shops."""
    return make_hourly().groupby("shop").tail(rows)


def of_many_shops() -> pd.DataFrame:
    """Return the shortest sufficient history of all `MANY` series, each at another level."""
    some = history(ROWS)[:ROWS]
    shop = np.repeat(np.array(forecaster().normalizer.names), ROWS)
    shift = np.repeat(np.arange(MANY) / MANY, ROWS)
    values = {name: np.tile(some[name].to_numpy(), MANY) + shift for name in ("sales", "visitors")}
    return pd.DataFrame({"time": np.tile(some["time"].to_numpy(), MANY), "shop": shop, **values})


def register(work: Path) -> Path:
    """Register the forecaster as version 1 and champion of `shops` in the stores of the environment."""
    config = PipelineConfig.parse({"name": "shops", "data": {**DATA, "source": "-"}, "window": {"horizon": 6}})
    folder = work / "forecaster"
    forecaster().save(folder)
    location = artifact_location()
    mlflow.set_tracking_uri(tracking_uri())
    experiment = runs.client().create_experiment("shops", location)
    run_id = runs.client().create_run(experiment).info.run_id
    with warnings.catch_warnings():  # mlflow compares the example's columns with a range, which pandas is giving up
        warnings.filterwarnings("ignore", "Operation with range is deprecated")
        model_id = log_model(config, folder, run_id, history())
    set_alias("shops", "champion", create_version("shops", run_id, model_id, {"kind": "best-single"}))
    location = runs.client().get_logged_model(model_id).artifact_location
    return Path(location.removeprefix("file://"))


def without_this_repository() -> dict[str, str]:
    """Return an environment without this repository on the path and without settings of MLflow, Prefect or lstm."""
    hidden = ("MLFLOW_", "PREFECT_", "LSTM_", "PYTHONPATH")
    return {key: value for key, value in os.environ.items() if not key.startswith(hidden)}


@contextmanager
def registered(work: Path) -> Iterator[Path]:
    """Register a model in stores below `folder`, which are this process's stores inside the block."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("LSTM_HOME", str(work / "mlruns"))
        runs.client.cache_clear()
        yield register(work)
        runs.client.cache_clear()
        patch.setenv("MLFLOW_TRACKING_URI", "-")  # which MLflow has set: taken back with the rest
