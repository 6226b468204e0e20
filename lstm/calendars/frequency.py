"""Frequencies of time grids: steps of elapsed time, or calendar steps in local time.

Steps shorter than a day are elapsed time: an hour stays an hour when the clocks change. Steps of whole days and longer
(`1d`, `B`, `W-MON`, `MS`, `QE`, `YS`, …) are calendar steps in the data's time zone: they keep the local time of day,
so that a day may have 23 or 25 hours.
"""

import warnings
from dataclasses import dataclass
from functools import cache
from typing import Self

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration

_DAY = pd.Timedelta(1, "D")
_SHORTEST = pd.Timedelta(1, "ms")
_SPAN = (pd.Timestamp(1800, 1, 1), pd.Timestamp(2201, 1, 31))  # times outside 1800 to 2200 are refused


@dataclass(frozen=True)
class Frequency:
    """Positions on a grid, counted from the first row of a series."""

    text: str
    step: pd.Timedelta  # duration of a step; of a calendar step, the average
    unit: str | None  # pandas' alias of one calendar step; None: elapsed time
    multiple: int  # calendar units per step
    timezone: str

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Self:
        """Read `10min`, `1h`, `1d`, `1w`, `B`, `W-MON`, `MS`, `2QS`, …

        Raises:
            ValueError: `text` is neither a duration of at least 1 ms nor a calendar step of pandas.
        """
        with warnings.catch_warnings():
            # Refuse deprecated units such as 1H. Filter nothing else: warning filters apply to all threads.
            warnings.filterwarnings("error", "'.+' is deprecated")
            try:
                length = parse_duration(f"1{text}" if text in ("h", "min", "s", "ms") else text)
            except (ValueError, OverflowError, Warning):
                return cls._calendar(text, timezone)
        if length < _SHORTEST:
            raise ValueError(f"must be 1ms or longer, but got {text!r}")
        if length % _DAY:
            return cls(text, length, None, 1, timezone)
        return cls(text, length, "D", length // _DAY, timezone)

    @classmethod
    def _calendar(cls, text: str, timezone: str) -> Self:
        try:
            offset = pd.tseries.frequencies.to_offset(text)
            assert offset is not None and offset.n > 0
            unit = offset.base.freqstr
            days = _days(unit)
            assert (pd.DatetimeIndex(days[:50]).normalize() == days[:50]).all() and len(days) > 100
        except (ValueError, AttributeError, AssertionError, TypeError, OverflowError, Warning):
            raise ValueError(
                f"must be a duration such as 10min, 1h, 1d or 1w, a calendar step such as B (business days), W-MON, "
                f"MS (start of month), ME, QS or YS, or infer, or irregular, but got {text!r}"
            ) from None
        average = (days[-1] - days[0]) / (len(days) - 1)
        return cls(text, pd.Timedelta(average * offset.n), unit, offset.n, timezone)

    def anchors(self, times: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """Return the time that the grid of each series is counted from: (series,) datetime64[us], UTC.

        This is the time of the first row, or the step before it if the clocks skipped its local time of day, which the
        other rows then tell.

        Args:
            times: (rows,) datetime64[us], UTC, of series one after the other.
            starts: (rows,) bool: whether a row is the first of its series.
        """
        first = times[starts]
        if self.unit is None or not len(first):
            return first
        days, wall = _days(self.unit).to_numpy(), self._to_local(times)
        date = wall.astype("datetime64[D]")
        clock = np.minimum.reduceat(wall - date, np.flatnonzero(starts))  # a skipped time appears as a later one
        skipped = (wall - date)[starts] != clock
        skipped &= self._to_utc(date[starts] + clock) == first
        before = days[np.searchsorted(days, date[starts]) - self.multiple] + clock
        return np.where(skipped, self._to_utc(before), first)

    def positions(self, times: np.ndarray, first: np.ndarray) -> np.ndarray:
        """Return how many steps each time is after the first of its series; -1: off the grid.

        Args:
            times, first: (rows,) datetime64[us], UTC.

        Returns:
            (rows,) int64.
        """
        if self.unit is None:
            steps, rest = np.divmod((times - first).astype(np.int64), self._microseconds)
            return np.where(rest == 0, steps, -1)
        days = _days(self.unit).to_numpy()
        wall, wall_first = self._to_local(times), self._to_local(first)
        start = np.searchsorted(days, wall_first.astype("datetime64[D]"))
        # A midnight that the clocks skip appears as a later time, but on the right day.
        steps, rest = np.divmod(np.searchsorted(days, wall.astype("datetime64[D]")) - start, self.multiple)
        on_grid = (rest == 0) & (steps >= 0)
        on_grid &= self.times(first, np.where(on_grid, steps, 0)) == times
        return np.where(on_grid, steps, -1)

    def times(self, first: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Return the times `steps` steps after `first`: (rows,) datetime64[us], UTC."""
        if self.unit is None:
            times: np.ndarray = first + steps * np.timedelta64(self._microseconds, "us")
            return times
        days = _days(self.unit).to_numpy()
        wall = self._to_local(first)
        date = wall.astype("datetime64[D]")
        start = np.searchsorted(days, date)
        later = days[np.clip(start + steps * self.multiple, 0, len(days) - 1)] + (wall - date)
        return self._to_utc(later)

    def floor(self, times: np.ndarray) -> np.ndarray:
        """Return the start of the step that contains each time: (rows,) datetime64[us], UTC."""
        if self.unit is None:
            start = times.astype("datetime64[us]").astype(np.int64) // self._microseconds * self._microseconds
            return start.astype("datetime64[us]")
        days = _days(self.unit).to_numpy()
        position = np.searchsorted(days, self._to_local(times), side="right") - 1
        return self._to_utc(days[position // self.multiple * self.multiple])

    def shift(self, time: np.datetime64, steps: int) -> np.datetime64:
        """Return the time `steps` steps later, or earlier if `steps` is negative."""
        shifted: np.datetime64 = self.times(np.array([time], "datetime64[us]"), np.array([steps]))[0]
        return shifted

    @property
    def _microseconds(self) -> int:
        return self.step.value // 1000

    def _to_local(self, times: np.ndarray) -> np.ndarray:
        stamps = pd.DatetimeIndex(times.astype("datetime64[us]"), tz="UTC")
        return stamps.tz_convert(self.timezone).tz_localize(None).to_numpy("datetime64[us]")

    def _to_utc(self, wall: np.ndarray) -> np.ndarray:
        stamps = pd.DatetimeIndex(wall.astype("datetime64[us]"))
        local = stamps.tz_localize(self.timezone, ambiguous=np.ones(len(stamps), bool), nonexistent="shift_forward")
        return local.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[us]")


@cache
def _days(unit: str) -> pd.DatetimeIndex:
    """Return all days that a calendar step can fall on."""
    return pd.date_range(*_SPAN, freq=unit).as_unit("us")


def infer_frequency(times: np.ndarray, timezone: str) -> str | None:
    """Return the frequency that most rows of a series follow, or None. There may be gaps.

    Args:
        times: (rows,) datetime64[us], UTC, ascending.
        timezone: of calendar steps.
    """
    if len(times) < 3:
        return None
    gaps, counts = np.unique(np.diff(times), return_counts=True)
    common = pd.Timedelta(gaps[counts.argmax()])
    if common >= _DAY - pd.Timedelta(1, "h"):
        return _calendar_frequency(times, timezone)
    if counts.max() < 0.5 * counts.sum():
        return None
    return _format_step(common)


def _calendar_frequency(times: np.ndarray, timezone: str) -> str | None:
    """Return the coarsest calendar step with 99 % of rows on its grid and half of them one step apart."""
    for text in ("YS", "YE", "QS", "QE", "MS", "ME", "1w", "B", "1d"):
        frequency = Frequency.parse(text, timezone)
        positions = frequency.positions(times, np.full_like(times, times[0]))
        if (positions >= 0).mean() > 0.99 and (np.diff(positions) == 1).mean() > 0.5:
            return text
    return None


def _format_step(length: pd.Timedelta) -> str:
    for unit, size in (("h", 3600_000), ("min", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(length.value, size * 1_000_000)
        if not rest:
            return f"{count}{unit}"
    return f"{length.value // 1000}us"
