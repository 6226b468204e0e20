"""Rows of many series, one after the other in flat arrays: valid neighbours and gap filling without a loop."""

from dataclasses import dataclass

import numpy as np

SEASONS_BACK = 4  # seasons that method seasonal looks back


@dataclass(frozen=True)
class Grid:
    """First and last row of the series of each row."""

    first: np.ndarray  # (rows,) int64: the first row of the row's series
    last: np.ndarray  # (rows,) int64: the last row of the row's series

    @classmethod
    def of(cls, lengths: np.ndarray) -> "Grid":
        """Return the grid of series of these lengths."""
        ends = np.cumsum(lengths)
        return cls(np.repeat(ends - lengths, lengths), np.repeat(ends - 1, lengths))

    @property
    def starts(self) -> np.ndarray:
        """(rows,) bool: whether a row is the first of its series."""
        return self.first == np.arange(len(self.first))

    def previous_valid(self, valid: np.ndarray) -> np.ndarray:
        """(rows,) int64: the last valid row of the series up to each row, itself included; -1: none."""
        row = np.maximum.accumulate(np.where(valid, np.arange(len(valid)), -1))
        return np.where(row >= self.first, row, -1)

    def next_valid(self, valid: np.ndarray) -> np.ndarray:
        """(rows,) int64: the next valid row of the series from each row, itself included; -1: none."""
        count = len(valid)
        row = np.minimum.accumulate(np.where(valid, np.arange(count), count)[::-1])[::-1]
        return np.where(row <= self.last, row, -1)

    def fill(self, values: np.ndarray, method: str, short: np.ndarray, season: int | None) -> np.ndarray:
        """Fill the rows in `short`, which have a valid row before and after them, by `method`."""
        valid = ~np.isnan(values)
        if method == "seasonal":
            return self._seasonal(values, short, season or 1)
        before, after = self.previous_valid(valid), self.next_valid(valid)
        filled = values[before]
        if method == "linear":
            fraction = (np.arange(len(values)) - before) / np.maximum(after - before, 1)
            filled = filled + (values[after] - filled) * fraction
        return np.where(short, filled, values)

    def _seasonal(self, values: np.ndarray, short: np.ndarray, season: int) -> np.ndarray:
        """Fill from one season back, or from the nearest earlier season with a value, up to `SEASONS_BACK`."""
        filled, row = values.copy(), np.arange(len(values))
        for seasons in range(1, SEASONS_BACK + 1):
            back = row - seasons * season
            missing = short & np.isnan(filled) & (back >= self.first)
            filled[missing] = values[back[missing]]
        return filled


def extrapolate_times(times: np.ndarray) -> None:
    """Fill the missing times at the end of an irregular series, at its median interval, in place.

    Args:
        times: (rows,) datetime64[us], NaT at the end.
    """
    known = times[~np.isnat(times)]
    interval = np.median(np.diff(known).astype(np.int64)) if len(known) > 1 else 1_000_000
    steps = np.arange(len(times) - len(known)) + 1
    times[len(known) :] = known[-1] + steps * np.timedelta64(int(interval), "us")
