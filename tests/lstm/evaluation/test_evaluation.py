import sys

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import (
    mean_absolute_error,
    mean_absolute_percentage_error,
    mean_pinball_loss,
    r2_score,
    root_mean_squared_error,
)

from lstm.data.windows import Windows
from lstm.errors import ConfigError, DataError
from lstm.evaluation.baselines import Drift, Persistence, SeasonalNaive, check_baselines, fit_baselines
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import combine_arrays, member_weights
from lstm.metrics.metrics import (
    CRPS_BANDS,
    band_quantities,
    interval_metrics,
    naive_errors,
    point_quantities,
    point_scores,
    sum_all,
)
from lstm.metrics.skill import skill, with_skill

random = np.random.default_rng(0)
ACTUAL, FORECAST = random.normal(10, 2, (50, 4, 2)), random.normal(10, 2, (50, 4, 2))


def test_point_scores_agree_with_scikit_learn():
    scores = point_scores(ACTUAL, FORECAST, 2.0)
    y, f = ACTUAL.ravel(), FORECAST.ravel()
    assert scores["rmse"] == pytest.approx(root_mean_squared_error(y, f))
    assert scores["mae"] == pytest.approx(mean_absolute_error(y, f))
    assert scores["mape"] == pytest.approx(100 * mean_absolute_percentage_error(y, f))
    assert scores["r2"] == pytest.approx(r2_score(y, f))
    assert scores["mase"] == pytest.approx(scores["mae"] / 2)


def test_scores_of_a_hand_worked_case():
    scores = point_scores(np.array([[[2.0], [4.0]]]), np.array([[[3.0], [2.0]]]), 0.5)
    assert scores["smape"] == pytest.approx(100 * (2 * 1 / 5 + 2 * 2 / 6) / 2)
    assert scores["mase"] == pytest.approx(3.0)


def test_what_was_not_measured_counts_for_nothing():
    actual = np.concatenate([ACTUAL, np.full((10, 4, 2), np.nan)])
    forecast = np.concatenate([FORECAST, np.full((10, 4, 2), 1e9)])
    assert point_scores(actual, forecast, 2.0) == pytest.approx(point_scores(ACTUAL, FORECAST, 2.0))
    assert np.isnan(point_scores(actual[-1:], forecast[-1:], 2.0)["rmse"])


def test_zeros_are_left_out_of_mape():
    actual = np.array([[[0.0], [10.0]]])
    assert point_scores(actual, np.array([[[1.0], [11.0]]]), 1.0)["mape"] == pytest.approx(10)
    assert point_scores(actual, actual, 1.0)["mape_left_out"] == 0.5
    tiny = np.array([[[1e-9], [10.0]]])  # one millionth of the largest value is as good as none
    assert point_scores(tiny, tiny + 1, 1.0)["mape"] == pytest.approx(10)
    nothing = point_scores(actual * 0, actual, 1.0)
    assert np.isnan(nothing["mape"]) and nothing["mape_left_out"] == 1


def test_a_perfect_forecast_scores_perfectly():
    scores = point_scores(ACTUAL, ACTUAL, 2.0)
    assert scores == {"rmse": 0, "mae": 0, "mape": 0, "mape_left_out": 0, "smape": 0, "r2": 1, "mase": 0}


def interval_scores(actual, forecast, bands):
    quantities = point_quantities(actual, forecast, 1.0, 1.0, 0.0)
    for level, (lower, upper) in bands.items():
        quantities |= band_quantities(actual, lower, upper, level)
    return {name: values.item() for name, values in interval_metrics(sum_all(quantities), sorted(bands)).items()}


def test_interval_scores_agree_with_scikit_learn():
    bands = {80: (FORECAST - 2, FORECAST + 2)}
    scores = interval_scores(ACTUAL, FORECAST, bands)
    y = ACTUAL.ravel()
    inside = np.abs(ACTUAL - FORECAST) <= 2
    assert scores["coverage_80"] == pytest.approx(inside.mean())
    losses = [
        mean_pinball_loss(y, (FORECAST + shift).ravel(), alpha=alpha)
        for alpha, shift in ((0.5, 0), (0.1, -2), (0.9, 2))
    ]
    assert scores["pinball"] == pytest.approx(np.mean(losses))


def as_frame(**columns):
    """What utilsforecast reads: one series, a row a value."""
    values = {name: column.ravel() for name, column in columns.items()}
    return pd.DataFrame({"unique_id": "a", "ds": np.arange(ACTUAL.size), "y": ACTUAL.ravel(), **values})


def test_point_scores_agree_with_utilsforecast():
    losses = pytest.importorskip("utilsforecast.losses")
    frame, season = as_frame(ours=FORECAST), 3
    past = random.normal(10, 2, 60)
    naive = naive_errors(np.zeros(60, int), np.zeros(60, int), past[:, None], season, 1).item()
    scores = point_scores(ACTUAL, FORECAST, naive)
    for name, factor in (("mae", 1), ("rmse", 1), ("mape", 100), ("smape", 200)):
        assert scores[name] == pytest.approx(factor * getattr(losses, name)(frame, ["ours"])["ours"].item())
    training = pd.DataFrame({"unique_id": "a", "ds": np.arange(60), "y": past})
    assert scores["mase"] == pytest.approx(losses.mase(frame, ["ours"], season, training)["ours"].item())


def test_interval_scores_agree_with_utilsforecast():
    losses = pytest.importorskip("utilsforecast.losses")
    bands = {level: (FORECAST - level / 40, FORECAST + level / 20) for level in CRPS_BANDS}
    scores = interval_scores(ACTUAL, FORECAST, bands)
    quantiles = {0.5: FORECAST}
    for level, (lower, upper) in bands.items():
        named = as_frame(**{f"ours-lo-{level}": lower, f"ours-hi-{level}": upper})
        assert scores[f"coverage_{level}"] == pytest.approx(losses.coverage(named, ["ours"], level)["ours"].item())
        quantiles |= {(1 - level / 100) / 2: lower, (1 + level / 100) / 2: upper}
    levels = sorted(quantiles)
    columns = {f"q{number}": quantiles[level] for number, level in enumerate(levels)}
    frame = as_frame(**columns)
    single = [
        losses.quantile_loss(frame, {"m": name}, level)["m"].item() for name, level in zip(columns, levels, strict=True)
    ]
    assert scores["pinball"] == pytest.approx(np.mean(single))
    scaled = losses.scaled_crps(frame, {"m": list(columns)}, np.array(levels))["m"].item()
    assert scores["crps"] == pytest.approx(scaled * np.abs(ACTUAL).mean())


def test_crps_of_a_normal_distribution_is_that_of_gneiting_and_raftery():
    y = random.normal(0, 1, (40_000, 1, 1))
    at = np.full_like(y, 0.3)
    bands = {
        level: (at - 2 * norm.ppf(0.5 + level / 200), at + 2 * norm.ppf(0.5 + level / 200)) for level in CRPS_BANDS
    }
    z = (y - 0.3) / 2
    closed = 2 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    found = interval_scores(y, at, bands)["crps"]
    assert 1 < found / closed.mean() < 1.06  # the mean over 19 levels lies above the integral


def test_width_is_how_far_apart_the_edges_are():
    bands = {80: (FORECAST - 2, FORECAST + 3)}
    assert interval_scores(ACTUAL, FORECAST, bands)["width_80"] == pytest.approx(5)


def test_owa_is_the_mean_of_smape_and_mase_over_the_reference_s():
    scores = with_skill({"val_smape": 5.0, "val_mase": 0.9}, {"val_smape": 10.0, "val_mase": 1.0})
    assert scores["val_owa"] == pytest.approx((0.5 + 0.9) / 2)
    assert np.isnan(with_skill({"smape": 5.0, "mase": 0.9}, {"smape": 0.0, "mase": 1.0})["owa"])


def test_skill_is_the_share_of_error_that_is_gone():
    assert skill(3.0, 4.0) == 0.25
    assert np.isnan(skill(1.0, 0.0))
    scores = with_skill({"val_rmse": 3.0, "val_r2": 0.5}, {"val_rmse": 4.0, "val_r2": 0.1})
    assert scores == {"val_rmse": 3.0, "val_r2": 0.5, "val_rmse_skill": 0.25}


def test_naive_errors_stay_within_series_and_segment():
    targets = np.array([1, 2, 4, 100, 101, 7, 7, 10], float)[:, None]
    segment = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    series = np.array([0, 0, 0, 0, 0, 1, 1, 1])
    errors = naive_errors(series, segment, targets, season=1, count=3)
    np.testing.assert_allclose(errors[:, 0], [(1 + 2 + 1) / 3, (0 + 3) / 2, np.nan])
    assert np.isnan(naive_errors(series[:1], segment[:1], targets[:1], 1, 1)).all()


def windows_of(values, length, horizon, origins):
    rows = torch.tensor(values, dtype=torch.float32)[:, None]
    return Windows(rows, rows, torch.tensor(origins), length, horizon)


def test_baselines_of_a_hand_worked_case():
    windows = windows_of(range(20), length=6, horizon=5, origins=[6, 10])
    assert Persistence().forecast(windows)[..., 0].tolist() == [[5] * 5, [9] * 5]
    assert SeasonalNaive(3).forecast(windows)[..., 0].tolist() == [[3, 4, 5, 3, 4], [7, 8, 9, 7, 8]]
    with pytest.raises(DataError, match="season=7, lookback=6"):
        SeasonalNaive(7).forecast(windows)
    curved = windows_of(np.arange(20) ** 2, length=6, horizon=2, origins=[6])
    assert Drift().forecast(curved)[0, :, 0].tolist() == [25 + 5, 25 + 10]  # from 0 to 25 in five steps
    alone = windows_of(range(20), length=1, horizon=2, origins=[6])
    assert Drift().forecast(alone)[0, :, 0].tolist() == [5, 5]


def test_baselines_that_cannot_be_fitted_are_left_out_with_the_reason():
    windows = windows_of([np.nan] * 20, length=6, horizon=5, origins=[6, 10])
    fitted, left_out = fit_baselines(("persistence", "ridge", "drift"), windows, windows, season=3)
    assert list(fitted) == ["persistence", "drift"]
    assert left_out["ridge"].startswith("ridge: no sampled training window")


def test_a_baseline_whose_package_is_missing_is_told_before_anything_is_trained(monkeypatch):
    check_baselines(("persistence", "seasonal_naive", "drift", "ridge"))
    for name in ("statsforecast", "statsforecast.models"):
        monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(ConfigError, match=r"auto_ets needs statsforecast.*Run `pip install lstm\[classical\]`"):
        check_baselines(("drift", "auto_ets"))


@pytest.mark.parametrize("level", [50, 80, 95])
def test_conformal_intervals_cover_what_they_promise_on_exchangeable_data(level):
    generator = np.random.default_rng(level)
    calibration, fresh = generator.standard_t(4, (2, 4000, 3, 1))
    intervals = Conformal.fit(calibration, np.zeros_like(calibration))
    covered = np.abs(fresh) <= intervals.level_offsets(level)
    assert covered.mean() == pytest.approx(level / 100, abs=0.015)


def test_conformal_takes_the_rank_of_the_paper():
    errors = np.arange(1.0, 10.0)[:, None, None]  # n = 9: 80 % is the ⌈10 · 0.8⌉ = 8th smallest
    assert Conformal.fit(errors, np.zeros_like(errors)).level_offsets(80).item() == 8
    gaps = np.concatenate([errors, np.full((5, 1, 1), np.nan)])
    assert Conformal.fit(gaps, np.zeros_like(gaps)).level_offsets(80).item() == 8


def test_levels_are_whole_percents():
    intervals = Conformal.fit(ACTUAL, FORECAST)
    assert (np.diff(intervals.quantile_offsets, axis=0) >= 0).all()
    assert (Conformal.from_dict(intervals.to_dict()).quantile_offsets == intervals.quantile_offsets).all()
    for level in (0, 100, 80.5):
        with pytest.raises(ConfigError, match="whole percents"):
            intervals.level_offsets(level)


@settings(deadline=None)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_weights_sum_to_one_and_prefer_the_better(errors):
    weights = member_weights("inverse_error", errors)
    assert sum(weights) == pytest.approx(1)
    assert np.argmax(weights) == np.argmin(errors)
    assert set(member_weights("mean", errors)) == {1 / len(errors)}


def test_combinations_of_a_hand_worked_case():
    forecasts = [np.full((1, 1, 1), value) for value in (1.0, 2.0, 9.0)]
    assert combine_arrays(forecasts, "mean", member_weights("mean", [1, 1, 1])).item() == pytest.approx(4)
    assert combine_arrays(forecasts, "median", ()).item() == 2
    assert combine_arrays(forecasts, "inverse_error", (0.5, 0.5, 0.0)).item() == 1.5
