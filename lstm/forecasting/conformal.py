"""Prediction intervals by conformal prediction, step by step of the horizon.

Split: the radius of level p is the ⌈(n + 1)·p⌉-th smallest score of n validation windows (Lei et al. 2018,
"Distribution-free predictive inference for regression"). The score is how far the actual value lies outside of the
interval that the learned quantiles make, negative inside (Romano, Patterson & Candès 2019, "Conformalized quantile
regression"); of a forecast without quantiles it is the absolute error. Neighbouring windows overlap, so the guarantee
is approximate: coverage on the test span is measured and logged.

Adaptive: from there the radius follows the errors as they become known, by quantile tracking (Gibbs & Candès 2021,
"Adaptive conformal inference under distribution shift"; Angelopoulos, Candès & Tibshirani 2023, "Conformal PID control
for time series prediction", the P part). An actual value outside of the present interval of level p raises its radius
by `STEP`·p half widths of the interval, one inside lowers it by `STEP`·(1 - p): in the long run a share p lies inside,
whatever the errors do. The radius is all there is to keep.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lstm.data.scaling import TargetScale
from lstm.errors import ConfigError
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import Bands

if TYPE_CHECKING:
    from lstm.evaluation.scoring import ScoredWindows

Band = tuple[np.ndarray, np.ndarray]
# Chosen on validation alone: calibrated on the first half of it and followed through the second, of weather, ETTh1,
# demand and stocks, with and without quantiles, coverage of 80 and 95 % came nearest to nominal of 0 (split), 0.005,
# 0.01, 0.02, 0.03, 0.05 and 0.1, and the pinball loss lies within 0.1 % of the lowest.
STEP = 0.03
_NARROW = 1e-3  # half width that a step is a share of at least, in normalised units: so that a radius of 0 can grow
_NUMBERS = 4_000_000  # that a step of the walk has in memory at once, about
_LEVELS = np.arange(1, 100) / 100


@dataclass(frozen=True)
class Conformal:
    """How much wider than their base the intervals are on either side, in normalised units, for every whole percent.

    The base is the pair of learned quantiles, or the point where there are none. A negative radius makes it narrower.
    """

    radius: np.ndarray  # (99, horizon, targets) float64: row p - 1 is the level of p percent
    quantiles: tuple[float, ...] = ()  # levels of the quantiles that it was learned for
    until: np.datetime64 | None = None  # UTC: the first step ahead of the newest window whose errors it knows

    @classmethod
    def fit(cls, actual: np.ndarray, prediction: Prediction | np.ndarray, until: np.datetime64 | None = None) -> Self:
        """Learn from validation.

        Args:
            actual: (windows, horizon, targets), normalised; NaN: not measured.
            prediction: of the same windows; a bare array is a forecast without quantiles.
            until: the newest window's first step ahead, for `Forecaster.recalibrated` to go on from.
        """
        made = Prediction.of(prediction)
        count = (~np.isnan(actual)).sum(axis=0)  # (horizon, targets)
        if made.quantiles is None:  # one score for all levels
            ordered = _ordered(actual, made, _LEVELS[:1])
            radius = [_ranked(ordered, count, level) for level in _LEVELS]
        else:
            radius = [_ranked(_ordered(actual, made, level[None]), count, level) for level in _LEVELS]
        return cls(np.nan_to_num(np.stack(radius)), made.levels, until)

    def half_width(self, level: int) -> np.ndarray:
        """The radius of the level in percent: (horizon, targets).

        Raises:
            ConfigError: the level is no whole percent from 1 to 99.
        """
        return self.radius[_checked(level) - 1]

    def bands(self, prediction: Prediction | np.ndarray, levels: Sequence[int], scale: TargetScale) -> Bands:
        """Lower and upper ends, in raw units.

        A wider level reaches at least as far as the narrower ones that are asked for with it, and all of them hold the
        forecast. Without quantiles they are as far from it on both sides on the networks' scale; with the logarithm
        not in raw units.

        Raises:
            ConfigError: a level is no whole percent from 1 to 99, or the quantiles are not those it was learned for.
        """
        found = dict(self._each_band(prediction, levels, scale))
        return {level: found[level] for level in levels}

    def _each_band(
        self, prediction: Prediction | np.ndarray, levels: Sequence[int], scale: TargetScale
    ) -> Iterator[tuple[int, Band]]:
        radius = ((level, self.half_width(level)) for level in sorted(set(levels)))
        return _nested(self._fitting(prediction), radius, scale)

    def followed(self, origins: "Origins", actual: np.ndarray, prediction: Prediction | np.ndarray) -> Self:
        """The same after all errors of some windows, in the order in which they became known.

        Args:
            origins: of the windows.
            actual: (windows, horizon, targets), normalised; NaN: not measured.
            prediction: of the same windows.

        Raises:
            ConfigError: the quantiles are not those it was learned for.
        """
        if not len(actual):
            return self
        made, news = self._fitting(prediction), origins.news(actual.shape[1])
        most = int(np.diff(news.bounds).max()) * actual.shape[2]  # numbers that a moment brings to each level
        parts = np.array_split(np.arange(99), min(1 + 99 * most // _NUMBERS, 99))
        walks = (deque(_walk(self.radius[part], _LEVELS[part], news, actual, made), maxlen=1) for part in parts)
        radius = np.concatenate([now for ((_, now),) in walks])
        return replace(self, radius=radius, until=origins.times.max())

    def _fitting(self, prediction: Prediction | np.ndarray) -> Prediction:
        made = Prediction.of(prediction)
        if made.levels != self.quantiles:
            raise ConfigError(
                f"intervals that were learned for quantiles {list(self.quantiles)} can't be put around a forecast with "
                f"quantiles {list(made.levels)}: fit them on the same network's forecasts."
            )
        return made

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `from_dict`."""
        until = None if self.until is None else str(self.until)
        return {"radius": self.radius.tolist(), "quantiles": list(self.quantiles), "until": until}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """What `to_dict` described.

        Raises:
            ConfigError: an earlier version described it.
        """
        missing = {"radius", "quantiles", "until"} - set(state)
        if missing:
            raise ConfigError(
                f"intervals: {min(missing)!r} is not there: an earlier version saved this forecaster. Train it again."
            )
        until = None if state["until"] is None else np.datetime64(state["until"], "us")
        return cls(np.array(state["radius"], dtype=np.float64), tuple(state["quantiles"]), until)


def split_bands(
    intervals: Conformal, split: "ScoredWindows", prediction: Prediction | np.ndarray, levels: Sequence[int]
) -> Iterator[tuple[int, Band]]:
    """`Conformal.bands` of the windows of a split, with the arguments and in the order of `adaptive_bands`."""
    return intervals._each_band(prediction, levels, split.scale)


def adaptive_bands(
    intervals: Conformal, split: "ScoredWindows", prediction: Prediction | np.ndarray, levels: Sequence[int]
) -> Iterator[tuple[int, Band]]:
    """The bands of each window as they would have been at its origin, had the radius followed all errors known by then.

    Args:
        intervals: as they were before the first window.
        split: the windows; what is known at an origin are the actual values of rows before it.
        prediction: of these windows.
        levels: in percent; they come in rising order, one at a time, so that few arrays are in memory.

    Yields:
        The level, and lower and upper ends (windows, horizon, targets) in raw units.

    Raises:
        ConfigError: as `Conformal.bands` does.
    """
    made = intervals._fitting(prediction)
    origins = Origins(split.windows.origins.cpu().numpy(), split.series, split.times)
    news = origins.news(split.actual.shape[1])
    radius = (
        (level, _at_origins(intervals.half_width(level), level, news, split.actual, made))
        for level in sorted(set(levels))
    )
    yield from _nested(made, radius, split.scale)


@dataclass(frozen=True)
class Origins:
    """Where windows start to forecast: rows of series one after the other, rising."""

    rows: np.ndarray  # (windows,) int64
    series: np.ndarray  # (windows,) int
    times: np.ndarray  # (windows,) datetime64: of the first step ahead

    def news(self, horizon: int) -> "_News":
        """What becomes known when.

        The error of a step is known at the first origin of its series that lies after the step's row; at none of
        these, after all of them, in the order of the windows' origins.
        """
        moments, rank = np.unique(self.times, return_inverse=True)
        later = np.searchsorted(self.rows, self.rows[:, None] + np.arange(1, horizon + 1))  # (windows, horizon)
        next_one = np.minimum(later, len(self.rows) - 1)
        there = (later < len(self.rows)) & (self.series[next_one] == self.series[:, None])
        known = np.where(there, rank[next_one], len(moments) + rank[:, None])
        window, step = np.divmod(np.lexsort([np.tile(np.arange(horizon), len(known)), known.ravel()]), horizon)
        bounds = np.searchsorted(known[window, step], np.arange(2 * len(moments) + 1))
        return _News(rank, window, step, bounds)


@dataclass(frozen=True)
class _News:
    """Errors in the order in which they become known, those of one moment by step."""

    rank: np.ndarray  # (windows,) int: the moment of each window's origin, counted from 0
    window: np.ndarray  # (errors,) int
    step: np.ndarray  # (errors,) int
    bounds: np.ndarray  # (2 · moments + 1,) int: the errors of moment m are those from bounds[m] to bounds[m + 1]

    def at(self, moment: int) -> tuple[np.ndarray, np.ndarray]:
        """Window and step of each error that becomes known at the moment."""
        now = slice(self.bounds[moment], self.bounds[moment + 1])
        return self.window[now], self.step[now]


def _walk(
    radius: np.ndarray, levels: np.ndarray, news: _News, actual: np.ndarray, prediction: Prediction
) -> Iterator[tuple[int, np.ndarray]]:
    """Each moment, and the radius then, (levels, horizon, targets): after the errors that are known by then.

    A level goes its way whatever the others do, and a step whatever the other steps do. All series of one moment move
    it together, by their mean.
    """
    radius, share = radius.copy(), levels[:, None, None]
    for moment in range(len(news.bounds) - 1):
        window, step = news.at(moment)
        if len(window):
            first = np.flatnonzero(np.r_[True, step[1:] != step[:-1]])  # the first error of each step
            moved, came = step[first], actual[window, step]  # (steps,), (errors, targets)
            center, half = prediction[window, step].base(levels)  # (levels, errors, targets)
            measured = ~np.isnan(came - prediction.point[window, step])
            count = np.maximum(np.add.reduceat(measured, first, dtype=np.float64), 1)  # (steps, targets)
            outside = np.abs(came - center) - half > radius[:, step]
            half = np.add.reduceat(np.where(measured, half, 0), first, axis=1) / count
            excess = np.add.reduceat(outside - (1 - share) * measured, first, axis=1) / count
            radius[:, moved] += STEP * excess * np.maximum(half + radius[:, moved], _NARROW)
        yield moment, radius


def _at_origins(radius: np.ndarray, level: int, news: _News, actual: np.ndarray, prediction: Prediction) -> np.ndarray:
    """The radius of one level at each window's origin: (windows, horizon, targets)."""
    moments = len(news.bounds) // 2
    found = np.empty((moments, *radius.shape))
    for moment, now in _walk(radius[None], np.array([level / 100]), news, actual, prediction):
        if moment == moments:
            break  # what becomes known only after the last origin
        found[moment] = now[0]
    return found[news.rank]


def _nested(
    prediction: Prediction, radius: Iterator[tuple[int, np.ndarray]], scale: TargetScale
) -> Iterator[tuple[int, Band]]:
    """The bands of levels that come in rising order: each holds the one before, and the first the forecast."""
    lower = upper = prediction.point
    for level, width in radius:
        center, half = prediction.base(np.array([level / 100]))
        reach = np.maximum(half[0] + width, 0)
        lower, upper = np.minimum(lower, center[0] - reach), np.maximum(upper, center[0] + reach)
        yield level, (scale.raw(lower), scale.raw(upper))


def _ordered(actual: np.ndarray, prediction: Prediction, level: np.ndarray) -> np.ndarray:
    """The scores of one level, rising along the windows; NaN at the end."""
    center, half = prediction.base(level)
    return np.sort(np.abs(actual - center[0]) - half[0], axis=0)


def _ranked(ordered: np.ndarray, count: np.ndarray, level: float) -> np.ndarray:
    """(horizon, targets): the ⌈(count + 1) · level⌉-th of the scores."""
    rank = np.clip(np.ceil((count + 1) * level).astype(int), 1, np.maximum(count, 1)) - 1
    return np.take_along_axis(ordered, rank[None], axis=0)[0]


def _checked(level: int) -> int:
    if level not in range(1, 100):
        raise ConfigError(f"levels must be whole percents from 1 to 99, but got {level!r}.")
    return int(level)
