"""How forecasts are combined: hand-worked cases and laws."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.config.model import ModelConfig
from lstm.forecasting.ensemble import (
    combine_arrays,
    combine_predictions,
    ensemble_weights,
    greedy_weights,
    member_weights,
    score_methods,
    shared_quantile_levels,
)
from lstm.forecasting.prediction import Prediction

ACTUAL = np.zeros((40, 3, 2))


def rmse(forecast, actual):
    return np.sqrt(np.nanmean((forecast - actual) ** 2))


def members(seed, count=5, shape=(40, 3, 2)):
    random = np.random.default_rng(seed)
    shared = random.normal(0, 1, shape)
    return [random.uniform(0, 1) * shared + random.uniform(0.2, 2) * random.normal(0, 1, shape) for _ in range(count)]


def test_greedy_takes_a_member_twice_where_that_is_better():
    # errors 2 and -1: together 0.5, and with the second once more 0
    assert greedy_weights([ACTUAL + 2, ACTUAL - 1], ACTUAL) == pytest.approx((1 / 3, 2 / 3))


def test_greedy_leaves_out_who_does_not_help():
    assert greedy_weights([ACTUAL + 5, ACTUAL + 1, ACTUAL - 1], ACTUAL) == (0, 0.5, 0.5)


def test_greedy_takes_as_many_members_as_it_has_rounds():
    forecasts = [ACTUAL + 3, ACTUAL - 1, ACTUAL + 9]
    # alone the second has 1, with the first 1 as well; twice with it 1/3, three times 0
    found = [greedy_weights(forecasts, ACTUAL, rounds) for rounds in range(5)]
    assert found[:3] == [(0, 1, 0), (0, 1, 0), pytest.approx((1 / 3, 2 / 3, 0))]
    assert found[3] == found[4] == (0.25, 0.75, 0)


def test_of_two_equal_members_greedy_takes_the_earlier():
    assert greedy_weights([ACTUAL + 2, ACTUAL + 1, ACTUAL + 1], ACTUAL) == (0, 1, 0)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_greedy_is_never_worse_on_validation_than_the_best_single_one(seed):
    forecasts, actual = members(seed), ACTUAL.copy()
    actual[np.random.default_rng(seed).random(actual.shape) < 0.2] = np.nan
    weights = greedy_weights(forecasts, actual)
    assert sum(weights) == pytest.approx(1) and min(weights) >= 0
    best = min(rmse(one, actual) for one in forecasts)
    assert rmse(combine_arrays(forecasts, "greedy", weights), actual) <= best * (1 + 1e-12)


def test_greedy_comes_near_to_the_best_of_all_weights_on_a_grid():
    forecasts = members(3, count=3)
    grid = [np.array(w) / 20 for w in itertools.product(range(21), repeat=3) if sum(w) == 20]
    best = min(rmse(combine_arrays(forecasts, "mean", weights), ACTUAL) for weights in grid)
    assert rmse(combine_arrays(forecasts, "greedy", greedy_weights(forecasts, ACTUAL)), ACTUAL) <= best * 1.01


def test_what_was_not_measured_counts_for_no_weight():
    forecasts = members(4)
    actual = np.concatenate([ACTUAL, np.full((9, 3, 2), np.nan)])
    longer = [np.concatenate([one, np.full((9, 3, 2), 1e6)]) for one in forecasts]
    for method in ("mean", "median", "inverse_error", "greedy"):
        assert ensemble_weights(method, longer, actual) == pytest.approx(ensemble_weights(method, forecasts, ACTUAL))


def test_weights_of_a_method_are_those_of_the_members_errors():
    forecasts = [ACTUAL + 1, ACTUAL - 3]
    assert ensemble_weights("inverse_error", forecasts, ACTUAL) == pytest.approx((0.75, 0.25))
    assert ensemble_weights("inverse_error", forecasts, ACTUAL) == member_weights("inverse_error", [1.0, 3.0])
    assert ensemble_weights("mean", forecasts, ACTUAL) == ensemble_weights("median", forecasts, ACTUAL) == (0.5, 0.5)


def test_methods_are_compared_on_the_same_windows():
    found = score_methods([ACTUAL + 1, ACTUAL - 2, ACTUAL + 5], ACTUAL)
    assert list(found) == ["mean", "median", "inverse_error", "greedy"]
    assert found["mean"] == pytest.approx(4 / 3)
    assert found["median"] == pytest.approx(1)
    weights = np.array([1, 1 / 2, 1 / 5]) / 1.7
    assert found["inverse_error"] == pytest.approx(weights @ [1, -2, 5])
    assert found["greedy"] == pytest.approx(0, abs=1e-9)  # twice the first, once the second


def test_quantiles_are_combined_as_points_are():
    levels = (0.1, 0.5, 0.9)
    learned = [np.array([[[row]]], float) for row in ([0, 1, 2], [1, 4, 9], [2, 3, 4])]
    predictions = [Prediction(one[..., 1], one, levels) for one in learned]
    mean = combine_predictions(predictions, "mean", (0.5, 0.25, 0.25))
    assert mean.point.item() == 2.25 and mean.quantiles.ravel().tolist() == [0.75, 2.25, 4.25]
    median = combine_predictions(predictions, "median", (1 / 3,) * 3)
    assert median.point.item() == 3 and median.quantiles.ravel().tolist() == [1, 3, 4]
    assert median.levels == levels


def test_without_common_quantiles_the_point_alone_is_combined():
    point, quantiles = np.zeros((1, 1, 1)), np.zeros((1, 1, 1, 3))
    rich, other = Prediction(point, quantiles, (0.1, 0.5, 0.9)), Prediction(point, quantiles, (0.2, 0.5, 0.8))
    for mixed in ([rich, Prediction(point)], [rich, other]):
        made = combine_predictions(mixed, "mean", (0.5, 0.5))
        assert made.quantiles is None and made.levels == ()


def test_levels_are_shared_where_all_networks_have_learned_them():
    pinball, gaussian = ModelConfig(quantiles=(0.1, 0.5, 0.9)), ModelConfig(loss="gaussian")
    point, wide = ModelConfig(), ModelConfig(quantiles=(0.05, 0.5, 0.95))
    assert shared_quantile_levels([pinball, gaussian]) == (0.1, 0.5, 0.9)
    assert (
        shared_quantile_levels([pinball, point])
        == shared_quantile_levels([pinball, wide])
        == shared_quantile_levels([point, point])
        == ()
    )
    assert shared_quantile_levels([ModelConfig(quantiles=(0.5,))]) == ()
