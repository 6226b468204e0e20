"""Rows of the forecast log as windows: which window, step and target a row belongs to, and its actual value."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.data.panel import Panel
from lstm.data.rows import SERIES, TIME

ISSUED, TARGET, FORECAST = "issued_at", "target", "forecast"


@dataclass(frozen=True)
class LogRows:
    """Position of each log row in its window and in the panel."""

    window: np.ndarray  # (rows,) int
    step: np.ndarray  # (rows,) int
    target: np.ndarray  # (rows,) int
    panel_row: np.ndarray  # (rows,) int; -1: the actual value is not known yet
    series: np.ndarray  # (windows,) int: position in the panel's names
    first_step: np.ndarray  # (windows,) datetime64[us]
    origin: np.ndarray  # (windows,) int64: panel row of the first step, or of the next one of the series
    issued: np.ndarray  # (windows,) datetime64[us]

    @classmethod
    def of(cls, rows: pd.DataFrame, panel: Panel, targets: list[str], frequency: Frequency | None) -> Self:
        """Locate the rows.

        Args:
            rows: of the log, sorted by series, time of issue, target and time.
            panel: actual values; it holds every series of the rows.
            targets: names of the panel's targets.
            frequency: of the grid; None: rows are irregular, and steps are counted by their order.
        """
        times, issued = (rows[name].to_numpy("datetime64[us]") for name in (TIME, ISSUED))
        window = rows.groupby([SERIES, ISSUED], sort=False).ngroup().to_numpy()
        starts = np.flatnonzero(np.r_[True, window[1:] != window[:-1]]) if len(rows) else np.zeros(0, np.int64)
        first_step = np.minimum.reduceat(times, starts) if len(rows) else times
        if frequency is None:
            step = rows.groupby([SERIES, ISSUED, TARGET], sort=False).cumcount().to_numpy()
        else:
            step = frequency.positions(times, first_step[window])
        series = pd.Index(panel.names).get_indexer(pd.Index(rows[SERIES]))
        row, origin = _panel_rows(panel, series, times), _panel_rows(panel, series[starts], first_step)
        nearest = np.minimum(row, len(panel.times) - 1)
        known = (series >= 0) & (panel.times[nearest] == times) & (panel.series[nearest] == series)
        target = pd.Index(targets).get_indexer(pd.Index(rows[TARGET]))
        return cls(window, step, target, np.where(known, row, -1), series[starts], first_step, origin, issued[starts])

    def has_history(self, panel: Panel) -> np.ndarray:
        """Return whether the panel holds a row before the first step, (windows,) bool."""
        return (self.origin > 0) & (panel.series[self.origin - 1] == self.series)

    @property
    def n_windows(self) -> int:
        """Number of windows."""
        return len(self.first_step)

    @property
    def n_steps(self) -> int:
        """Steps of the longest window."""
        return int(self.step.max(initial=0)) + 1

    def by_window(self, values: np.ndarray, n_targets: int) -> np.ndarray:
        """Return values of the rows, (rows,), as (windows, steps, targets); NaN where there is no row."""
        array = np.full((self.n_windows, self.n_steps, n_targets), np.nan)
        array[self.window, self.step, self.target] = values
        return array

    def actual(self, panel: Panel) -> np.ndarray:
        """Return the actual values, (rows,); NaN where they are not known yet."""
        return np.where(self.panel_row >= 0, panel.actual[self.panel_row, self.target], np.nan)


def _panel_rows(panel: Panel, series: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the panel's first row of each series at or after a time, or the row after its last: (times,) int64."""
    moments = np.unique(panel.times)
    keys = panel.series.astype(np.int64) * (len(moments) + 1) + np.searchsorted(moments, panel.times)
    rows = np.searchsorted(keys, series.astype(np.int64) * (len(moments) + 1) + np.searchsorted(moments, times))
    return rows.astype(np.int64)
