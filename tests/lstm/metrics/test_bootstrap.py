"""The block bootstrap: that its intervals hold what they promise, and what a block is."""

import numpy as np
import pytest
from scipy.signal import lfilter

from lstm.metrics.bootstrap import block_length, percentile_interval, resample_sums
from tests.support.scored_windows import score


def hours(count, step=1):
    return np.datetime64("2024-01-01T00", "us") + np.arange(count) * np.timedelta64(step, "h")


def overlapping_errors(random, count, horizon, memory):
    """Squared errors of forecasts of an AR(1) that can't be better: (origins,), the mean of the steps, and their mean.

    k steps ahead the error is Σ_{j<k} memory^j · innovation, so that windows share innovations over the horizon.
    """
    innovations, error, total = random.normal(size=count + horizon), np.zeros(count), np.zeros(count)
    for step in range(horizon):
        error = memory * error + innovations[step : step + count]
        total += error**2
    true = np.mean([sum(memory ** (2 * j) for j in range(step + 1)) for step in range(horizon)])
    return total / horizon, true


@pytest.mark.parametrize(
    ("count", "horizon", "memory"), [(500, 1, 0.0), (700, 12, 0.8), (720, 24, 0.5), (3000, 24, 0.9)]
)
def test_the_interval_of_rmse_holds_the_true_one_about_as_often_as_it_says(count, horizon, memory):
    random, held, times = np.random.default_rng(0), [], hours(count)
    length = block_length(times, np.zeros(count, int), horizon)
    for seed in range(400):
        squared, true = overlapping_errors(random, count, horizon, memory)
        sums = resample_sums(np.stack([squared, np.ones(count)], axis=1), length, seed, 500)
        low, high = percentile_interval(np.sqrt(sums[:, 0] / sums[:, 1]), count / length)
        held.append(low <= np.sqrt(true) <= high)
    assert 0.90 <= np.mean(held) <= 0.98  # windows drawn one by one: 0.29 to 0.47 where they overlap


def test_without_dependence_it_agrees_with_the_standard_error():
    values = np.random.default_rng(0).normal(5, 2, (4000, 1))
    sums = resample_sums(np.c_[values, np.ones(4000)], 16, 0, 4000)
    means = sums[:, 0] / sums[:, 1]
    assert means.std() == pytest.approx(2 / np.sqrt(4000), rel=0.06)
    low, high = percentile_interval(means, 4000 / 16)
    assert high - low == pytest.approx(2 * 1.96 * 2 / np.sqrt(4000), rel=0.08)


def test_neighbours_that_err_together_make_it_wider():
    values = lfilter([1], [1, -0.9], np.random.default_rng(0).normal(size=4000))[:, None]
    one, many = (resample_sums(values, length, 0).std() for length in (1, 100))
    assert many > 3 * one  # of an AR(1) with 0.9 the mean's standard error is √19 = 4.4 times as large


def test_every_time_is_drawn_as_often_and_blocks_are_whole():
    count, length = 60, 6
    drawn = resample_sums(np.eye(count), length, 0, 4000)
    assert (drawn.sum(axis=1) == 60).all()
    np.testing.assert_allclose(drawn.mean(axis=0), 1, atol=0.08)  # on a line the ends would be drawn 1/6 as often
    starts = np.maximum(drawn - np.roll(drawn, 1, axis=1), 0).sum(axis=1)
    assert starts.max() <= 10  # of ten blocks: nothing begins where no block does


@pytest.mark.parametrize(
    ("count", "horizon", "length"),
    [
        (3000, 24, 72),  # three horizons
        (720, 1, 9),  # 720^(1/3)
        (240, 24, 40),  # a sixth of the time
        (121, 24, 24),  # but the horizon at least
        (119, 24, 0),  # not five blocks
        (1, 1, 0),
    ],
)
def test_how_long_a_block_is(count, horizon, length):
    assert block_length(hours(count), np.zeros(count, int), horizon) == length


def test_a_block_lasts_as_long_where_each_series_has_times_of_its_own():
    aligned = block_length(np.tile(hours(600), 3), np.repeat(np.arange(3), 600), 10)
    times = np.concatenate([hours(600, 3) + np.timedelta64(late, "h") for late in range(3)])
    assert aligned == 30
    assert block_length(times, np.repeat(np.arange(3), 600), 10) == 90  # times, of which each series has a third


def test_equal_seeds_give_equal_intervals_and_others_do_not():
    ours, theirs = score(noise=1.0), score(noise=2.0)
    assert ours.bootstrap(theirs, 1) == ours.bootstrap(theirs, 1)
    assert ours.bootstrap(theirs, 1) != ours.bootstrap(theirs, 2)


def test_every_score_lies_within_its_interval():
    ours, theirs = score(noise=1.0, crps=True), score(noise=2.0, crps=True, seed=1)
    overall, found = ours.relative_to(theirs), ours.bootstrap(theirs)
    assert set(found) == set(overall)
    assert {"rmse", "rmse_skill", "crps", "crps_skill", "owa", "coverage_80", "mse_normalized"} <= set(found)
    for name, (low, high) in found.items():
        assert low <= overall[name] <= high, name


def test_of_more_time_it_is_narrower():
    def width(days):
        low, high = score(noise=1.0, days=days).bootstrap(score(noise=2.0, days=days, seed=1))["rmse"]
        return high - low

    assert width(160) < 0.7 * width(40)


def test_ours_and_the_reference_are_drawn_together():
    ours, same, other = score(noise=1.0), score(noise=1.0), score(noise=1.0, seed=5)
    assert ours.bootstrap(same)["rmse_skill"] == (0, 0)
    low, high = ours.bootstrap(other)["rmse_skill"]
    assert low < 0 < high  # of equal quality


def test_of_too_little_time_nothing_is_said():
    found = score(days=1).bootstrap(score(days=1, noise=2.0))
    assert {"rmse", "rmse_skill", "owa"} <= set(found) and np.isnan(list(found.values())).all()
