"""How long the unbroken runs of a panel are, and how many windows they hold."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.data.store import PanelStore


@dataclass(frozen=True)
class Runs:
    """Of each unbroken run, how many of its rows lie before each cut: (runs,) int64 all."""

    start: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    end: np.ndarray

    @classmethod
    def of(cls, panel: PanelStore) -> Self:
        """Count the rows of a panel."""
        segment, times, cuts = panel.array("segment"), panel.array("times"), panel.cuts
        first = np.flatnonzero(np.r_[True, segment[1:] != segment[:-1]][: len(segment)])
        moments = (cuts.start, cuts.validation, cuts.test, cuts.end)
        before = (np.add.reduceat(times < moment, first, dtype=np.int64) for moment in moments)
        return cls(*before)

    @property
    def longest(self) -> int:
        """Rows of the longest unbroken run of training."""
        return int(np.max(self.validation - self.start, initial=0))

    def windows(self, sequence_length: int, horizon: int) -> tuple[int, int, int]:
        """Windows of training, validation and test. Training windows see no row before the training span."""
        return (
            _fitting(self.start + sequence_length, self.validation - horizon),
            _fitting(np.maximum(self.validation, sequence_length), self.test - horizon),
            _fitting(np.maximum(self.test, sequence_length), self.end - horizon),
        )


def _fitting(first: np.ndarray, last: np.ndarray) -> int:
    return int(np.maximum(last - first + 1, 0).sum())
