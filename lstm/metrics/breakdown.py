"""Sums of elementwise quantities by window, by step ahead and by local hour of the week, made in one pass."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.metrics.metrics import Sums

HOURS = 24
DAYS = 7


@dataclass(frozen=True)
class Breakdown:
    """Grows with each part of a forecast that is added; groups are windows, steps and hours of the week."""

    count: int  # windows
    horizon: int
    time: np.ndarray  # (windows,) int: number of the origin time
    hours: np.ndarray | None  # (times, horizon) int, of `hours_of_week`; None: nobody knows them
    by_window: Sums = field(default_factory=dict)  # (windows,)
    by_step: Sums = field(default_factory=dict)  # (horizon,)
    by_hour: Sums = field(default_factory=dict)  # (168,): Monday 0 h comes first; nothing without hours

    def add(self, part: slice, quantities: Mapping[str, np.ndarray]) -> None:
        """Add the quantities, (windows, horizon, targets) each, of some windows."""
        hours = None if self.hours is None else self.hours[self.time[part]].ravel().astype(np.intp)
        ones = np.ones(self.horizon)
        for name, values in quantities.items():
            steps = values.sum(axis=2) if values.shape[2] > 1 else values[..., 0]  # a sum of one number takes longest
            self.by_window.setdefault(name, np.zeros(self.count))[part] = steps @ ones
            self.by_step.setdefault(name, np.zeros(self.horizon))[:] += steps.sum(axis=0)
            if hours is not None:
                sums = np.bincount(hours, steps.ravel(), DAYS * HOURS)
                self.by_hour.setdefault(name, np.zeros(DAYS * HOURS))[:] += sums


def sum_by_group(sums: Sums, group: np.ndarray, count: int) -> Sums:
    """Sums by window put together by the group of each, (windows,) int below `count`: (count,) each."""
    return {name: np.bincount(group, values, count) for name, values in sums.items()}


def fold_numbers(times: np.ndarray, folds: int) -> np.ndarray:
    """Which of `folds` equal parts of the time between the first and the last an origin lies in: (windows,) int64."""
    since = (times - times.min()).astype("timedelta64[us]").astype(np.float64)
    return np.minimum(since * folds / max(float(since.max()), 1.0), folds - 1).astype(np.int64)


def hours_of_week(times: np.ndarray, horizon: int, frequency: Frequency) -> np.ndarray:
    """The local hour of the week that each step ahead lies in: (times, horizon) int16, 0 to 167 from Monday 0 h on.

    Args:
        times: (times,) datetime64[us], UTC, of the first step ahead.
        horizon: steps ahead.
        frequency: how far apart they are, and the time zone.
    """
    steps = np.tile(np.arange(horizon), len(times))
    moments = pd.DatetimeIndex(frequency.times(np.repeat(times, horizon), steps), tz="UTC")
    local = moments.tz_convert(frequency.timezone)
    return (local.day_of_week * HOURS + local.hour).to_numpy(np.int16).reshape(-1, horizon)
