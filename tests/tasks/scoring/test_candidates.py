"""Predictions of the baselines of a run."""

import numpy as np

from tasks.run_context import PreparedData
from tasks.scoring.candidates import predict_baselines
from tests.support.prepared_data import prepare


def test_every_baseline_forecasts_both_splits_and_ridge_is_the_best_of_a_wave(hourly, home, tmp_path):
    data = PreparedData.open(*prepare(hourly, tmp_path))
    predictions, left_out = predict_baselines(data)
    assert list(predictions) == ["persistence", "seasonal_naive", "drift", "ridge"] and not left_out
    for split, scored in data.splits.items():
        errors = {name: by_split[split].point - scored.actual for name, by_split in predictions.items()}
        rmse = {name: np.sqrt(np.nanmean(error**2)) for name, error in errors.items()}
        assert min(rmse, key=rmse.get) == "ridge"


def test_ridge_is_left_out_if_no_window_is_measured_at_every_step(hourly, home, tmp_path):
    gappy = hourly[hourly.index % 4 > 0]
    predictions, left_out = predict_baselines(PreparedData.open(*prepare(gappy, tmp_path)))
    assert list(predictions) == ["persistence", "seasonal_naive", "drift"]
    assert left_out["ridge"].startswith("ridge: no sampled training window")
