import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.signal import lfilter
from scipy.stats import ks_2samp, norm
from scipy.stats import t as student

from lstm.diagnostics.spans import Span
from lstm.monitoring.drift import cusum_chart, daily_rmse, input_shifts

DAY = np.timedelta64(24, "h")
START = np.datetime64("2021-01-01", "us")


def hours(values, start=START):
    times = start + np.arange(len(values)) * np.timedelta64(1, "h")
    return Span(np.asarray(values, np.float64).reshape(len(values), 1), np.zeros(len(values), np.int32), times)


def seasonal(seed, years=1.5, phi=0.95, days=30, level=0.0, spread=1.0):
    """Hours of an AR(1) with a daily and a yearly wave, cut before the last days, which may be moved."""
    count = int(years * 8766) + days * 24
    noise = lfilter([1], [1, -phi], np.random.default_rng(seed).normal(size=count)) * np.sqrt(1 - phi**2)
    wave = np.sin(2 * np.pi * np.arange(count) / 24) + 2 * np.sin(2 * np.pi * np.arange(count) / 8766)
    values, cut = noise + wave, count - days * 24
    values[cut:] = values[cut:].mean() + spread * (values[cut:] - values[cut:].mean()) + level
    return hours(values[:cut]), hours(values[cut:], START + cut * np.timedelta64(1, "h"))


def share_of_drifts(**changes):
    shifts = [input_shifts(*seasonal(seed, **changes), ("x",), 0.25, 0.2) for seed in range(20)]
    return np.mean([shift.drifted for (shift,) in shifts])


def test_a_chart_sums_scores_above_half_a_deviation():
    backtest = np.exp(np.random.default_rng(0).normal(0, 0.3, 1000))
    mean, spread = np.log(backtest).mean(), np.log(backtest).std(ddof=1)
    chart = cusum_chart(backtest, np.exp(mean + spread * np.array([1.0, 1, -3, 2, 2, 9])), 4)
    assert chart.scores == pytest.approx([1, 1, -3, 2, 2, 4], abs=0.02)
    assert chart.sums == pytest.approx([0.5, 1.0, 0, 1.5, 3.0, 6.5], abs=0.1)
    assert chart.since == 3
    assert not cusum_chart(backtest, backtest[:1], 4).alarm


def test_scores_against_few_days_follow_students_t():
    backtest = np.exp([0.0, 0.2, 0.4, 0.1, 0.3])
    logs = np.log(backtest)
    t = (0.9 - logs.mean()) / (logs.std(ddof=1) * np.sqrt(1 + 1 / 5))
    assert cusum_chart(backtest, np.exp([0.9]), 4).scores[0] == pytest.approx(norm.isf(student.sf(t, 4)))


def test_one_day_alone_is_no_alarm_and_two_awful_ones_are():
    backtest = np.exp(np.random.default_rng(1).normal(0, 0.2, 60))
    quiet = np.full(10, np.exp(np.log(backtest).mean()))
    limit = cusum_chart(backtest, quiet, 4).limit
    assert limit >= 4
    assert not cusum_chart(backtest, np.r_[quiet, 1000.0], 4).alarm
    assert cusum_chart(backtest, np.r_[quiet, 1000.0, 1000.0], 4).alarm


def test_a_past_disturbance_is_forgotten():
    backtest = np.exp(np.random.default_rng(1).normal(0, 0.2, 60))
    quiet = np.full(20, np.exp(np.log(backtest).mean()))
    chart = cusum_chart(backtest, np.r_[np.full(10, 1000.0), quiet], 4)
    assert chart.sums.max() == 2 * chart.limit
    assert not chart.alarm


def test_a_chart_needs_five_days_of_backtest():
    assert cusum_chart(np.ones(4), np.ones(9), 4) is None
    assert cusum_chart(np.ones(5), np.ones(9), 4) is not None


@given(arrays(np.float64, st.integers(5, 40), elements=st.floats(0.1, 10)), st.floats(0.01, 100))
@settings(max_examples=25)
def test_a_chart_does_not_depend_on_the_unit_of_the_errors(errors, unit):
    chart, rescaled = cusum_chart(errors[:5], errors, 4), cusum_chart(unit * errors[:5], unit * errors, 4)
    assert rescaled.sums == pytest.approx(chart.sums, abs=1e-6)


def test_days_are_counted_back_from_the_end_and_incomplete_days_are_left_out():
    times = START + np.arange(60) * np.timedelta64(1, "h")  # 2.5 days: the oldest one has 12 hours
    ages, errors = daily_rmse(times, np.r_[np.full(12, 9.0), np.full(24, 4.0), np.full(24, 1.0)], times[-1] + 1, DAY)
    assert ages.tolist() == [2, 1, 0]
    assert errors.tolist() == [3, 2, 1]
    ages, errors = daily_rmse(times[1:], np.ones(59), times[-1] + 1, DAY)
    assert ages.tolist() == [1, 0]


def test_errors_of_stationary_days_seldom_alarm_and_tripled_ones_nearly_always_do():
    random = np.random.default_rng(0)
    alarms = hits = 0
    for _ in range(200):
        noise = lfilter([1], [1, -0.5], random.normal(0, 0.2, 130))[40:]
        backtest, live = np.exp(noise[:60]), np.exp(noise[60:])
        alarms += _drifts(backtest, live)
        hits += _drifts(backtest, np.r_[live[:26], 3 * live[26:]])
    assert alarms <= 6
    assert hits >= 180


def _drifts(backtest, live):
    chart = cusum_chart(backtest, live, 4)
    return chart.alarm and np.mean(live[chart.latest] ** 2) >= 4 * np.mean(backtest**2)


def test_a_season_and_autocorrelation_are_no_drift_of_an_input():
    assert share_of_drifts() <= 0.05


def test_an_input_that_moved_by_more_than_its_season_has_drifted():
    assert share_of_drifts(phi=0.8, level=1.5) >= 0.9


def test_a_significance_test_would_call_this_season_drift():
    training, recent = seasonal(0)
    assert ks_2samp(training.values[:, 0], recent.values[:, 0]).pvalue < 1e-6


def test_inputs_are_not_judged_if_training_is_shorter_than_a_year():
    (shift,) = input_shifts(*seasonal(0, years=0.5, level=9.0), ("x",), 0.25, 0.2)
    assert shift.ks > 0.9 and not shift.drifted


def test_inputs_are_compared_with_the_same_part_of_the_year():
    training, _ = seasonal(0, years=2)
    # The summer of a third year, as the two before were; against the whole of training it lies far off.
    peak = slice(75 * 24, 105 * 24)
    third = hours(training.values[peak, 0], START + np.timedelta64(730 + 75, "D"))
    (shift,) = input_shifts(training, third, ("x",), 0.25, 0.2)
    assert shift.ks < 0.3 < ks_2samp(training.values[:, 0], third.values[:, 0]).statistic


def test_columns_are_judged_separately_without_missing_values_and_the_farthest_comes_first():
    training, recent = seasonal(0)
    reference = np.random.default_rng(0).normal(size=(len(training.times), 2))
    now = np.random.default_rng(1).normal(size=(len(recent.times), 2)) + np.array([0, 3])
    now[::3, 0] = np.nan
    longer = Span(np.c_[reference, np.full(len(reference), np.nan)], training.series, training.times)
    newest = Span(np.c_[now, np.zeros(len(now))], recent.series, recent.times)
    shifts = input_shifts(longer, newest, ("calm", "moved", "empty"), 0.25, 0.2)
    assert [(shift.column, shift.drifted) for shift in shifts] == [("moved", True), ("calm", False)]
    assert shifts[0].moved == pytest.approx(3, abs=0.2)


def test_an_empty_window_has_no_shifts():
    training, _ = seasonal(0, years=0.2)
    assert input_shifts(training, hours([]), ("x",), 0.25, 0.2) == ()
