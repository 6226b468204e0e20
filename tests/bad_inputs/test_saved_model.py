"""`lstm forecast` beyond the trained horizon, and `lstm export`, on a model in a folder."""

import json
import shutil

import pandas as pd
import pytest

from tests.bad_inputs.case import Case


@pytest.fixture
def model(place, spoil, saved_model):
    """An untrained model of 6 steps, and the table that it is of."""
    spoil(Case("", "", ""), hours=240)
    shutil.copytree(saved_model, place / "model")
    return place / "model"


def test_a_forecast_beyond_the_trained_horizon_is_noted_in_one_line(model, command):
    done = command("forecast", "./model", "--data", "sales.csv", "--horizon", "15", "--out", "made.csv")
    assert done.code == 0 and "30 rows for 2 series" in done.out
    assert done.err.startswith("lstm: note: horizon 15: trained for 6 steps; ") and done.err.count("\n") == 1
    forecasts = pd.read_csv(model.parent / "made.csv")
    assert forecasts["rolled"].tolist() == ([False] * 6 + [True] * 9) * 2


def test_a_forecast_within_the_trained_horizon_says_nothing(model, command):
    done = command("forecast", "./model", "--data", "sales.csv", "--horizon", "6")
    assert done.code == 0 and done.err == ""
    assert "rolled" not in done.out


def test_an_export_says_what_it_wrote_and_how_far_it_is_from_torch(model, command):
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip install onnx onnxruntime")
    done = command("export", "./model", "--out", "made")
    assert done.code == 0 and done.err == ""
    assert done.out.startswith("networks of ./model: 1, at most ") and done.out.endswith(" from torch: made\n")
    description = json.loads((model.parent / "made" / "forecaster.json").read_text())
    assert description["name"] == "sales" and description["onnx"]["members"][0]["file"] == "member-0.onnx"


def test_an_export_into_a_folder_that_is_there_is_refused_in_one_line(model, command):
    pytest.importorskip("onnxruntime", reason="needs the package onnxruntime: pip install onnx onnxruntime")
    done = command("export", "./model", "--out", "model")
    assert done.code == 2
    assert done.err == "lstm: --out model: exists already. Name another folder, or remove it.\n"


def test_an_export_of_nothing_is_refused(model, command):
    done = command("export", "gone", "--out", "made")
    assert done.code == 2 and done.err.startswith("lstm: gone: there is no registered model 'gone'")
    assert not (model.parent / "made").exists()
