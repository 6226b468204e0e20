"""Prediction intervals by split conformal prediction over validation windows, step by step of the horizon.

The radius of level p is the ⌈(n + 1)·p⌉-th smallest absolute error of n validation windows (Lei et al.
2018, "Distribution-free predictive inference for regression"). Neighbouring windows overlap, so the
guarantee is approximate: coverage on the test span is measured and logged.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lstm.data.scaling import TargetScale
from lstm.errors import ConfigError
from lstm.evaluation.metrics import Bands


@dataclass(frozen=True)
class Conformal:
    """Half widths of the intervals, in normalised units, for every whole percent."""

    radius: np.ndarray  # (99, horizon, targets) float64: row p - 1 is the level of p percent

    @classmethod
    def fit(cls, actual: np.ndarray, forecast: np.ndarray) -> Self:
        """Learn the half widths from (windows, horizon, targets) of validation, NaN left out."""
        error = np.sort(np.abs(actual - forecast), axis=0)  # NaN sorts to the end
        count = (~np.isnan(error)).sum(axis=0)  # (horizon, targets)
        levels = np.arange(1, 100)[:, None, None] / 100
        rank = np.clip(np.ceil((count + 1) * levels).astype(int), 1, np.maximum(count, 1)) - 1
        return cls(np.nan_to_num(np.take_along_axis(error, rank, axis=0)))

    def half_width(self, level: int) -> np.ndarray:
        """(horizon, targets) of the level in percent.

        Raises:
            ConfigError: the level is no whole percent from 1 to 99.
        """
        if level not in range(1, 100):
            raise ConfigError(f"levels must be whole percents from 1 to 99, but got {level!r}.")
        return self.radius[int(level) - 1]

    def bands(self, forecast: np.ndarray, levels: Sequence[int], scale: TargetScale) -> Bands:
        """Lower and upper ends, in raw units, around a normalised forecast (..., horizon, targets).

        On the networks' scale they are as far from the forecast on both sides; with the logarithm in raw units not.

        Raises:
            ConfigError: a level is no whole percent from 1 to 99.
        """
        half = {level: self.half_width(level) for level in levels}
        return {level: (scale.raw(forecast - width), scale.raw(forecast + width)) for level, width in half.items()}

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `from_dict`."""
        return {"radius": self.radius.tolist()}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """What `to_dict` described."""
        return cls(np.array(state["radius"], dtype=np.float64))
