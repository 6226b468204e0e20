"""Filling gaps on flat arrays that hold many series one after the other: no loop over series."""

from dataclasses import dataclass

import numpy as np

SEASONS_BACK = 4  # how far method seasonal looks for a value


@dataclass(frozen=True)
class Grid:
    """Rows of several runs, each a stretch of one series' grid."""

    first: np.ndarray  # (rows,) int64: where the row's run begins
    last: np.ndarray  # (rows,) int64: the last row of the row's run

    @classmethod
    def of(cls, lengths: np.ndarray) -> "Grid":
        """Runs of these lengths, one after the other."""
        ends = np.cumsum(lengths)
        return cls(np.repeat(ends - lengths, lengths), np.repeat(ends - 1, lengths))

    @property
    def starts(self) -> np.ndarray:
        """(rows,) bool: the first row of a run."""
        return self.first == np.arange(len(self.first))

    def previous_valid(self, valid: np.ndarray) -> np.ndarray:
        """(rows,) int64: the newest valid row of the run up to here, this row included; -1 where there is none."""
        found = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
        return np.where(found >= self.first, found, -1)

    def next_valid(self, valid: np.ndarray) -> np.ndarray:
        """(rows,) int64: the next valid row of the run from here on; -1 where there is none."""
        rows = len(valid)
        found = np.minimum.accumulate(np.where(valid, np.arange(rows), rows)[::-1])[::-1]
        return np.where(found <= self.last, found, -1)

    def fill(self, values: np.ndarray, method: str, short: np.ndarray, season: int | None) -> np.ndarray:
        """Missing values of the rows in `short` filled by `method`; `short` rows lie between two valid ones."""
        valid = ~np.isnan(values)
        if method == "seasonal":
            return self._seasonal(values, short, season or 1)
        before, after = self.previous_valid(valid), self.next_valid(valid)
        made = values[before]
        if method == "linear":
            part = (np.arange(len(values)) - before) / np.maximum(after - before, 1)
            made = made + (values[after] - made) * part
        return np.where(short, made, values)

    def _seasonal(self, values: np.ndarray, short: np.ndarray, season: int) -> np.ndarray:
        """From one season back, or from the next one before it that has a value, up to `SEASONS_BACK`."""
        filled, row = values.copy(), np.arange(len(values))
        for seasons in range(1, SEASONS_BACK + 1):
            back = row - seasons * season
            missing = short & np.isnan(filled) & (back >= self.first)
            filled[missing] = values[back[missing]]
        return filled
