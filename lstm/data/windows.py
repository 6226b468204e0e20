"""Windows as views of the arrays of a split.

A window with origin `o` reads the rows `o - sequence_length … o - 1` and forecasts the rows `o … o + horizon - 1`.
Windows are never materialized: a batch is gathered by index from a strided view, on the device of the training.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """The inputs of a network for a batch of windows."""

    past: Tensor  # (B, sequence_length, features)
    known: Tensor  # (B, horizon, n_known)
    series: Tensor | None = None  # (B,) int64: numbers of the series, from 1; 0: unknown in training


@dataclass(frozen=True)
class Windows:
    """The windows of one split, with its arrays on one device."""

    features: Tensor  # (rows, features) float32: targets, observed inputs, then known inputs
    targets: Tensor  # (rows, targets) float32, NaN where not measured
    origins: Tensor  # (windows,) int64
    sequence_length: int
    horizon: int
    n_known: int = 0
    series: Tensor | None = None  # (rows,) int: number of the series, from 1

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.origins)

    def to(self, device: torch.device) -> "Windows":
        """Return the same windows with their arrays on `device`."""
        series = None if self.series is None else self.series.to(device)
        moved = {name: getattr(self, name).to(device) for name in ("features", "targets", "origins")}
        return replace(self, **moved, series=series)

    def with_lookback(self, sequence_length: int) -> "Windows":
        """Return the same windows with another lookback; each origin must have that many rows before it."""
        return replace(self, sequence_length=sequence_length)

    def inputs(self, index: Tensor) -> Inputs:
        """Return the inputs of the windows `index`."""
        origin = self.origins[index]
        past = _view(self.features, self.sequence_length)[origin - self.sequence_length]
        series = None if self.series is None else self.series[origin - 1].long()
        if not self.n_known:
            return Inputs(past, past.new_zeros(len(index), self.horizon, 0), series)
        known = self.features[:, self.features.shape[1] - self.n_known :]
        return Inputs(past, _view(known, self.horizon)[origin], series)

    def actual(self, index: Tensor) -> Tensor:
        """Return the actual values, (B, horizon, targets), NaN where not measured."""
        return _view(self.targets, self.horizon)[self.origins[index]]


def _view(rows: Tensor, length: int) -> Tensor:
    """Return all slices of `length` rows, (rows - length + 1, length, columns), without a copy."""
    row_stride, column_stride = rows.stride()
    shape = (max(rows.shape[0] - length + 1, 0), length, rows.shape[1])
    return rows.as_strided(shape, (row_stride, row_stride, column_stride), rows.storage_offset())
