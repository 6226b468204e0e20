"""One normaliser a series (or one for all), between a panel in raw units and arrays for a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import pandas as pd

from lstm.config.preparation import NormalizeSpec
from lstm.data.normalize import Statistics, center_and_scale
from lstm.data.panel import Panel
from lstm.errors import DataError, did_you_mean

ALL_SERIES = "\0all"  # a name that no file can give to a series
_LONGEST = 300  # characters of a list of series, of which there may be thousands
_LARGEST = 700.0  # of a logarithm: exp of more is no number any more


@dataclass(frozen=True)
class TargetScale:
    """Between targets in raw units and what networks see: `(x - center) / scale`, x being ln(raw) where `log`."""

    center: np.ndarray  # (..., targets) float64
    scale: np.ndarray  # the same shape
    log: bool = False

    def __getitem__(self, index: Any) -> "TargetScale":
        return TargetScale(self.center[index], self.scale[index], self.log)

    def normalize(self, raw: np.ndarray) -> np.ndarray:
        """What networks see of raw values; their shape must fit to (..., targets)."""
        return ((np.log(raw) if self.log else raw) - self.center) / self.scale

    def denormalize(self, normalized: np.ndarray) -> np.ndarray:
        """In the units of the targets.

        With `log` a median stays the median and a quantile the quantile, but a mean does not: the mean of exp is not
        exp of the mean. So a forecast is the median in raw units, and lies below the mean.
        """
        values = normalized * self.scale + self.center
        return np.exp(np.minimum(values, _LARGEST)) if self.log else values


@dataclass(frozen=True)
class PanelNormalizer:
    """Center and scale of each measured column by series; the single name `ALL_SERIES` stands for all series."""

    names: tuple[str, ...]
    center: np.ndarray  # (names, scaled columns) float64, of the targets' logarithm where `log`
    scale: np.ndarray  # (names, scaled columns) float64
    n_targets: int
    log: bool = False

    @classmethod
    def fit(cls, statistics: Statistics, spec: NormalizeSpec, n_targets: int, static: Statistics | None = None) -> Self:
        """Learn from statistics of the training span.

        Args:
            statistics: of the scaled columns, in the layout's order; no value may be missing.
            spec: strategy, and whether the statistics of the targets are those of their logarithms.
            n_targets: how many of the first columns are targets.
            static: of the static columns (the last ones), over all series together: scaled within its series
                a column that never changes would always be 0.
        """
        center, scale = center_and_scale(spec.strategy, statistics)
        if static is not None:
            width = static.mean.shape[1]
            center[:, -width:], scale[:, -width:] = center_and_scale(spec.strategy, static)
        return cls(statistics.names, center, scale, n_targets, spec.log)

    @cached_property
    def _position(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    def knows(self, name: str) -> bool:
        """Whether the series was there in training, or one normaliser serves all."""
        return self.names == (ALL_SERIES,) or name in self._position

    def series_rows(self, names: Sequence[str]) -> np.ndarray:
        """Where the center and scale of these series are: (series,) int64.

        Raises:
            DataError: a series was not there in training.
        """
        if self.names == (ALL_SERIES,):
            return np.zeros(len(names), np.int64)
        for name in names:
            if name not in self._position:
                raise DataError(f"series {name!r} was not there in training.{did_you_mean(name, self.names, _LONGEST)}")
        return np.array([self._position[name] for name in names], np.int64)

    def normalize_features(self, panel: Panel) -> np.ndarray:
        """Normalised values, (rows, columns) float32. A missing covariate becomes 0: its training center.

        Raises:
            DataError: a series was not there in training, or a target has no logarithm.
        """
        row, width = self.series_rows(panel.names)[panel.series], self.n_targets
        features = panel.values.astype(np.float32)
        features[:, :width] = self._normalized(panel, panel.values[:, :width])
        for number, column in enumerate(panel.layout.scaled[width:], start=width):
            features[:, column] = (panel.values[:, column] - self.center[row, number]) / self.scale[row, number]
        features[:, width:] = np.nan_to_num(features[:, width:])
        return features

    def normalize_targets(self, panel: Panel) -> np.ndarray:
        """Normalised measured targets, (rows, targets) float32, NaN where not measured.

        Raises:
            DataError: as `features` does.
        """
        return self._normalized(panel, panel.actual).astype(np.float32)

    def target_scale(self, names: Sequence[str]) -> TargetScale:
        """The scale of the targets of these series: (series, targets)."""
        rows = self.series_rows(names)
        return TargetScale(self.center[rows, : self.n_targets], self.scale[rows, : self.n_targets], self.log)

    def _normalized(self, panel: Panel, targets: np.ndarray) -> np.ndarray:
        """Targets in raw units, (rows, targets) of the panel, on the networks' scale."""
        if self.log and (targets <= 0).any():
            row, column = np.argwhere(targets <= 0)[0]
            series, moment = panel.names[panel.series[row]], pd.Timestamp(panel.times[row])
            raise log_domain_error(series, panel.layout.columns[column], targets[row, column], moment)
        return self.target_scale(panel.names)[panel.series].normalize(targets)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `from_dict`."""
        return {
            "n_targets": self.n_targets,
            "names": list(self.names),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "log": self.log,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """What `to_dict` described; `log` is younger than the rest of it."""
        center, scale = (np.array(state[key], np.float64) for key in ("center", "scale"))
        return cls(tuple(state["names"]), center, scale, state["n_targets"], state.get("log", False))


def log_domain_error(series: str, column: str, value: float, moment: pd.Timestamp) -> DataError:
    """That a target can't be modelled on the log scale: `moment` in UTC, without a zone."""
    return DataError(
        f"series {series!r}: target {column!r} must be above 0 where normalize.log is true, but is {value:g} at "
        f"{moment.isoformat()}Z. Set normalize.log: false, or leave a missing value empty."
    )
