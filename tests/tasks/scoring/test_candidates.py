"""The baselines of a run: which stand on the leaderboard, on which windows."""

import numpy as np

from tasks.scoring.candidates import baselines, scored_splits
from tests.support.prepared_data import prepare


def made(frame, folder, **changes):
    config, _, panel, windows = prepare(frame, folder, **changes)
    splits = scored_splits(config, panel, windows)
    return splits, *baselines(config, windows, splits)


def test_every_baseline_forecasts_both_splits_and_ridge_is_the_best_of_a_wave(hourly, home, tmp_path):
    splits, found, left_out = made(hourly, tmp_path)
    assert list(found) == ["persistence", "seasonal_naive", "drift", "ridge"] and not left_out
    for split, scored in splits.items():
        rmse = {name: np.sqrt(np.nanmean((one[split].point - scored.actual) ** 2)) for name, one in found.items()}
        assert min(rmse, key=rmse.get) == "ridge"


def test_where_no_window_is_measured_at_every_step_ridge_is_left_out_and_said(hourly, home, tmp_path):
    gappy = hourly[hourly.index % 4 > 0]
    _, found, left_out = made(gappy, tmp_path)
    assert list(found) == ["persistence", "seasonal_naive", "drift"]
    assert left_out["ridge"].startswith("ridge: no training window")
