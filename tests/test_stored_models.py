"""Models, studies and forecast logs that commit 9c95dcd has stored (tests/stored_9c95dcd) work with this code."""

import json
import math
import shutil
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc import scoring_server
from optuna.trial import TrialState

from lstm.forecasting.forecaster import Forecaster
from lstm.load_config import load_config
from tasks.forecast_store.log import FolderLog
from tasks.forecast_store.schema import log_columns
from tasks.search.study import load_study
from tasks.search.trial_folder import result_of
from tasks.serving.app import StrictModel
from tasks.serving.server import use_current_code

STORED = Path(__file__).parent / "stored_9c95dcd"
FORECASTER = STORED / "model" / "artifacts" / "best-ensemble"
STUDY = "shops/0efcf1463a633f89"


def assert_close(forecasts: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Compare forecasts by value: another processor may round the last digits in another way."""
    times = pd.to_datetime(forecasts["time"], utc=True)
    assert (times.to_numpy() == pd.to_datetime(expected["time"], utc=True).to_numpy()).all()
    assert forecasts["series"].tolist() == expected["series"].tolist()
    numbers = ["forecast", "lo-80", "hi-80", "lo-95", "hi-95"]
    np.testing.assert_allclose(forecasts[numbers], expected[numbers], rtol=1e-5)


@pytest.fixture
def history() -> pd.DataFrame:
    return pd.read_csv(STORED / "shops.csv")


@pytest.fixture
def stored_forecasts() -> pd.DataFrame:
    return pd.read_csv(STORED / "forecast.csv")


def test_a_stored_forecaster_loads_and_gives_the_stored_forecasts(history, stored_forecasts):
    forecaster = Forecaster.load(FORECASTER)
    assert len(forecaster.members) == 2 and forecaster.method == "inverse_error"
    assert forecaster.lineage["git_commit"].startswith("9c95dcd")
    assert_close(forecaster.forecast(history, levels=(80, 95)), stored_forecasts)


def test_a_stored_forecaster_is_saved_with_the_same_keys(tmp_path):
    Forecaster.load(FORECASTER).save(tmp_path)
    stored, saved = (json.loads((folder / "forecaster.json").read_text()) for folder in (FORECASTER, tmp_path))
    assert saved.keys() == stored.keys()
    assert saved["lineage"] == stored["lineage"] and saved["normalizer"] == stored["normalizer"]


def test_a_stored_package_is_served(tmp_path, monkeypatch, history, stored_forecasts):
    monkeypatch.setattr(sys, "path", list(sys.path))
    folder = shutil.copytree(STORED / "model", tmp_path / "model")
    use_current_code(folder)
    model = StrictModel(mlflow.pyfunc.load_model(str(folder)))
    body = json.dumps({"dataframe_split": json.loads(history.to_json(orient="split", index=False))})
    answer = scoring_server.invocations(body, "application/json", model, model.metadata.get_input_schema())
    assert answer.status == 200
    assert_close(pd.DataFrame(json.loads(answer.response)["predictions"]), stored_forecasts)


def test_a_stored_configuration_is_still_valid():
    config = load_config(STORED / "shops.yaml")
    assert config.ensemble.method == "inverse_error" and config.model.hidden_size == 8


def test_a_stored_study_is_read(tmp_path):
    folder = shutil.copytree(STORED / "study", tmp_path / "study")
    study = load_study(STUDY, folder)
    assert study is not None
    trials = study.get_trials()
    assert [trial.state for trial in trials] == [TrialState.COMPLETE, TrialState.COMPLETE]
    assert [trial.params["learning_rate"] for trial in trials] == pytest.approx([0.02, 0.019])
    assert study.user_attrs["begun"] is True
    for trial in trials:
        result = result_of(folder / f"trial-{trial.number:03d}")
        assert result is not None and result.metrics is not None
        assert math.isclose(result.metrics.val_rmse_normalized, trial.value)
        assert list(trial.intermediate_values.values()) == [epoch["val_rmse"] for epoch in result.history]
        assert trial.user_attrs["owner"].startswith("host:") and "network" in trial.user_attrs


def test_a_stored_study_goes_on(tmp_path):
    study = load_study(STUDY, shutil.copytree(STORED / "study", tmp_path / "study"))
    assert study is not None
    trial = study.ask()
    study.tell(trial, trial.suggest_float("learning_rate", 0.005, 0.02, log=True))
    again = load_study(STUDY, tmp_path / "study")
    assert again is not None and len(again.trials) == 3


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_stored_forecast_log_is_read_and_appended_to(format, tmp_path, stored_forecasts):
    folder = shutil.copytree(STORED / "forecasts", tmp_path / "forecasts")
    log = FolderLog(folder, format, tuple(log_columns(("sales",), (80, 95))))
    slot = pd.Timestamp("2024-03-20T23:00Z")
    stored = log.read()
    assert log.slots() == [slot] and stored["model_version"].unique().tolist() == ["shops/2"]
    assert_close(stored, stored_forecasts)
    log.write(slot + pd.Timedelta("1h"), stored)
    assert log.slots() == [slot, slot + pd.Timedelta("1h")]
    assert len(log.read()) == 2 * len(stored)
