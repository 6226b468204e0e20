"""Normalizers: scaling with statistics of the fitted rows only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np

from lstm.config.model import StrictModel
from lstm.data.matrices import as_matrix
from lstm.errors import DataError

Strategy = Literal["zscore", "minmax", "robust", "none"]


@dataclass(frozen=True)
class Statistics:
    """Statistics that normalizers need: float64 arrays of one shape, NaN where there is no value."""

    mean: np.ndarray
    std: np.ndarray  # of the population
    low: np.ndarray
    high: np.ndarray
    quartiles: np.ndarray | None = None  # (3, …), for strategy robust only
    names: tuple[str, ...] = ()  # series of the first axis, if it is one of series

    @classmethod
    def of(cls, x: np.ndarray, quartiles: bool) -> Self:
        """Compute the statistics of the columns of `x`, (rows, columns), ignoring NaN."""
        quartile_values = np.nanpercentile(x, [25, 50, 75], axis=0) if quartiles else None
        return cls(
            np.nanmean(x, axis=0), np.nanstd(x, axis=0), np.nanmin(x, axis=0), np.nanmax(x, axis=0), quartile_values
        )


class _NormalizerConfig(StrictModel):
    strategy: Strategy = "zscore"


class DataNormalizer:
    """Shift and scale each feature: `(x - center) / scale`, ignoring NaN.

    `zscore`: mean and population standard deviation; `minmax`: minimum and range, so that the fitted rows lie in
    [0, 1]; `robust`: median and interquartile range; `none`: 0 and 1. The scale of a constant feature is 1, so that
    it becomes 0 and is restored exactly.

    >>> normalizer = DataNormalizer({"strategy": "minmax"})
    >>> normalizer.fit_transform(np.array([[1.0], [3.0]])).tolist()
    [[0.0], [1.0]]
    """

    center: np.ndarray
    scale: np.ndarray

    def __init__(self, config: Mapping[str, Any] | None = None) -> None:
        """Read the settings.

        Raises:
            ConfigError: a key or the strategy is unknown.
        """
        self.strategy: Strategy = _NormalizerConfig.parse(config or {}).strategy

    def fit(self, X: Any) -> Self:  # noqa: N803 - the scikit-learn name
        """Compute center and scale of each column of `X`, (rows, features) or (rows,), ignoring NaN.

        Raises:
            DataError: there are no rows, or a column has no value or an infinite one.
        """
        x = as_matrix(X, "X", np.float64)
        if np.isinf(x).any():
            raise DataError(f"column {int(np.isinf(x).any(axis=0).argmax())}: holds infinity. Remove it first.")
        empty = np.isnan(x).all(axis=0)
        if empty.any():
            raise DataError(f"column {int(empty.argmax())}: has no value to fit on. Leave the column out.")
        self.center, self.scale = center_and_scale(self.strategy, Statistics.of(x, quartiles=self.strategy == "robust"))
        return self

    def transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return `(X - center) / scale`: float64 of X's shape; NaN stays NaN.

        Raises:
            DataError: not fitted, or fitted on another number of columns.
        """
        x = self._checked(X)
        return ((x - self.center) / self.scale).reshape(np.shape(X))

    def fit_transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Call `fit(X)` and return `transform(X)`."""
        return self.fit(X).transform(X)

    def inverse_transform(self, X: Any) -> np.ndarray:  # noqa: N803
        """Return `X * scale + center`: float64 of X's shape.

        Raises:
            DataError: not fitted, or fitted on another number of columns.
        """
        x = self._checked(X)
        return (x * self.scale + self.center).reshape(np.shape(X))

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready settings and statistics for `from_dict`."""
        self._check_fitted()
        return {"strategy": self.strategy, "center": self.center.tolist(), "scale": self.scale.tolist()}

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> Self:
        """Return the normalizer that `to_dict` described."""
        normalizer = cls({"strategy": state["strategy"]})
        normalizer.center = np.array(state["center"], dtype=np.float64)
        normalizer.scale = np.array(state["scale"], dtype=np.float64)
        return normalizer

    def _check_fitted(self) -> None:
        if not hasattr(self, "center"):
            raise DataError("this DataNormalizer is not fitted. Call fit or fit_transform on the training rows first.")

    def _checked(self, X: Any) -> np.ndarray:  # noqa: N803
        self._check_fitted()
        x = as_matrix(X, "X", np.float64)
        if x.shape[1] != len(self.center):
            raise DataError(f"X must have {len(self.center)} columns as fitted, but has {x.shape[1]}.")
        return x


def center_and_scale(strategy: Strategy, values: Statistics) -> tuple[np.ndarray, np.ndarray]:
    """Return center and scale, each in the shape of the statistics."""
    if strategy == "none":
        return np.zeros_like(values.mean), np.ones_like(values.mean)
    if strategy == "zscore":
        center, scale = values.mean, values.std
    elif strategy == "minmax":
        center, scale = values.low, values.high - values.low
    else:
        quartiles = values.quartiles
        assert quartiles is not None
        center, scale = quartiles[1], quartiles[2] - quartiles[0]
    # A scale within rounding error counts as 0: dividing by it would amplify noise.
    largest = np.maximum(np.abs(values.low), np.abs(values.high))
    constant = scale <= 10 * np.finfo(np.float64).eps * largest
    return np.array(center, np.float64), np.where(constant, 1.0, scale)
