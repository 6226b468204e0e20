"""Conformal prediction intervals, separately for each step of the horizon and each target.

Split conformal: the offset of level p is the ⌈(n + 1)·p⌉-th smallest conformity score of n validation windows (Lei et
al. 2018, "Distribution-free predictive inference for regression"). The score is the distance of the actual value from
the interval between the learned quantiles, negative inside it (Romano, Patterson & Candès 2019, "Conformalized quantile
regression"); without learned quantiles it is the absolute error. Neighbouring windows overlap, so the scores are not
exchangeable and the coverage guarantee is approximate: coverage on the test span is measured and logged.

Adaptive: from there the offsets follow the errors as they become known, see `lstm.forecasting.adaptive`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np

from lstm.data.scaling import TargetScale
from lstm.errors import ConfigError
from lstm.forecasting.adaptive import Origins, offsets_at_origins, update_offsets
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import Band, Bands

_LEVELS = np.arange(1, 100) / 100


@dataclass(frozen=True)
class Conformal:
    """Offsets that turn base intervals into calibrated ones, for every whole percent from 1 to 99.

    The base interval is the pair of learned quantiles, or the point forecast if there are none. Its ends move outwards
    by the offset, inwards if the offset is negative.
    """

    quantile_offsets: np.ndarray  # (99, horizon, targets) float64, normalised: row p - 1 is the level of p percent
    quantiles: tuple[float, ...] = ()  # levels of the learned quantiles; (): the base is the point forecast
    calibrated_until: np.datetime64 | None = None  # UTC: first step ahead of the newest window whose errors are used

    @classmethod
    def fit(
        cls,
        actual: np.ndarray,
        prediction: Prediction | np.ndarray,
        calibrated_until: np.datetime64 | None = None,
    ) -> Self:
        """Return the split conformal intervals of validation windows.

        Args:
            actual: (windows, horizon, targets), normalised; NaN where not measured.
            prediction: of the same windows; an array is a point forecast without quantiles.
            calibrated_until: first step ahead of the newest window, from which `Forecaster.recalibrate` continues.
        """
        prediction = Prediction.of(prediction)
        count = (~np.isnan(actual)).sum(axis=0)  # (horizon, targets)
        if prediction.quantiles is None:  # the score is the same for all levels
            scores = _sorted_scores(actual, prediction, _LEVELS[:1])
            offsets = [_score_quantile(scores, count, level) for level in _LEVELS]
        else:
            offsets = [
                _score_quantile(_sorted_scores(actual, prediction, level[None]), count, level) for level in _LEVELS
            ]
        return cls(np.nan_to_num(np.stack(offsets)), prediction.levels, calibrated_until)

    def level_offsets(self, level: int) -> np.ndarray:
        """Return the offsets of a level in percent: (horizon, targets), normalised.

        Raises:
            ConfigError: the level is not a whole percent from 1 to 99.
        """
        if level not in range(1, 100):
            raise ConfigError(f"levels must be whole percents from 1 to 99, but got {level!r}.")
        return self.quantile_offsets[int(level) - 1]

    def bands(self, prediction: Prediction | np.ndarray, levels: Sequence[int], scale: TargetScale) -> Bands:
        """Return lower and upper ends by level, in raw units.

        Intervals are nested: each contains those of the lower levels in `levels`, and all contain the point forecast.
        Without quantiles they are symmetric on the normalised scale, so with `normalize.log` not in raw units.

        Args:
            prediction: of the windows; an array is a point forecast without quantiles.
            levels: in percent.
            scale: of the targets, broadcast to (windows, horizon, targets).

        Raises:
            ConfigError: a level is not a whole percent from 1 to 99, or the quantiles are not those of the calibration.
        """
        bands = dict(self.iter_bands(prediction, levels, scale))
        return {level: bands[level] for level in levels}

    def iter_bands(
        self, prediction: Prediction | np.ndarray, levels: Sequence[int], scale: TargetScale
    ) -> Iterator[tuple[int, Band]]:
        """Yield the level and the band of `bands`, in rising order; one at a time needs less memory."""
        offsets = ((level, self.level_offsets(level)) for level in sorted(set(levels)))
        return _nested_bands(self._check_quantiles(prediction), offsets, scale)

    def iter_adaptive_bands(
        self,
        origins: Origins,
        actual: np.ndarray,
        prediction: Prediction | np.ndarray,
        levels: Sequence[int],
        scale: TargetScale,
    ) -> Iterator[tuple[int, Band]]:
        """Yield the bands of each window as of its origin: the offsets have followed the errors known by then.

        These intervals are those before the first window. What is known at an origin are the actual values of the
        rows before it.

        Args:
            origins: of the windows.
            actual: (windows, horizon, targets), normalised; NaN where not measured.
            prediction, levels, scale: as for `bands`.

        Yields:
            The level, in rising order, and the lower and upper ends: (windows, horizon, targets), raw units.

        Raises:
            ConfigError: as `bands`.
        """
        prediction, schedule = self._check_quantiles(prediction), origins.error_schedule(actual.shape[1])
        offsets = (
            (level, offsets_at_origins(self.level_offsets(level), level / 100, schedule, actual, prediction))
            for level in sorted(set(levels))
        )
        yield from _nested_bands(prediction, offsets, scale)

    def update(self, origins: Origins, actual: np.ndarray, prediction: Prediction | np.ndarray) -> Self:
        """Return the intervals after all errors of some windows, taken in the order in which they became known.

        Args:
            origins: of the windows.
            actual: (windows, horizon, targets), normalised; NaN where not measured.
            prediction: of the same windows.

        Raises:
            ConfigError: the quantiles are not those of the calibration.
        """
        if not len(actual):
            return self
        prediction, schedule = self._check_quantiles(prediction), origins.error_schedule(actual.shape[1])
        offsets = update_offsets(self.quantile_offsets, _LEVELS, schedule, actual, prediction)
        return replace(self, quantile_offsets=offsets, calibrated_until=origins.times.max())

    def _check_quantiles(self, prediction: Prediction | np.ndarray) -> Prediction:
        prediction = Prediction.of(prediction)
        if prediction.levels != self.quantiles:
            raise ConfigError(
                f"intervals calibrated for quantiles {list(self.quantiles)} can't be used for a forecast with "
                f"quantiles {list(prediction.levels)}: fit them on forecasts of the same network."
            )
        return prediction

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON-ready form that `from_dict` reads."""
        until = None if self.calibrated_until is None else str(self.calibrated_until)
        return {"radius": self.quantile_offsets.tolist(), "quantiles": list(self.quantiles), "until": until}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the intervals that `to_dict` described.

        Raises:
            ConfigError: a key is missing, since an earlier version saved the forecaster.
        """
        missing = {"radius", "quantiles", "until"} - set(state)
        if missing:
            raise ConfigError(
                f"intervals: key {min(missing)!r} is missing: an earlier version saved this forecaster. Train it again."
            )
        until = None if state["until"] is None else np.datetime64(state["until"], "us")
        return cls(np.array(state["radius"], dtype=np.float64), tuple(state["quantiles"]), until)


def _nested_bands(
    prediction: Prediction, offsets: Iterator[tuple[int, np.ndarray]], scale: TargetScale
) -> Iterator[tuple[int, Band]]:
    """Yield level and band in raw units; levels rise, each band contains the one before, the first the forecast."""
    lower = upper = prediction.point
    for level, offset in offsets:
        center, half = prediction.base_intervals(np.array([level / 100]))
        half_width = np.maximum(half[0] + offset, 0)
        lower, upper = np.minimum(lower, center[0] - half_width), np.maximum(upper, center[0] + half_width)
        yield level, (scale.denormalize(lower), scale.denormalize(upper))


def _sorted_scores(actual: np.ndarray, prediction: Prediction, level: np.ndarray) -> np.ndarray:
    """Return the conformity scores of one level, sorted along the windows, NaN last: (windows, horizon, targets)."""
    center, half = prediction.base_intervals(level)
    return np.sort(np.abs(actual - center[0]) - half[0], axis=0)


def _score_quantile(scores: np.ndarray, count: np.ndarray, level: float) -> np.ndarray:
    """Return the ⌈(count + 1)·level⌉-th smallest score, or the largest if there are fewer: (horizon, targets)."""
    rank = np.clip(np.ceil((count + 1) * level).astype(int), 1, np.maximum(count, 1)) - 1
    return np.take_along_axis(scores, rank[None], axis=0)[0]
