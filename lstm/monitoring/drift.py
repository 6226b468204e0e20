"""Drift since training: shifts of the inputs' distributions, and a CUSUM chart of the forecast errors.

Inputs are judged by the size of a shift, not by a p-value. Neighbouring rows of a series are dependent, so a two-sample
Kolmogorov–Smirnov test of a month of hours, which assumes 720 independent values, nearly always rejects. A month of a
seasonal series never looks like a whole year either. So the window is compared with the same part of the year in
training, and must be farther off than stretches of training of the same length are from the rest of their season. If
training is shorter than a year, its seasons are unknown: distances are reported, but not judged.

Shifted inputs are a warning; risen errors are drift, which justifies a new training. The former need not cause the
latter (Gama et al. 2014, "A survey on concept drift adaptation", ACM Comput. Surv. 46: virtual and real drift): a
series with a trend leaves its training's range for ever, and forecasts may stay good.

Errors are judged by a CUSUM chart (Page 1954, "Continuous inspection schemes", Biometrika 41), not by the
Page–Hinkley test, which is the same sum around a running mean: the expected mean is known from the backtest, and a
running mean would accept a model that is bad from its first day. A day's error is compared with the days of the
backtest by the Q statistic, which allows for their small number (Quesenberry 1991, "SPC Q charts for start-up processes
and short or long runs", J. Qual. Technol. 23).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr

from lstm.diagnostics.spans import Span
from lstm.metrics.shift import KS_MARGIN, distribution_shift, stretch_starts

MIN_DAYS = 5  # of a backtest, for a chart

_ALLOWANCE = 0.5  # standard deviations per day: half of the shift to detect
_MAX_SCORE = 4.0  # standard deviations that one day counts at most, so that no single day raises an alarm
_LATEST_DAYS = 7  # averaging over more would hide the newest errors
_MIN_STD = 0.05  # of the logarithm of daily errors
_MIN_RMSE = 1e-9  # on the scale of MASE
_DAY = np.timedelta64(24, "h")
_YEAR, _SEASON_MARGIN = np.timedelta64(365, "D"), np.timedelta64(45, "D")
_JULIAN_YEAR = np.timedelta64(8766, "h")  # 365.25 days


@dataclass(frozen=True)
class InputShift:
    """How far the newest values of a column are from those of training."""

    column: str
    psi: float  # population stability index, see `lstm.metrics.shift.population_stability`
    ks: float  # Kolmogorov–Smirnov distance, 0 to 1
    usual_psi: float  # largest PSI between a stretch of training and the rest; 0 if no two stretches fit
    usual_ks: float
    moved: float  # shift of the mean, in standard deviations of the reference
    judged: bool  # whether training spans a year, so that its seasons are known
    drifted: bool


@dataclass(frozen=True)
class CusumChart:
    """A CUSUM chart of the errors of consecutive days; arrays are (days,)."""

    scores: np.ndarray  # standard deviations above the backtest's mean, within ±4
    sums: np.ndarray  # S_t = min(max(0, S_{t-1} + score - 0.5), 2 · limit)
    limit: float  # the threshold, or the largest sum of the backtest's own days if that is more

    @property
    def since(self) -> int:
        """The first day of the rise that the chart ends in; the number of days if it ends at 0."""
        zero = np.flatnonzero(self.sums == 0)
        return int(zero[-1]) + 1 if len(zero) else 0

    @property
    def latest(self) -> slice:
        """The newest days of that rise, at most a week of them; without a rise, the newest week."""
        days = len(self.sums)
        return slice(max(self.since if self.since < days else 0, days - _LATEST_DAYS), None)

    @property
    def alarm(self) -> bool:
        """Whether the newest sum is over the limit."""
        return bool(len(self.sums) and self.sums[-1] > self.limit)


def input_shifts(
    training: Span, recent: Span, columns: tuple[str, ...], psi: float, ks: float
) -> tuple[InputShift, ...]:
    """Return each column's shift, the farthest first; columns without a value on either side are left out.

    A column has drifted if training spans a year, PSI and distance exceed their thresholds, and both exceed those of
    stretches of training, the distance by 0.05.

    Args:
        training: rows of the training span; values (rows, columns), NaN where missing.
        recent: the window, of the same columns on the same scale.
        columns: their names.
        psi, ks: the thresholds. From 0.25 on a PSI is a large shift by convention (Siddiqi 2006, Credit Risk
            Scorecards).
    """
    if not len(recent.times) or not len(training.times):
        return ()
    first, last, whole_year = recent.times.min(), recent.times.max(), bool(np.ptp(training.times) >= _YEAR)
    starts = stretch_starts(training.times, last - first)
    in_season = _in_season(training.times, first, last)
    stretches = [_stretch_and_rest(training.times, start, start + (last - first)) for start in starts]
    shifts = []
    for number, column in enumerate(columns):
        reference, values = training.values[in_season, number], recent.values[:, number]
        size = _shift_size(reference, values)
        if size is None:
            continue
        usual_psi, usual_ks = _usual_shift(training.values[:, number], stretches)
        far = size[0] >= psi and size[1] >= ks and size[0] > usual_psi and size[1] > usual_ks + KS_MARGIN
        moved = _mean_shift(reference, values)
        shifts.append(InputShift(column, *size, usual_psi, usual_ks, moved, whole_year, whole_year and far))
    return tuple(sorted(shifts, key=lambda shift: (-shift.drifted, -shift.ks)))


def _stretch_and_rest(times: np.ndarray, first: np.datetime64, last: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of a stretch, and the other rows of its season, (rows,) bool each."""
    inside = (times >= first) & (times <= last)
    return inside, _in_season(times, first, last) & ~inside


def _in_season(times: np.ndarray, first: np.datetime64, last: np.datetime64) -> np.ndarray:
    """Return which times lie in the same part of any year ±45 days, (rows,) bool; all if they span under a year."""
    if np.ptp(times) < _YEAR:
        return np.ones(len(times), bool)
    phase = (times - (first - _SEASON_MARGIN)) % _JULIAN_YEAR
    return phase <= (last - first) + 2 * _SEASON_MARGIN


def _usual_shift(values: np.ndarray, stretches: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Return the largest PSI and the largest distance between a stretch of training and the rest of its season."""
    sizes = [size for inside, rest in stretches if (size := _shift_size(values[rest], values[inside])) is not None]
    return max((psi for psi, _ in sizes), default=0.0), max((ks for _, ks in sizes), default=0.0)


def _shift_size(reference: np.ndarray, values: np.ndarray) -> tuple[float, float] | None:
    shift = distribution_shift(reference[~np.isnan(reference)], values[~np.isnan(values)])
    return (shift["psi"], shift["ks"]) if shift else None


def _mean_shift(reference: np.ndarray, values: np.ndarray) -> float:
    spread = float(np.nanstd(reference))
    return float(np.nanmean(values) - np.nanmean(reference)) / spread if spread > 0 else 0.0


def daily_rmse(
    times: np.ndarray, squared: np.ndarray, end: np.datetime64, day: np.timedelta64 = _DAY
) -> tuple[np.ndarray, np.ndarray]:
    """Return the root mean square error of whole days counted back from a time, the oldest first.

    A day with less than half of the median number of errors is left out, since only some horizons count for it yet.

    Args:
        times: (errors,) datetime64 of the forecast values.
        squared: (errors,) squared errors, on a scale that all series share.
        end: end of the last day, exclusive.
        day: its length; a step of the data if that is longer than a day.

    Returns:
        How many days before `end` each day ends, falling, (days,) int64, and the errors, (days,).
    """
    if not len(times):
        return np.zeros(0, np.int64), np.zeros(0)
    age = np.floor_divide(end - times - np.timedelta64(1, "us"), day).astype(np.int64)
    past = age >= 0
    counts, sums = np.bincount(age[past]), np.bincount(age[past], squared[past])
    days = np.flatnonzero(counts >= 0.5 * np.median(counts[counts > 0]))[::-1]
    return days, np.sqrt(sums[days] / counts[days])


def cusum_chart(backtest: np.ndarray, live: np.ndarray, threshold: float) -> CusumChart | None:
    """Return the chart of daily errors against those of the backtest; None if that has fewer than 5 days.

    Args:
        backtest: (days,) root mean square errors, on the scale of `live`.
        live: (days,) in order.
        threshold: of the sum, in standard deviations: 4 or 5 with the allowance of a half (Montgomery, Statistical
            Quality Control, 9.1).
    """
    if len(backtest) < MIN_DAYS:
        return None
    expected, actual = (np.log(np.maximum(errors, _MIN_RMSE)) for errors in (backtest, live))
    backtest_sums = _cusum(_q_statistics(expected, expected), np.inf)
    limit = max(threshold, float(backtest_sums.max()))
    scores = _q_statistics(expected, actual)
    return CusumChart(scores, _cusum(scores, 2 * limit), limit)


def _q_statistics(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return standard normal scores if `actual` has the distribution of `expected` and that is normal, (days,)."""
    count, spread = len(expected), max(float(expected.std(ddof=1)), _MIN_STD)
    t = (actual - expected.mean()) / (spread * np.sqrt(1 + 1 / count))
    tail = np.maximum(stdtr(count - 1, -np.abs(t)), np.finfo(float).tiny)
    return np.clip(-np.sign(t) * ndtri(tail), -_MAX_SCORE, _MAX_SCORE)


def _cusum(scores: np.ndarray, maximum: float) -> np.ndarray:
    sums = np.zeros(len(scores))
    total = 0.0
    for number, score in enumerate(scores):
        total = sums[number] = min(max(0.0, total + score - _ALLOWANCE), maximum)
    return sums
