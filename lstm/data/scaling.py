"""One normaliser a series (or one for all), between a panel in raw units and arrays for a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np

from lstm.data.normalize import Statistics, centered_and_scaled
from lstm.data.panel import Panel
from lstm.data.spec import NormalizeSpec
from lstm.errors import DataError, nearest

ALL = "\0all"  # a name that no file can give to a series


@dataclass(frozen=True)
class PanelNormalizer:
    """Center and scale of each measured column by series; the single name `ALL` stands for all series."""

    names: tuple[str, ...]
    center: np.ndarray  # (names, scaled columns) float64
    scale: np.ndarray  # (names, scaled columns) float64
    n_targets: int

    @classmethod
    def fit(cls, statistics: Statistics, spec: NormalizeSpec, n_targets: int, static: Statistics | None = None) -> Self:
        """Learn from statistics of the training span.

        Args:
            statistics: of the scaled columns, in the layout's order; no value may be missing.
            spec: strategy.
            n_targets: how many of the first columns are targets.
            static: of the static columns (the last ones), over all series together: scaled within its series
                a column that never changes would always be 0.
        """
        center, scale = centered_and_scaled(spec.strategy, statistics)
        if static is not None:
            width = static.mean.shape[1]
            center[:, -width:], scale[:, -width:] = centered_and_scaled(spec.strategy, static)
        return cls(statistics.names, center, scale, n_targets)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def knows(self, name: str) -> bool:
        """Whether the series was there in training, or one normaliser serves all."""
        return self.names == (ALL,) or name in self._position

    def rows_of(self, names: Sequence[str]) -> np.ndarray:
        """Where the center and scale of these series are: (series,) int64.

        Raises:
            DataError: a series was not there in training.
        """
        if self.names == (ALL,):
            return np.zeros(len(names), np.int64)
        for name in names:
            if name not in self._position:
                raise DataError(f"series {name!r} was not there in training.{nearest(name, self.names)}")
        return np.array([self._position[name] for name in names], np.int64)

    def features(self, panel: Panel) -> np.ndarray:
        """Normalised values, (rows, columns) float32. A missing covariate becomes 0: its training center."""
        row = self.rows_of(panel.names)[panel.series]
        features = panel.values.astype(np.float32)
        for number, column in enumerate(panel.layout.scaled):
            features[:, column] = (panel.values[:, column] - self.center[row, number]) / self.scale[row, number]
        features[:, self.n_targets :] = np.nan_to_num(features[:, self.n_targets :])
        return features

    def targets(self, panel: Panel) -> np.ndarray:
        """Normalised measured targets, (rows, targets) float32, NaN where not measured."""
        center, scale = self.target_scales(panel.names)
        return ((panel.actual - center[panel.series]) / scale[panel.series]).astype(np.float32)

    def target_scales(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale of the targets, each (series, targets): raw = normalised * scale + center."""
        rows = self.rows_of(names)
        return self.center[rows, : self.n_targets], self.scale[rows, : self.n_targets]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `from_dict`."""
        return {
            "n_targets": self.n_targets,
            "names": list(self.names),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """What `to_dict` described."""
        center, scale = (
            np.array(state[key], np.float64).reshape(len(state["names"]), -1) for key in ("center", "scale")
        )
        return cls(tuple(state["names"]), center, scale, state["n_targets"])
