"""The baselines of a run: which stand on the leaderboard, on which windows."""

import numpy as np

from tasks import tracking
from tasks.evaluate import _baselines, scored_splits

from .test_prepare import prepared


def made(frame, folder, **changes):
    config, table, panel, windows = prepared(frame, folder, **changes)
    splits = scored_splits(config, panel, windows)
    with tracking.parent_run(config, table, ["cpu"], "") as run:
        found = _baselines(config, windows, splits, run)
    return splits, found, tracking.client().get_run(run.run_id).data.tags


def test_every_baseline_forecasts_both_splits_and_ridge_is_the_best_of_a_wave(hourly, home, tmp_path):
    splits, found, tags = made(hourly, tmp_path)
    assert list(found) == ["persistence", "seasonal_naive", "ridge"] and "ridge" not in tags
    for split, scored in splits.items():
        rmse = {name: np.sqrt(np.nanmean((one[split] - scored.actual) ** 2)) for name, one in found.items()}
        assert min(rmse, key=rmse.get) == "ridge"


def test_where_no_window_is_measured_at_every_step_ridge_is_left_out_and_said(hourly, home, tmp_path):
    gappy = hourly[hourly.index % 4 > 0]
    _, found, tags = made(gappy, tmp_path)
    assert list(found) == ["persistence", "seasonal_naive"]
    assert tags["ridge"].startswith("left out: ridge: no training window")
