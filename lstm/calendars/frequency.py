"""The grid that a series lies on: every so much elapsed time, or calendar steps in local time.

Steps shorter than a day are elapsed time: an hour is an hour when the clocks change. Steps of whole days
and longer (`1d`, `B`, `W-MON`, `MS`, `QE`, `YS`, …) are calendar steps in the data's time zone: they keep
the local time of day, so that a day may have 23 or 25 hours.
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
    step: pd.Timedelta  # elapsed time of a step; of a calendar step, what it lasts on average
    unit: str | None  # pandas' alias of one calendar step; None: elapsed time
    multiple: int  # calendar units a step
    timezone: str

    @classmethod
    def parse(cls, text: str, timezone: str = "UTC") -> Self:
        """Read `10min`, `1h`, `1d`, `1w`, `B`, `W-MON`, `MS`, `2QS`, …

        Raises:
            ValueError: it is neither a duration of 1 ms or more nor a calendar step of pandas.
        """
        with warnings.catch_warnings():
            # A unit that pandas is giving up, such as 1H, is refused. No other warning: filters hold for all threads.
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
            one = offset.base.freqstr
            days = _days(one)
            assert (pd.DatetimeIndex(days[:50]).normalize() == days[:50]).all() and len(days) > 100
        except (ValueError, AttributeError, AssertionError, TypeError, OverflowError, Warning):
            raise ValueError(
                f"must be a duration such as 10min, 1h, 1d or 1w, a calendar step such as B (business days), W-MON, "
                f"MS (start of month), ME, QS or YS, or infer, or irregular, but got {text!r}"
            ) from None
        average = (days[-1] - days[0]) / (len(days) - 1)
        return cls(text, pd.Timedelta(average * offset.n), one, offset.n, timezone)

    def anchors(self, times: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """The moment that each series' grid is counted from: (series,) datetime64[us], UTC.

        Its first row; but where the clocks skipped the local time of a first row, the step before it, since the
        others tell the time of day that it stands for.

        Args:
            times: (rows,) datetime64[us], UTC, of series one after the other.
            starts: (rows,) bool, the first row of each series.
        """
        first = times[starts]
        if self.unit is None or not len(first):
            return first
        days, wall = _days(self.unit).to_numpy(), self._wall(times)
        date = wall.astype("datetime64[D]")
        clock = np.minimum.reduceat(wall - date, np.flatnonzero(starts))  # a skipped time is written as a later one
        skipped = (wall - date)[starts] != clock
        skipped &= self._utc(date[starts] + clock) == first
        before = days[np.searchsorted(days, date[starts]) - self.multiple] + clock
        return np.where(skipped, self._utc(before), first)

    def positions(self, times: np.ndarray, first: np.ndarray) -> np.ndarray:
        """How many steps each time lies after the first of its series; -1 where it lies between two.

        Args:
            times, first: (rows,) datetime64[us], UTC.

        Returns:
            (rows,) int64.
        """
        if self.unit is None:
            steps, rest = np.divmod((times - first).astype(np.int64), self._microseconds)
            return np.where(rest == 0, steps, -1)
        days = _days(self.unit).to_numpy()
        wall, wall_first = self._wall(times), self._wall(first)
        start = np.searchsorted(days, wall_first.astype("datetime64[D]"))
        # A midnight that the clocks jump over is written as the moment after: its day is right all the same.
        steps, rest = np.divmod(np.searchsorted(days, wall.astype("datetime64[D]")) - start, self.multiple)
        on_grid = (rest == 0) & (steps >= 0)
        on_grid &= self.times(first, np.where(on_grid, steps, 0)) == times
        return np.where(on_grid, steps, -1)

    def times(self, first: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """The moment so many steps after the first of its series: (rows,) datetime64[us], UTC."""
        if self.unit is None:
            moments: np.ndarray = first + steps * np.timedelta64(self._microseconds, "us")
            return moments
        days = _days(self.unit).to_numpy()
        wall = self._wall(first)
        date = wall.astype("datetime64[D]")
        start = np.searchsorted(days, date)
        later = days[np.clip(start + steps * self.multiple, 0, len(days) - 1)] + (wall - date)
        return self._utc(later)

    def floor(self, times: np.ndarray) -> np.ndarray:
        """The start of the step that each time lies in: (rows,) datetime64[us], UTC."""
        if self.unit is None:
            whole = times.astype("datetime64[us]").astype(np.int64) // self._microseconds * self._microseconds
            return whole.astype("datetime64[us]")
        days = _days(self.unit).to_numpy()
        position = np.searchsorted(days, self._wall(times), side="right") - 1
        return self._utc(days[position // self.multiple * self.multiple])

    def shift(self, moment: np.datetime64, steps: int) -> np.datetime64:
        """The moment so many steps later, or earlier where `steps` is negative."""
        moved: np.datetime64 = self.times(np.array([moment], "datetime64[us]"), np.array([steps]))[0]
        return moved

    @property
    def _microseconds(self) -> int:
        return self.step.value // 1000

    def _wall(self, times: np.ndarray) -> np.ndarray:
        stamps = pd.DatetimeIndex(times.astype("datetime64[us]"), tz="UTC")
        return stamps.tz_convert(self.timezone).tz_localize(None).to_numpy("datetime64[us]")

    def _utc(self, wall: np.ndarray) -> np.ndarray:
        stamps = pd.DatetimeIndex(wall.astype("datetime64[us]"))
        local = stamps.tz_localize(self.timezone, ambiguous=np.ones(len(stamps), bool), nonexistent="shift_forward")
        return local.tz_convert("UTC").tz_localize(None).to_numpy("datetime64[us]")


@cache
def _days(unit: str) -> pd.DatetimeIndex:
    """Every day that a calendar step may fall on."""
    return pd.date_range(*_SPAN, freq=unit).as_unit("us")


def infer_frequency(times: np.ndarray, timezone: str) -> str | None:
    """The frequency of one series, gaps allowed: what most of its rows follow, or None.

    Args:
        times: (rows,) datetime64[us], UTC, rising.
    """
    if len(times) < 3:
        return None
    gaps, counts = np.unique(np.diff(times), return_counts=True)
    common = pd.Timedelta(gaps[counts.argmax()])
    if common >= _DAY - pd.Timedelta(1, "h"):
        return _calendar_frequency(times, timezone)
    if counts.max() < 0.5 * counts.sum():
        return None
    return _as_text(common)


def _calendar_frequency(times: np.ndarray, timezone: str) -> str | None:
    """The coarsest calendar step that nine rows in ten follow each other by."""
    for text in ("YS", "YE", "QS", "QE", "MS", "ME", "1w", "B", "1d"):
        frequency = Frequency.parse(text, timezone)
        positions = frequency.positions(times, np.full_like(times, times[0]))
        if (positions >= 0).mean() > 0.99 and (np.diff(positions) == 1).mean() > 0.5:
            return text
    return None


def _as_text(length: pd.Timedelta) -> str:
    for unit, size in (("h", 3600_000), ("min", 60_000), ("s", 1000), ("ms", 1)):
        count, rest = divmod(length.value, size * 1_000_000)
        if not rest:
            return f"{count}{unit}"
    return f"{length.value // 1000}us"
