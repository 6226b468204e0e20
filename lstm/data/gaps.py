"""Gaps in the targets of a panel: which of them are filled, and where a series is broken."""

import numpy as np

from lstm.calendars.durations import parse_duration
from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.data.grid import Grid


class GapFiller:
    """Fills gaps of at most `missing.max_gap`, except those that contain a border between splits."""

    def __init__(self, spec: DataSpec, frequency: Frequency | None, borders: np.ndarray) -> None:
        """Take the rules of `spec`.

        Args:
            spec: its `missing` section.
            frequency: of the grid; None: rows are irregular.
            borders: (borders,) datetime64[us], UTC.
        """
        self.missing, self.borders = spec.missing, borders
        longest = spec.missing.max_gap
        self.limit = 0  # steps of the longest gap; not used for irregular rows
        self.max_age: np.timedelta64 | None = None  # duration of the longest gap, of irregular rows only
        if frequency is None:
            self.max_age = parse_duration(str(longest)).to_timedelta64()
        else:
            self.limit = longest if isinstance(longest, int) else int(parse_duration(longest) / frequency.step)

    def fill(self, targets: np.ndarray, grid: Grid, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Fill the short gaps of each target.

        Args:
            targets: (rows, targets) float64, NaN where not measured.
            grid: the series of the rows.
            times: (rows,) datetime64[us], UTC.

        Returns:
            The filled targets, (rows, targets); rows that still miss a target, (rows,) bool; and rows without a value
            that was interpolated from a later one, (rows,) bool.
        """
        filled, causal = targets.copy(), np.ones(len(targets), bool)
        method = self.missing.method
        for number, values in enumerate(targets.T):
            valid = ~np.isnan(values)
            if method == "none" or valid.all():
                continue
            short = self._short_gaps(grid, valid, times)
            filled[:, number] = grid.fill(values, method, short, self.missing.season)
            causal &= ~short | (method != "linear")
        return filled, np.isnan(filled).any(axis=1), causal

    def _short_gaps(self, grid: Grid, valid: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(rows,) bool: missing, in a short gap with a value on both sides and no border inside."""
        before, after = grid.previous_valid(valid), grid.next_valid(valid)
        if self.max_age is None:
            short = after - before - 1 <= self.limit
        else:
            short = times[after] - times[before] <= self.max_age
        span = np.searchsorted(self.borders, times, side="right")
        gap_start = np.minimum(before + 1, len(valid) - 1)
        return ~valid & (before >= 0) & (after >= 0) & short & (span[gap_start] == span[after])

    def breaks(self, times: np.ndarray) -> np.ndarray:
        """(rows,) bool: irregular rows that come more than `max_gap` after the row before."""
        if self.max_age is None:
            return np.zeros(len(times), bool)
        return np.r_[False, np.diff(times) > self.max_age]
