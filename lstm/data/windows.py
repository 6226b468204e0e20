"""Windows as views: one contiguous array a split, and the rows at which a window may start to forecast.

A window with origin `o` sees the rows `o - sequence_length … o - 1` and forecasts the rows
`o … o + horizon - 1`. Windows are never materialised: a batch is gathered by index from a strided view
of the array, on the device where training runs.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


class Inputs(NamedTuple):
    """What a network reads of a batch of windows."""

    past: Tensor  # (B, sequence_length, features)
    known: Tensor  # (B, horizon, n_known)
    series: Tensor | None = None  # (B,) int64: numbers of the series, from 1; 0: not there in training


@dataclass(frozen=True)
class Windows:
    """The windows of one split, its arrays resident on one device."""

    features: Tensor  # (rows, features) float32: targets, observed, then the known ones
    targets: Tensor  # (rows, targets) float32, NaN where nothing was measured
    origins: Tensor  # (windows,) int64
    sequence_length: int
    horizon: int
    n_known: int = 0
    series: Tensor | None = None  # (rows,) int: number of the series, from 1

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.origins)

    def to(self, device: torch.device) -> "Windows":
        """The same windows with their arrays on `device`."""
        series = None if self.series is None else self.series.to(device)
        moved = {name: getattr(self, name).to(device) for name in ("features", "targets", "origins")}
        return replace(self, **moved, series=series)

    def with_lookback(self, sequence_length: int) -> "Windows":
        """The same windows with another look-back; so many rows must lie before each origin."""
        return replace(self, sequence_length=sequence_length)

    def inputs(self, index: Tensor) -> Inputs:
        """What a network reads of the windows `index`."""
        origin = self.origins[index]
        past = _view(self.features, self.sequence_length)[origin - self.sequence_length]
        series = None if self.series is None else self.series[origin - 1].long()
        if not self.n_known:
            return Inputs(past, past.new_zeros(len(index), self.horizon, 0), series)
        known = self.features[:, self.features.shape[1] - self.n_known :]
        return Inputs(past, _view(known, self.horizon)[origin], series)

    def actual(self, index: Tensor) -> Tensor:
        """What came: (B, horizon, targets), NaN where nothing was measured."""
        return _view(self.targets, self.horizon)[self.origins[index]]


def _view(rows: Tensor, length: int) -> Tensor:
    """Every run of `length` rows, (rows - length + 1, length, columns), without a copy."""
    down, across = rows.stride()
    shape = (max(rows.shape[0] - length + 1, 0), length, rows.shape[1])
    return rows.as_strided(shape, (down, down, across), rows.storage_offset())
