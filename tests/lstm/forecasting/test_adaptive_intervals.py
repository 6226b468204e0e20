"""Intervals that follow the errors: hand-worked cases, slow loops, no look ahead, coverage under drift."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lstm.evaluation.bands import adaptive_bands, split_bands
from lstm.forecasting import adaptive
from lstm.forecasting.adaptive import STEP_SIZE, Origins
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.prediction import Prediction
from tests.support.calibration import LEARNED, START, make_windows


def test_the_radius_follows_the_errors_of_a_hand_worked_case():
    actual = np.array([2.0, 0.5, np.nan, 1.01])[:, None, None]
    made = Conformal(np.ones((99, 1, 1)))
    ((_, (low, high)),) = adaptive_bands(made, make_windows(range(4), actual=actual), np.zeros((4, 1, 1)), [80])
    up = 1 + STEP_SIZE * 0.8  # 2.0 lies outside
    down = up - STEP_SIZE * 0.2 * up  # 0.5 inside
    np.testing.assert_allclose(high.ravel(), [1, up, down, down])  # nothing was measured, nothing moves
    np.testing.assert_allclose(low, -high)
    last = made.update(Origins(np.arange(4), np.zeros(4, int), np.arange(4)), actual, np.zeros((4, 1, 1)))
    assert last.level_offsets(80).item() == pytest.approx(down - STEP_SIZE * 0.2 * down)


def test_an_error_counts_from_the_first_origin_after_its_step():
    actual = np.zeros((6, 3, 1))
    actual[0] = 9  # of the first window alone
    made = Conformal(np.ones((99, 3, 1)))
    ((_, (_, high)),) = adaptive_bands(made, make_windows(range(6), actual=actual), np.zeros((6, 3, 1)), [80])
    rises = np.diff(high[..., 0], axis=0) > 0
    # step k of the window at row 0 is row k, which the window at row k + 1 is the first to see
    assert np.argwhere(rises).tolist() == [[0, 0], [1, 1], [2, 2]]


def test_all_series_of_one_moment_move_the_radius_together():
    actual = np.array([5.0, 0, 0, 0, 0, 0])[:, None, None]  # three series of two windows
    split = make_windows([0, 1, 10, 11, 20, 21], [0, 0, 1, 1, 2, 2], hours=[0, 1] * 3, actual=actual)
    ((_, (_, high)),) = adaptive_bands(Conformal(np.ones((99, 1, 1))), split, np.zeros((6, 1, 1)), [80])
    mean = (0.8 - 0.2 + 0.0 - 0.2 - 0.0) / 3  # 1 - 0.2, and twice 0 - 0.2
    assert mean == pytest.approx(0.4 / 3)
    np.testing.assert_allclose(high.ravel(), [1, 1 + STEP_SIZE * mean * 1] * 3, rtol=1e-3)


def random_case(seed, quantiles):
    """Three series, one beginning late, one with a gap, one half an hour off; values missing here and there."""
    random = np.random.default_rng(seed)
    rows = np.r_[np.arange(0, 40), np.arange(60, 80), np.arange(90, 102), np.arange(110, 120), np.arange(140, 170)]
    series = np.repeat([0, 1, 1, 2], [40, 20, 22, 30])
    hours = np.select([series == 0, series == 1], [rows, rows - 60], rows - 140)
    shape = (len(rows), 4, 2)
    learned = np.sort(random.normal(0, 1, (*shape, 3)), axis=-1)
    prediction = Prediction(learned[..., 1], learned if quantiles else None, LEARNED if quantiles else ())
    values = random.normal(0, 2, (200, 2))  # of rows: windows that overlap see the same
    values[random.random((200, 2)) < 0.1] = np.nan
    split = make_windows(rows, series, hours, actual=values[rows[:, None] + np.arange(4)])
    times = split.origins.times + (series == 2) * np.timedelta64(30, "m")
    split.origins = replace(split.origins, times=times)
    radius = np.sort(random.normal(1, 0.5, (99, 4, 2)), axis=0)
    return Conformal(radius, prediction.levels), split, prediction, values


def loops(intervals, split, prediction, level):
    """The radius at each origin, window by window: by definition, knowing only rows that lie before."""
    rows, share = split.origins.rows, level / 100
    (centers,), (halves,) = np.broadcast_arrays(*prediction.base_intervals(np.array([share])))
    moments = np.unique(split.origins.times)
    windows, horizon, targets = split.actual.shape
    now, found = intervals.level_offsets(level).copy(), np.empty(split.actual.shape)
    known = np.zeros((windows, horizon), bool)
    for moment in moments:
        # what each series has seen by now: the rows before its newest origin
        seen = {
            s: rows[(split.origins.series == s) & (split.origins.times <= moment)].max(initial=-1)
            for s in set(split.origins.series)
        }
        for step in range(horizon):
            new = [w for w in range(windows) if not known[w, step] and rows[w] + step < seen[split.origins.series[w]]]
            known[new, step] = True
            for target in range(targets):
                there = [w for w in new if not np.isnan(split.actual[w, step, target])]
                if not there:
                    continue
                r = now[step, target]
                half = np.mean([halves[w, step, target] for w in there])
                scores = [abs(split.actual[w, step, target] - centers[w, step, target]) for w in there]
                out = [score - halves[w, step, target] > r for score, w in zip(scores, there, strict=True)]
                now[step, target] += STEP_SIZE * (np.mean(out) - (1 - share)) * max(half + r, 1e-3)
        found[split.origins.times == moment] = now
    return found


@pytest.mark.parametrize("quantiles", [False, True])
def test_adaptive_bands_are_those_of_slow_loops(quantiles):
    made, split, prediction, _ = random_case(1, quantiles)
    for level in (50, 95):
        ((_, (low, high)),) = adaptive_bands(made, split, prediction, [level])
        radius = loops(made, split, prediction, level)
        (center,), (half,) = prediction.base_intervals(np.array([level / 100]))
        np.testing.assert_allclose(low, np.minimum(prediction.point, center - np.maximum(half + radius, 0)), rtol=1e-12)
        np.testing.assert_allclose(
            high, np.maximum(prediction.point, center + np.maximum(half + radius, 0)), rtol=1e-12
        )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.integers(0, 111))
def test_what_comes_at_an_origin_or_later_changes_nothing_of_its_bands(seed, quantiles, chosen):
    made, split, prediction, values = random_case(seed, quantiles)
    before = dict(adaptive_bands(made, split, prediction, [80, 95]))
    rows, hour = split.origins.rows, split.origins.times[chosen]
    step_hours = split.origins.times[:, None] + np.arange(4) * np.timedelta64(1, "h")
    later = step_hours >= hour
    changed = np.where(later[..., None], 100 * values[::-1][rows[:, None] + np.arange(4)], split.actual)
    after = dict(adaptive_bands(made, SimpleNamespace(**{**vars(split), "actual": changed}), prediction, [80, 95]))
    up_to = split.origins.times <= hour
    for level in (80, 95):
        for end, other in zip(before[level], after[level], strict=True):
            assert (end[up_to] == other[up_to]).all()


def test_what_came_before_an_origin_does_change_its_bands():
    made, split, prediction, _ = random_case(3, True)
    ((_, (low, _)),) = adaptive_bands(made, split, prediction, [80])
    split.actual = split.actual.copy()
    split.actual[0] = 100
    ((_, (other, _)),) = adaptive_bands(made, split, prediction, [80])
    assert (low[0] == other[0]).all() and (low[30] != other[30]).any()


@pytest.mark.slow
@pytest.mark.parametrize("quantiles", [False, True])
def test_under_drift_split_fails_and_adaptive_holds(quantiles):
    random = np.random.default_rng(5)
    growth = np.linspace(1, 3, 3000)[:, None, None]
    calibration, came = random.normal(0, 1, (1000, 2, 1)), random.normal(0, 1, (3000, 2, 1)) * growth
    learned = [np.broadcast_to(stats.norm.ppf(LEARNED), (count, 2, 1, 3)) for count in (1000, 3000)]
    before, after = (
        Prediction(one[..., 1], one if quantiles else None, LEARNED if quantiles else ()) for one in learned
    )
    made, split = Conformal.fit(calibration, before), make_windows(range(3000), actual=came)
    for level in (80, 95):
        covered = {
            bands: np.mean([(low <= came) & (came <= high) for _, (low, high) in bands(made, split, after, [level])])
            for bands in (split_bands, adaptive_bands)
        }
        assert covered[split_bands] < level / 100 - 0.12
        assert covered[adaptive_bands] == pytest.approx(level / 100, abs=0.03)


def test_without_drift_adaptive_bands_are_hardly_worse():
    random = np.random.default_rng(6)
    calibration, came = random.normal(0, 1, (2, 4000, 1, 1))
    made, split = Conformal.fit(calibration, 0 * calibration), make_windows(range(4000), actual=came)
    for level in (80, 95):
        ((_, (low, high)),) = adaptive_bands(made, split, 0 * came, [level])
        assert ((low <= came) & (came <= high)).mean() == pytest.approx(level / 100, abs=0.01)
        assert (high - low).mean() == pytest.approx(2 * stats.norm.ppf(0.5 + level / 200), rel=0.05)


def test_a_radius_of_nothing_grows():
    came = np.full((3000, 1, 1), 2.0)
    split = make_windows(range(3000), actual=came)
    ((_, (_, high)),) = adaptive_bands(Conformal(np.zeros((99, 1, 1))), split, 0 * came, [80])
    assert high[-1].item() == pytest.approx(2, rel=0.05)


def test_following_in_two_goes_is_following_in_one():
    random = np.random.default_rng(7)
    actual, times = random.normal(0, 2, (60, 5, 2)), START + np.arange(60) * np.timedelta64(1, "h")
    actual[random.random(actual.shape) < 0.2] = np.nan
    made = Conformal(np.sort(random.random((99, 5, 2)), axis=0), calibrated_until=START - np.timedelta64(1, "h"))

    def followed(intervals, part):
        rows = np.arange(60)[part]
        return intervals.update(Origins(rows, 0 * rows, times[part]), actual[part], 0 * actual[part])

    once = followed(made, slice(None))
    twice = followed(followed(made, slice(0, 23)), slice(23, None))
    assert (once.quantile_offsets == twice.quantile_offsets).all()
    assert once.calibrated_until == twice.calibrated_until == times[-1]
    assert (once.quantile_offsets != made.quantile_offsets).any()
    assert followed(once, slice(60, None)) is once


def test_following_all_levels_part_by_part_gives_the_same_bits(monkeypatch):
    made, split, prediction, _ = random_case(8, True)
    origins = split.origins
    together = made.update(origins, split.actual, prediction)
    monkeypatch.setattr(adaptive, "_MAX_VALUES", 100)
    assert (made.update(origins, split.actual, prediction).quantile_offsets == together.quantile_offsets).all()
