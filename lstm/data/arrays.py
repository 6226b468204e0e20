"""The arrays of one split on disk, memory-mapped, so that workers share one copy of the pages.

Each split has its own arrays. The training arrays end where validation begins, and the validation arrays end where
the test begins, so later rows can't leak into a split.
"""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

import numpy as np
import torch

from lstm.data.origins import window_origins
from lstm.data.windows import Windows


@dataclass(frozen=True)
class SplitArrays:
    """Rows of one split. Rows before its first target time serve as lookback only."""

    features: np.ndarray  # (rows, features) float32, normalized, gaps filled
    targets: np.ndarray  # (rows, targets) float32, normalized, NaN where not measured
    allowed: np.ndarray  # (rows,) bool: whether a window may have its origin here
    segment: np.ndarray  # (rows,) int32
    series: np.ndarray  # (rows,) int32
    times: np.ndarray  # (rows,) datetime64[us], UTC

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Map the arrays that `ArrayWriter` wrote, copy-on-write (torch wants writable arrays; nothing writes)."""
        arrays = (np.load(folder / f"{field.name}.npy", mmap_mode="c", allow_pickle=False) for field in fields(cls))
        return cls(*arrays)

    @classmethod
    def is_complete(cls, folder: Path) -> bool:
        """Return whether all arrays exist with the same number of rows."""
        try:
            return len({len(getattr(cls.load(folder), field.name)) for field in fields(cls)}) == 1
        except (OSError, ValueError):
            return False

    def windows(self, sequence_length: int, horizon: int, n_known: int, stride: int = 1) -> Windows:
        """Return the windows of this split as views of its arrays."""
        origins = window_origins(self.segment, sequence_length, horizon, stride, self.allowed)
        return Windows(
            torch.from_numpy(self.features),
            torch.from_numpy(self.targets),
            torch.from_numpy(origins),
            sequence_length,
            horizon,
            n_known,
            torch.from_numpy(self.series) + 1,
        )
