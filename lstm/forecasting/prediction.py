"""What networks say of the steps ahead: a point, and quantiles where they have learned some."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Of some windows, on the networks' normalised scale."""

    point: np.ndarray  # (windows, horizon, targets) float64
    quantiles: np.ndarray | None = None  # (windows, horizon, targets, levels) float64, rising along the last axis
    levels: tuple[float, ...] = ()  # of the quantiles, rising within (0, 1)

    @classmethod
    def of(cls, forecast: "Prediction | np.ndarray") -> "Prediction":
        """The same, or a bare point forecast as a prediction without quantiles."""
        return forecast if isinstance(forecast, Prediction) else cls(forecast)

    def __getitem__(self, index: slice | np.ndarray | tuple[np.ndarray, np.ndarray]) -> Self:
        """Of some windows, or of pairs of window and step."""
        quantiles = None if self.quantiles is None else self.quantiles[index]
        return type(self)(self.point[index], quantiles, self.levels)

    def base_intervals(self, coverage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Centers and half widths of the intervals that the quantiles make by themselves, before any calibration.

        The ends of level p are the quantiles (1 - p) / 2 and (1 + p) / 2, between two learned ones by linear
        interpolation, and beyond the outermost ones those. Without quantiles: the point, and no width.

        Args:
            coverage: (levels,) of the intervals, within (0, 1).

        Returns:
            Two arrays that broadcast to (levels, windows, horizon, targets), normalised.
        """
        if self.quantiles is None:
            return self.point[None], np.zeros((1,) * (self.point.ndim + 1))
        lower, upper = self._quantile((1 - coverage) / 2), self._quantile((1 + coverage) / 2)
        return (lower + upper) / 2, (upper - lower) / 2

    def _quantile(self, levels: np.ndarray) -> np.ndarray:
        """(levels, windows, horizon, targets)."""
        assert self.quantiles is not None
        place = np.interp(levels, self.levels, np.arange(len(self.levels)))
        below = place.astype(int)
        above, part = np.minimum(below + 1, len(self.levels) - 1), place - below
        mixed = (1 - part) * self.quantiles[..., below] + part * self.quantiles[..., above]
        return np.moveaxis(mixed, -1, 0)
