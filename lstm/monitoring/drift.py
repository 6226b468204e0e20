"""Whether the world has moved since the training: the inputs' distributions, and the errors.

Inputs are judged by the size of a shift, not by a p-value. Neighbouring rows of a series depend on each other, so that
the two-sample Kolmogorov–Smirnov test of a month of hours, which counts 720 independent values, rejects nearly always.
And a month of a seasonal series never looks like a whole year. So a window is held against the same part of the year in
training, and must lie farther off than stretches of training of the same length lie from the rest of their own season.
Where training is shorter than a year nobody knows what a season does: distances are told, and not judged.

Inputs that moved are a warning; errors that rose are drift, which is worth a training. The one need not follow from the
other (Gama et al. 2014, "A survey on concept drift adaptation", ACM Comput. Surv. 46: virtual and real drift): a series
with a trend leaves its training's range for ever, and forecasts may be as good as ever.

Errors are judged by a CUSUM chart (Page 1954, "Continuous inspection schemes", Biometrika 41) rather than by the test
of Page–Hinkley, which is the same sum around a running mean: here the mean that the errors should have is known, since
the backtest promised it, and a running mean would take a model that was bad from its first day on for the normal case.
A day's error is put beside the days of the backtest by the Q statistic, which allows for how few these are (Quesenberry
1991, "SPC Q charts for start-up processes and short or long runs", J. Qual. Technol. 23).
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr

from lstm.diagnostics.spans import Span
from lstm.metrics.shift import KS_MARGIN, distribution_shift, stretch_starts

MIN_DAYS = 5  # of a backtest that a chart is drawn beside

_ALLOWANCE = 0.5  # standard deviations a day: half of the shift that is looked for
_LARGEST = 4.0  # standard deviations that one day counts at most: no single day is an alarm
_WEEK = 7  # days: what came before them would hide by its mean what comes now
_NARROWEST = 0.05  # standard deviation of the logarithm of days' errors, at least
_NEAR_ZERO = 1e-9  # of a root mean square error on the scale of MASE
_DAY = np.timedelta64(24, "h")
_YEAR, _AROUND = np.timedelta64(365, "D"), np.timedelta64(45, "D")


@dataclass(frozen=True)
class InputShift:
    """How far the newest values of a column lie from those of training."""

    column: str
    psi: float  # population stability index, see `lstm.metrics.shift.population_stability`
    ks: float  # Kolmogorov–Smirnov distance, 0 to 1
    usual_psi: float  # the largest between a stretch of training and the rest; 0 where there are no two of them
    usual_ks: float
    moved: float  # of the mean, in standard deviations of the reference
    judged: bool  # whether training spans a year; where not, nobody knows what a season does
    drifted: bool


@dataclass(frozen=True)
class CusumChart:
    """A CUSUM chart of the errors of days that follow each other, all (days,)."""

    scores: np.ndarray  # standard deviations above the backtest's mean, within ±4
    sums: np.ndarray  # S_t = min(max(0, S_{t-1} + score - 0.5), 2 · limit)
    limit: float  # the threshold, or what the backtest's own days came to where that is more

    @property
    def since(self) -> int:
        """The first day of the rise that the chart ends in; the number of days where it ends at 0."""
        zero = np.flatnonzero(self.sums == 0)
        return int(zero[-1]) + 1 if len(zero) else 0

    @property
    def latest(self) -> slice:
        """The newest days of that rise, a week of them at most; where there is none, the newest week."""
        days = len(self.sums)
        return slice(max(self.since if self.since < days else 0, days - _WEEK), None)

    @property
    def alarm(self) -> bool:
        """Whether the newest sum is over the limit."""
        return bool(len(self.sums) and self.sums[-1] > self.limit)


def input_shifts(
    training: Span, recent: Span, columns: tuple[str, ...], psi: float, ks: float
) -> tuple[InputShift, ...]:
    """Each column's shift, the farthest first; columns without a value on either side are left out.

    A column has drifted where training spans a year, PSI and distance are over their thresholds, and both over what
    stretches of training come to, the distance by 0.05.

    Args:
        training: rows of the training span; values (rows, columns), NaN where missing.
        recent: the window, of the same columns on the same scale.
        columns: their names.
        psi, ks: the thresholds. From 0.25 on a PSI is a large shift by convention (Siddiqi 2006, Credit Risk
            Scorecards).
    """
    if not len(recent.times) or not len(training.times):
        return ()
    first, last, whole_year = recent.times.min(), recent.times.max(), np.ptp(training.times) >= _YEAR
    stretches = [(start, start + (last - first)) for start in stretch_starts(training.times, last - first)]
    reference, usual = _in_season(training.times, first, last), [_rest(training.times, *one) for one in stretches]
    found = []
    for number, column in enumerate(columns):
        values = training.values[:, number]
        own = _sizes(values[reference], recent.values[:, number])
        if own is None:
            continue
        others = [sizes for inside, rest in usual if (sizes := _sizes(values[rest], values[inside])) is not None]
        usual_psi, usual_ks = (max((one[side] for one in others), default=0.0) for side in (0, 1))
        far = own[0] >= psi and own[1] >= ks and own[0] > usual_psi and own[1] > usual_ks + KS_MARGIN
        moved = _moved(values[reference], recent.values[:, number])
        found.append(InputShift(column, *own, usual_psi, usual_ks, moved, bool(whole_year), bool(whole_year and far)))
    return tuple(sorted(found, key=lambda one: (-one.drifted, -one.ks)))


def _rest(times: np.ndarray, first: np.datetime64, last: np.datetime64) -> tuple[np.ndarray, np.ndarray]:
    """Rows of a stretch, and the rows of its season that are not in it."""
    inside = (times >= first) & (times <= last)
    return inside, _in_season(times, first, last) & ~inside


def _in_season(times: np.ndarray, first: np.datetime64, last: np.datetime64) -> np.ndarray:
    """(rows,) bool: times of the same part of any year, ±45 days; all of them where they span less than a year."""
    if np.ptp(times) < _YEAR:
        return np.ones(len(times), bool)
    phase = (times - (first - _AROUND)) % np.timedelta64(8766, "h")  # of a year of 365.25 days
    return phase <= (last - first) + 2 * _AROUND


def _sizes(reference: np.ndarray, values: np.ndarray) -> tuple[float, float] | None:
    found = distribution_shift(reference[~np.isnan(reference)], values[~np.isnan(values)])
    return (found["psi"], found["ks"]) if found else None


def _moved(reference: np.ndarray, values: np.ndarray) -> float:
    spread = float(np.nanstd(reference))
    return float(np.nanmean(values) - np.nanmean(reference)) / spread if spread > 0 else 0.0


def daily_rmse(
    times: np.ndarray, squared: np.ndarray, end: np.datetime64, day: np.timedelta64 = _DAY
) -> tuple[np.ndarray, np.ndarray]:
    """Root mean square error of whole days counted back from a moment, the oldest first.

    A day with less than half of the usual number of errors is left out: only some steps ahead are known of it.

    Args:
        times: (errors,) datetime64, when what was forecast came.
        squared: (errors,) squared errors, scaled so that series can be put together.
        end: the last day ends here, not included.
        day: how long it is; a step of the data where that is longer than a day.

    Returns:
        How many days before `end` each day ends, falling, (days,) int64, and the errors, (days,).
    """
    if not len(times):
        return np.zeros(0, np.int64), np.zeros(0)
    age = np.floor_divide(end - times - np.timedelta64(1, "us"), day).astype(np.int64)
    kept = age >= 0
    counts, sums = np.bincount(age[kept]), np.bincount(age[kept], squared[kept])
    days = np.flatnonzero(counts >= 0.5 * np.median(counts[counts > 0]))[::-1]
    return days, np.sqrt(sums[days] / counts[days])


def cusum_chart(backtest: np.ndarray, live: np.ndarray, threshold: float) -> CusumChart | None:
    """The chart of days' errors beside those of the backtest; None of a backtest of fewer than 5 days.

    Args:
        backtest: (days,) root mean square errors, on the scale of `live`.
        live: (days,) in order.
        threshold: that the sum must pass, in standard deviations: 4 or 5 with the allowance of a half (Montgomery,
            Statistical Quality Control, 9.1).
    """
    if len(backtest) < MIN_DAYS:
        return None
    promised, came = (np.log(np.maximum(one, _NEAR_ZERO)) for one in (backtest, live))
    own = _sums(_scores(promised, promised), np.inf)
    limit = max(threshold, float(own.max()))
    scores = _scores(promised, came)
    return CusumChart(scores, _sums(scores, 2 * limit), limit)


def _scores(promised: np.ndarray, came: np.ndarray) -> np.ndarray:
    """Q statistics: normal of variance 1 where `came` is distributed as the few `promised` are, if those are normal."""
    count, spread = len(promised), max(float(promised.std(ddof=1)), _NARROWEST)
    t = (came - promised.mean()) / (spread * np.sqrt(1 + 1 / count))
    tail = np.maximum(stdtr(count - 1, -np.abs(t)), np.finfo(float).tiny)
    return np.clip(-np.sign(t) * ndtri(tail), -_LARGEST, _LARGEST)


def _sums(scores: np.ndarray, most: float) -> np.ndarray:
    sums = np.zeros(len(scores))
    before = 0.0
    for number, score in enumerate(scores):
        before = sums[number] = min(max(0.0, before + score - _ALLOWANCE), most)
    return sums
