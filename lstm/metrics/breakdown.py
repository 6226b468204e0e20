"""Sums of elementwise quantities by window, by step ahead and by local hour of the week, computed in one pass."""

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
    """Sums by window, step and hour of the week, which grow with each part of a forecast that is added."""

    count: int  # windows
    horizon: int
    time: np.ndarray  # (windows,) int: number of the origin time
    hours: np.ndarray | None  # (times, horizon) int, see `hours_of_week`; None: unknown
    by_window: Sums = field(default_factory=dict)  # (windows,) each
    by_step: Sums = field(default_factory=dict)  # (horizon,) each
    by_hour: Sums = field(default_factory=dict)  # (168,) each, from Monday 0 h; empty if hours are unknown

    def add(self, part: slice, quantities: Mapping[str, np.ndarray]) -> None:
        """Add the quantities, (windows, horizon, targets) each, of the windows in `part`."""
        hours = None if self.hours is None else self.hours[self.time[part]].ravel().astype(np.intp)
        ones = np.ones(self.horizon)
        for name, values in quantities.items():
            steps = values.sum(axis=2) if values.shape[2] > 1 else values[..., 0]  # sum over an axis of 1 is slow
            self.by_window.setdefault(name, np.zeros(self.count))[part] = steps @ ones
            self.by_step.setdefault(name, np.zeros(self.horizon))[:] += steps.sum(axis=0)
            if hours is not None:
                sums = np.bincount(hours, steps.ravel(), DAYS * HOURS)
                self.by_hour.setdefault(name, np.zeros(DAYS * HOURS))[:] += sums


def sum_by_group(sums: Sums, group: np.ndarray, count: int) -> Sums:
    """Return sums by group, (count,) each, from sums by window.

    Args:
        sums: (windows,) each.
        group: (windows,) int, below `count`.
        count: number of groups.
    """
    return {name: np.bincount(group, values, count) for name, values in sums.items()}


def fold_numbers(times: np.ndarray, folds: int) -> np.ndarray:
    """Return the fold of each time, with the span from the first to the last cut into `folds` equal parts.

    Args:
        times: (windows,) datetime64.
        folds: number of folds.

    Returns:
        (windows,) int64, from 0.
    """
    since = (times - times.min()).astype("timedelta64[us]").astype(np.float64)
    return np.minimum(since * folds / max(float(since.max()), 1.0), folds - 1).astype(np.int64)


def hours_of_week(times: np.ndarray, horizon: int, frequency: Frequency) -> np.ndarray:
    """Return the local hour of the week of each step ahead.

    Args:
        times: (times,) datetime64[us], UTC, of the first step ahead.
        horizon: steps ahead.
        frequency: of the steps, with the time zone.

    Returns:
        (times, horizon) int16, 0 (Monday 0 h) to 167.
    """
    steps = np.tile(np.arange(horizon), len(times))
    step_times = pd.DatetimeIndex(frequency.times(np.repeat(times, horizon), steps), tz="UTC")
    local = step_times.tz_convert(frequency.timezone)
    return (local.day_of_week * HOURS + local.hour).to_numpy(np.int16).reshape(-1, horizon)
