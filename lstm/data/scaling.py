"""Normalizers per series (or one for all): from a panel in raw units to arrays for a network."""

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

ALL_SERIES = "\0all"  # can't be the name of a series in a file
_MAX_LIST = 300  # characters of a list of series in a message
_MAX_LOG = 700.0  # exp of more overflows


@dataclass(frozen=True)
class TargetScale:
    """Maps targets to the scale of the networks and back: `(x - center) / scale`; x is ln(raw) if `log`."""

    center: np.ndarray  # (..., targets) float64
    scale: np.ndarray  # the same shape
    log: bool = False

    def __getitem__(self, index: Any) -> "TargetScale":
        return TargetScale(self.center[index], self.scale[index], self.log)

    def normalize(self, raw: np.ndarray) -> np.ndarray:
        """Map raw values to the scale of the networks; their shape must broadcast with (..., targets)."""
        return ((np.log(raw) if self.log else raw) - self.center) / self.scale

    def denormalize(self, normalized: np.ndarray) -> np.ndarray:
        """Map normalized values back to raw units.

        With `log`, quantiles stay quantiles but the mean does not stay the mean: a forecast is the median in raw units
        and lies below the mean.
        """
        values = normalized * self.scale + self.center
        return np.exp(np.minimum(values, _MAX_LOG)) if self.log else values


@dataclass(frozen=True)
class PanelNormalizer:
    """Center and scale of each measured column, per series or, under the name `ALL_SERIES`, for all series."""

    names: tuple[str, ...]
    center: np.ndarray  # (names, scaled columns) float64; of the targets' logarithms if `log`
    scale: np.ndarray  # (names, scaled columns) float64
    n_targets: int
    log: bool = False

    @classmethod
    def fit(cls, statistics: Statistics, spec: NormalizeSpec, n_targets: int, static: Statistics | None = None) -> Self:
        """Fit to statistics of the training span.

        Args:
            statistics: of the scaled columns, in the layout's order, complete.
            spec: strategy, and whether the statistics of the targets are of their logarithms.
            n_targets: number of targets, the first columns.
            static: of the static columns (the last ones), over all series: scaled per series, a static column would
                always be 0.
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
        """Return whether the series was in the training, or one normalizer serves all series."""
        return self.names == (ALL_SERIES,) or name in self._position

    def series_rows(self, names: Sequence[str]) -> np.ndarray:
        """Return the rows of `center` and `scale` for these series: (series,) int64.

        Raises:
            DataError: a series was not in the training.
        """
        if self.names == (ALL_SERIES,):
            return np.zeros(len(names), np.int64)
        for name in names:
            if name not in self._position:
                raise DataError(
                    f"series {name!r} was not there in training.{did_you_mean(name, self.names, _MAX_LIST)}"
                )
        return np.array([self._position[name] for name in names], np.int64)

    def normalize_features(self, panel: Panel) -> np.ndarray:
        """Return normalized values, (rows, columns) float32. A missing covariate becomes 0, its training center.

        Raises:
            DataError: a series was not in the training, or a target has no logarithm.
        """
        row, width = self.series_rows(panel.names)[panel.series], self.n_targets
        features = panel.values.astype(np.float32)
        features[:, :width] = self._normalize(panel, panel.values[:, :width])
        for number, column in enumerate(panel.layout.scaled[width:], start=width):
            features[:, column] = (panel.values[:, column] - self.center[row, number]) / self.scale[row, number]
        features[:, width:] = np.nan_to_num(features[:, width:])
        return features

    def normalize_targets(self, panel: Panel) -> np.ndarray:
        """Return normalized measured targets, (rows, targets) float32, NaN where not measured.

        Raises:
            DataError: as for `normalize_features`.
        """
        return self._normalize(panel, panel.actual).astype(np.float32)

    def target_scale(self, names: Sequence[str]) -> TargetScale:
        """Return the scale of the targets of these series: (series, targets)."""
        rows = self.series_rows(names)
        return TargetScale(self.center[rows, : self.n_targets], self.scale[rows, : self.n_targets], self.log)

    def _normalize(self, panel: Panel, targets: np.ndarray) -> np.ndarray:
        """Map targets in raw units, (rows, targets) of the panel, to the scale of the networks."""
        if self.log and (targets <= 0).any():
            row, column = np.argwhere(targets <= 0)[0]
            series, time = panel.names[panel.series[row]], pd.Timestamp(panel.times[row])
            raise log_domain_error(series, panel.layout.columns[column], targets[row, column], time)
        return self.target_scale(panel.names)[panel.series].normalize(targets)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-ready description for `from_dict`."""
        return {
            "n_targets": self.n_targets,
            "names": list(self.names),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "log": self.log,
        }

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """Return the normalizer that `to_dict` described; older descriptions have no `log`."""
        center, scale = (np.array(state[key], np.float64) for key in ("center", "scale"))
        return cls(tuple(state["names"]), center, scale, state["n_targets"], state.get("log", False))


def log_domain_error(series: str, column: str, value: float, time: pd.Timestamp) -> DataError:
    """Return the error that a target has no logarithm at `time` (UTC, without a zone)."""
    return DataError(
        f"series {series!r}: target {column!r} must be above 0 where normalize.log is true, but is {value:g} at "
        f"{time.isoformat()}Z. Set normalize.log: false, or leave a missing value empty."
    )
