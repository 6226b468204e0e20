"""One normaliser a series (or one for all), between a panel in raw units and arrays for a network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from lstm.data.normalize import DataNormalizer
from lstm.data.panel import Panel
from lstm.data.spec import NormalizeSpec
from lstm.errors import DataError, nearest

_ALL = "\0all"  # a name that no file can give to a series


@dataclass(frozen=True)
class PanelNormalizer:
    """Normalisers by series name; the single name `_ALL` stands for all series."""

    by_series: dict[str, DataNormalizer]
    n_targets: int

    @classmethod
    def fit(cls, training: Panel, spec: NormalizeSpec, n_targets: int) -> Self:
        """Learn from the rows of `training` alone.

        Raises:
            DataError: a series has no training row, or a column of it no value there.
        """
        values = training.values[:, : training.n_scaled]
        if spec.per == "all":
            groups = {_ALL: values}
        else:
            groups = {name: values[training.series == code] for code, name in enumerate(training.names)}
        by_series = {name: _fit(rows, spec, name, training.columns) for name, rows in groups.items()}
        if training.n_static:
            # A static column tells series apart: scaled within its series it would always be 0.
            static = slice(training.n_scaled - training.n_static, training.n_scaled)
            pooled = _fit(values[:, static], spec, _ALL, training.columns[static])
            for normalizer in by_series.values():
                normalizer.center[static], normalizer.scale[static] = pooled.center, pooled.scale
        return cls(by_series, n_targets)

    def knows(self, name: str) -> bool:
        """Whether the series was there in training, or one normaliser serves all."""
        return _ALL in self.by_series or name in self.by_series

    def of(self, name: str) -> DataNormalizer:
        """The normaliser of that series.

        Raises:
            DataError: the series was not there in training.
        """
        if _ALL in self.by_series:
            return self.by_series[_ALL]
        if name not in self.by_series:
            raise DataError(f"series {name!r} was not there in training.{nearest(name, self.by_series)}")
        return self.by_series[name]

    def features(self, panel: Panel) -> np.ndarray:
        """Normalised values, (rows, columns) float32. A missing covariate becomes 0: its training center."""
        features = panel.values.astype(np.float32)
        for code, name in enumerate(panel.names):
            rows = panel.series == code
            features[rows, : panel.n_scaled] = self.of(name).transform(panel.values[rows, : panel.n_scaled])
        features[:, self.n_targets :] = np.nan_to_num(features[:, self.n_targets :])
        return features

    def targets(self, panel: Panel) -> np.ndarray:
        """Normalised measured targets, (rows, targets) float32, NaN where not measured."""
        center, scale = self.target_scales(panel.names)
        return ((panel.actual - center[panel.series]) / scale[panel.series]).astype(np.float32)

    def target_scales(self, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Center and scale of the targets, each (series, targets): raw = normalised * scale + center."""
        chosen = [self.of(name) for name in names]
        center = np.stack([normalizer.center[: self.n_targets] for normalizer in chosen])
        return center, np.stack([normalizer.scale[: self.n_targets] for normalizer in chosen])

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready, for `from_dict`."""
        states = {name: normalizer.to_dict() for name, normalizer in self.by_series.items()}
        return {"n_targets": self.n_targets, "by_series": states}

    @classmethod
    def from_dict(cls, state: dict[str, Any]) -> Self:
        """What `to_dict` described."""
        by_series = {name: DataNormalizer.from_dict(one) for name, one in state["by_series"].items()}
        return cls(by_series, state["n_targets"])


def _fit(rows: np.ndarray, spec: NormalizeSpec, name: str, columns: Sequence[str]) -> DataNormalizer:
    where = "the data" if name == _ALL else f"series {name!r}"
    if not len(rows):
        raise DataError(f"{where} has no row in the training span. Leave the series out, or shorten split.validation.")
    empty = np.isnan(rows).all(axis=0)
    if empty.any():
        column = columns[int(empty.argmax())]
        raise DataError(f"{where}: column {column!r} has no value in the training span. Leave the column out.")
    return DataNormalizer({"strategy": spec.strategy}).fit(rows)
