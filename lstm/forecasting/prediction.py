"""What networks predict: a point forecast, and quantiles if they have learned some."""

from dataclasses import dataclass
from typing import Self

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """Forecasts of some windows, normalised."""

    point: np.ndarray  # (windows, horizon, targets) float64
    quantiles: np.ndarray | None = None  # (windows, horizon, targets, levels) float64, rising along the last axis
    levels: tuple[float, ...] = ()  # of the quantiles, rising, within (0, 1)

    @classmethod
    def of(cls, forecast: "Prediction | np.ndarray") -> "Prediction":
        """Return a prediction unchanged, and a point forecast as a prediction without quantiles."""
        return forecast if isinstance(forecast, Prediction) else cls(forecast)

    def __getitem__(self, index: slice | np.ndarray | tuple[np.ndarray, np.ndarray]) -> Self:
        """Select windows, or pairs of window and step."""
        quantiles = None if self.quantiles is None else self.quantiles[index]
        return type(self)(self.point[index], quantiles, self.levels)

    def base_intervals(self, coverage: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return centers and half widths of the intervals between the quantiles, before calibration.

        The ends of level p are the quantiles (1 − p) / 2 and (1 + p) / 2: interpolated linearly between the learned
        levels, and the outermost quantile beyond them. Without quantiles: the point forecast, and half widths of 0.

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
        """Return interpolated quantiles: (levels, windows, horizon, targets)."""
        assert self.quantiles is not None
        position = np.interp(levels, self.levels, np.arange(len(self.levels)))
        below = position.astype(int)
        above, share = np.minimum(below + 1, len(self.levels) - 1), position - below
        mixed = (1 - share) * self.quantiles[..., below] + share * self.quantiles[..., above]
        return np.moveaxis(mixed, -1, 0)
