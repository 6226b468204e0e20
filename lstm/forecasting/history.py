"""The rows that follow a history: times, known columns, and observed columns as rolled forecasts assume them."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.data.panel import missing_known_value
from lstm.data.rows import SERIES, TIME
from lstm.forecasting.parts import ForecasterParts


@dataclass(frozen=True)
class History:
    """The rows of a canonical table that a forecast depends on, with their positions on the time grid."""

    table: pd.DataFrame
    series: np.ndarray  # (rows,) int64: number of the series, from 0
    step: np.ndarray  # (rows,) int64: steps ahead from 0; -1: the newest row with all targets
    first: np.ndarray  # (series,) datetime64[us]: time of the grid's first step
    newest: np.ndarray  # (series,) int64: grid position of the newest row with all targets
    frequency: Frequency

    @classmethod
    def of(cls, forecaster: ForecasterParts, table: pd.DataFrame) -> "History":
        """Return the history that a forecast from a canonical table depends on."""
        table = forecaster.recent(table).reset_index(drop=True)
        spec = forecaster.spec
        frequency = Frequency.parse(spec.frequency, spec.timezone)
        times = table[TIME].to_numpy("datetime64[us]")
        starts = (table[SERIES] != table[SERIES].shift()).to_numpy(bool)
        series = np.cumsum(starts) - 1
        first = frequency.anchors(times, starts)
        position = frequency.positions(times, first[series])
        measured = table[list(spec.target)].notna().all(axis=1).to_numpy()
        newest = np.full(len(first), -1, np.int64)
        np.maximum.at(newest, series[measured], position[measured])
        return cls(table, series, position - newest[series] - 1, first, newest, frequency)

    def future_rows(self, forecaster: ForecasterParts, steps: int) -> pd.DataFrame:
        """Return rows for whole blocks that cover `steps`, series by series: covariates as rolled, no targets.

        Raises:
            DataError: a known column has no value at one of the steps.
        """
        spec, length = forecaster.spec, -(-steps // forecaster.horizon) * forecaster.horizon
        positions = self.newest[:, None] + 1 + np.arange(length)
        times = self.frequency.times(np.repeat(self.first, length), positions.ravel())
        last = np.repeat(np.flatnonzero(self.step == -1), length)  # a row of the same series
        future = {name: self._values_at(name, last) for name in (SERIES, *spec.static)}
        future[TIME] = pd.Series(pd.DatetimeIndex(times, tz="UTC"))
        future |= {name: pd.Series(np.full(len(times), np.nan)) for name in spec.target}
        given = self._rows_at(0, length)
        seasons = (member.config.season or 0 for member in forecaster.members)
        season = next((season for season in seasons if 0 < season <= forecaster.lookback), 1)
        for name in spec.known:
            future[name] = self._values_at(name, self._known_rows(name, given, steps, times.reshape(given.shape)))
        for name in spec.observed:
            future[name] = self._values_at(name, self._observed_rows(name, given, season))
        return pd.DataFrame(future)[self.table.columns]

    def _known_rows(self, column: str, given: np.ndarray, steps: int, times: np.ndarray) -> np.ndarray:
        """Return the rows that hold a known column's values; beyond `steps` the last value repeats.

        Args:
            column: known ahead.
            given: (series, length) int64, the row of each step ahead; -1: there is none.
            steps: for which each value must be given.
            times: (series, length) datetime64 of the steps.

        Returns:
            (series, length) int64.

        Raises:
            DataError: a value is missing within `steps`.
        """
        has_value = self._has_value(column, given)
        if not has_value[:, :steps].all():
            series, step = np.argwhere(~has_value[:, :steps])[0]
            name = self.table[SERIES].iloc[int(np.flatnonzero(self.series == series)[0])]
            raise missing_known_value(name, column, times[series, step])
        return np.maximum.accumulate(np.where(has_value, given, -1), axis=1)

    def _observed_rows(self, column: str, given: np.ndarray, season: int) -> np.ndarray:
        """Return the rows to take an observed column's values from: (series, length) int64; -1: no value."""
        valid = np.flatnonzero(self.table[column].notna() & (self.step < 0))
        newest = np.full(len(self.first), -1, np.int64)
        np.maximum.at(newest, self.series[valid], valid)
        last_season = self._rows_at(-season, 0)
        last_season = np.where(self._has_value(column, last_season), last_season, newest[:, None])
        return np.where(self._has_value(column, given), given, last_season[:, np.arange(given.shape[1]) % season])

    def _rows_at(self, begin: int, end: int) -> np.ndarray:
        """Return the row of each step from `begin` to `end`: (series, end - begin) int64; -1: there is none."""
        rows = np.full((len(self.first), end - begin), -1, np.int64)
        inside = np.flatnonzero((self.step >= begin) & (self.step < end))
        rows[self.series[inside], self.step[inside] - begin] = inside
        return rows

    def _has_value(self, column: str, rows: np.ndarray) -> np.ndarray:
        """Return whether the column has a value in these rows, False for -1: bool of the shape of `rows`."""
        return (rows >= 0) & self.table[column].notna().to_numpy(bool)[rows]

    def _values_at(self, column: str, rows: np.ndarray) -> pd.Series:
        """Return the column's values in these rows, flattened; missing for -1."""
        return self.table[column].reindex(rows.ravel()).reset_index(drop=True)
