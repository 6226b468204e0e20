"""Scores of a split, overall and by group, against scikit-learn on the rows of each group."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_pinball_loss,
    r2_score,
    root_mean_squared_error,
)

from lstm.calendars.frequency import Frequency
from lstm.data.scaling import TargetScale
from lstm.errors import ConfigError
from lstm.metrics.breakdown import fold_numbers, hours_of_week
from lstm.metrics.metrics import CRPS_BANDS, band_levels, point_scores
from tests.support.scored_windows import BERLIN, NAMES, make_bands, make_forecast, make_windows, score

GROUPS = ("horizon", "series", "hour", "weekday", "fold")


def as_rows(split, forecast, folds=4):
    """One row a measured value: what came, what was forecast, and the groups that it is in."""
    shape = split.actual.shape
    window, step, target = np.indices(shape).reshape(3, -1)
    local = pd.DatetimeIndex(split.times[window] + step * np.timedelta64(1, "h"), tz="UTC").tz_convert("Europe/Berlin")
    since = (split.times[window] - split.times.min()) / (split.times.max() - split.times.min())
    rows = pd.DataFrame(
        {
            "y": split.denormalize(split.actual).ravel(),
            "f": split.denormalize(forecast).ravel(),
            "naive": np.broadcast_to(split.naive_error, shape).ravel(),
            "z": (forecast - split.actual).ravel(),
            "target": target,
            "horizon": step + 1,
            "series": np.array(NAMES)[split.series[window]],
            "hour": local.hour,
            "weekday": local.day_of_week,
            "fold": np.minimum(np.floor(since * folds), folds - 1).astype(int) + 1,
            "window": window,
        }
    )
    return rows


def by_hand(rows):
    """Metrics of some rows by scikit-learn and pandas."""
    y, f = rows["y"], rows["f"]
    return {
        "rmse": root_mean_squared_error(y, f),
        "mae": mean_absolute_error(y, f),
        "mape": 100 * mean_absolute_percentage_error(y, f),
        "mape_left_out": 0.0,
        "smape": (200 * (f - y).abs() / (y.abs() + f.abs())).mean(),
        "r2": r2_score(y, f),
        "mase": ((f - y).abs() / rows["naive"]).mean(),
        "mse_normalized": (rows["z"] ** 2).mean(),
        "mae_normalized": rows["z"].abs().mean(),
    }


@pytest.mark.parametrize("log", [False, True])
def test_overall_scores_agree_with_scikit_learn(log):
    split = make_windows(log=log)
    forecast = make_forecast(split)
    scores = split.score(forecast, (), (), 4).overall
    rows = as_rows(split, forecast).dropna()
    assert {name: scores[name] for name in by_hand(rows)} == pytest.approx(by_hand(rows))
    assert scores["rmse_normalized"] == pytest.approx(np.sqrt(scores["mse_normalized"]))


@pytest.mark.parametrize("by", GROUPS)
def test_the_scores_of_a_group_are_those_of_its_rows(by):
    scored = score()
    rows = as_rows(scored.split, make_forecast(scored.split))
    table = scored.table(by)
    assert list(table.columns[:3]) == [by, "windows", "rmse"]
    windows = rows.groupby(by)["window"].nunique()
    assert table.set_index(by)["windows"].to_dict() == windows.to_dict()
    for row in table.to_dict("records"):
        found = by_hand(rows[rows[by] == row[by]].dropna())
        assert {name: row[name] for name in found} == pytest.approx(found)


def test_interval_scores_agree_with_scikit_learn():
    split = make_windows()
    forecast = make_forecast(split)
    bands = dict(make_bands(split, forecast, (80, 95)))
    scores = split.score(forecast, bands.items(), (95, 80), 4).overall
    actual = split.denormalize(split.actual)
    measured = ~np.isnan(actual)
    losses = [mean_pinball_loss(actual[measured], split.denormalize(forecast)[measured], alpha=0.5)]
    for level, (lower, upper) in bands.items():
        inside = ((lower <= actual) & (actual <= upper))[measured]
        assert scores[f"coverage_{level}"] == pytest.approx(inside.mean())
        assert scores[f"width_{level}"] == pytest.approx((upper - lower)[measured].mean())
        tail = (1 - level / 100) / 2
        losses.append(mean_pinball_loss(actual[measured], lower[measured], alpha=tail))
        losses.append(mean_pinball_loss(actual[measured], upper[measured], alpha=1 - tail))
    assert scores["pinball"] == pytest.approx(np.mean(losses))
    assert "crps" not in scores


def test_crps_does_not_depend_on_the_levels_that_are_reported():
    split = make_windows()
    forecast = make_forecast(split)
    one = split.score(forecast, make_bands(split, forecast, CRPS_BANDS), (80,), 4).overall
    two = split.score(forecast, make_bands(split, forecast, band_levels([50, 95])), (50, 95), 4).overall
    assert one["crps"] == pytest.approx(two["crps"]) and one["pinball"] != pytest.approx(two["pinball"])


def test_bands_may_come_one_at_a_time_and_none_may_be_missing():
    split = make_windows()
    forecast = make_forecast(split)
    assert "coverage_80" in split.score(forecast, make_bands(split, forecast, [80]), [80], 4).overall
    with pytest.raises(ConfigError, match="there is none of 95 %"):
        split.score(forecast, make_bands(split, forecast, [80]), [80, 95], 4)


def test_scored_in_small_parts_it_is_the_same(monkeypatch):
    whole = score(crps=True)
    monkeypatch.setattr("lstm.evaluation.scoring._MAX_VALUES", 100)
    parts = score(crps=True)
    assert parts.overall == pytest.approx(whole.overall)
    for by in GROUPS:
        pd.testing.assert_frame_equal(parts.table(by), whole.table(by))


def test_skill_and_owa_stand_beside_the_metrics():
    ours, theirs = score(noise=0.5, crps=True), score(noise=1.0, crps=True)
    scores, one, two = ours.relative_to(theirs), ours.overall, theirs.overall
    errors = {"rmse", "mae", "mape", "smape", "mase", "pinball", "crps"}
    errors |= {"mse_normalized", "rmse_normalized", "mae_normalized"}
    assert set(scores) - set(one) == {f"{name}_skill" for name in errors} | {"owa"}
    for name in errors:
        assert scores[f"{name}_skill"] == pytest.approx(1 - one[name] / two[name])
    assert scores["owa"] == pytest.approx((one["smape"] / two["smape"] + one["mase"] / two["mase"]) / 2)
    assert ours.relative_to(ours)["owa"] == pytest.approx(1)
    table = ours.table("horizon", theirs)
    assert table["rmse_skill"].to_numpy() == pytest.approx(1 - table["rmse"] / theirs.table("horizon")["rmse"])


def test_the_errors_of_the_groups_add_up_to_the_whole():
    scored = score()
    whole = scored.overall["mse_normalized"]
    rows = as_rows(scored.split, make_forecast(scored.split)).dropna()
    for by in GROUPS:
        table = scored.table(by).set_index(by)
        share = rows.groupby(by).size() / len(rows)
        assert (table["mse_normalized"] * share).sum() == pytest.approx(whole)


def test_hours_are_those_of_the_clock_on_the_wall():
    before = np.array(["2024-10-26T23:00", "2024-10-27T00:00"], "datetime64[us]")  # 1:00 and 2:00, Sunday, Berlin
    sunday = 6 * 24
    found = hours_of_week(before, 4, BERLIN)
    assert found.tolist() == [[sunday + hour for hour in (1, 2, 2, 3)], [sunday + hour for hour in (2, 2, 3, 4)]]
    monthly = hours_of_week(np.array(["2024-01-31T23:00"], "datetime64[us]"), 2, Frequency.parse("MS", "Europe/Berlin"))
    assert monthly.tolist() == [[3 * 24, 4 * 24]]  # 1 February and 1 March, at midnight


def test_irregular_series_have_no_hours():
    scored = score(frequency=None)
    for by in ("hour", "weekday"):
        table = scored.table(by)
        assert table.empty and list(table.columns) == [by, "windows", *scored.overall]
    assert len(scored.table("fold")) == 4


def test_series_without_names_are_called_by_their_numbers():
    assert score(names=()).table("series")["series"].tolist() == [0, 1, 2]


def test_a_series_without_a_window_has_no_row():
    assert score(names=(*NAMES, "d")).table("series")["series"].tolist() == list(NAMES)


@given(st.integers(2, 9), st.lists(st.integers(0, 10**6), min_size=1, max_size=50))
@settings(deadline=None)
def test_folds_are_equal_parts_of_the_time(folds, minutes):
    times = np.datetime64("2024-01-01", "us") + np.array(minutes) * np.timedelta64(1, "m")
    found = fold_numbers(times, folds)
    assert ((found >= 0) & (found < folds)).all()
    span = max(minutes) - min(minutes)
    for fold, minute in zip(found, minutes, strict=True):
        since = minute - min(minutes)
        assert fold * span <= since * folds <= (fold + 1) * span


def test_a_forecast_that_is_not_finite_is_not_left_out():
    split = make_windows()
    forecast = make_forecast(split)
    place = tuple(np.argwhere(~np.isnan(split.actual))[0])
    forecast[place] = np.nan
    scored = split.score(forecast, (), (), 4)
    errors = ("rmse", "mae", "smape", "mase", "r2", "mse_normalized")
    assert np.isnan([scored.overall[name] for name in errors]).all()
    assert scored.table("series")["rmse"].isna().tolist() == [True, False, False]


def test_small_series_are_not_near_zero_beside_a_large_one():
    split = make_windows()
    scale = TargetScale(split.scale.center * 10.0 ** (8 * (split.series == 2))[:, None, None], split.scale.scale)
    scores = replace(split, scale=scale).score(make_forecast(split), (), (), 4).overall
    assert scores["mape_left_out"] == 0


def test_metrics_that_were_there_before_have_kept_their_values():
    split = make_windows()
    forecast = make_forecast(split)
    scores = split.score(forecast, (), (), 4).overall
    expected = point_scores(split.denormalize(split.actual), split.denormalize(forecast), split.naive_error)
    assert {name: scores[name] for name in expected} == pytest.approx(expected)
