"""Forecasts as of a moment: nothing that was measured after it is used.

A time stamp says when its values were known. So a row counts as measured at a moment if its time is not later; where
rows are made by `data.resample`, each holds what was measured within its step, and is known when the step has ended.
Of later rows only what is known ahead (`known`, `static`) is left.

The intervals first follow the errors that came since the training (`Forecaster.recalibrate`), of at most the newest
`_MAX_TIMES` time stamps and about `_MAX_WINDOWS` windows. All series of one moment move them together, by their mean: of
many series some, evenly taken, do for all.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.data.rows import SERIES, TIME
from lstm.errors import DataError
from lstm.forecasting.forecaster import Forecaster
from lstm.forecasting.parts import HistoryError

# The radius of the 95 % level keeps 1 - 0.03 · 0.05 of itself with each error inside: of one that is a thousand errors
# old a fifth is left. Windows cost as much as forecasts do, and a slot should not take longer by them than by these.
_MAX_TIMES = 1000
_MAX_WINDOWS = 5000


@dataclass(frozen=True)
class IssuedForecasts:
    """Forecasts of a moment."""

    rows: pd.DataFrame  # as `Forecaster.forecast_table` returns them
    left_out: dict[str, str]  # series: why it has none


def table_as_of(table: pd.DataFrame, spec: DataSpec, moment: pd.Timestamp) -> pd.DataFrame:
    """A canonical table as it was known at a moment: a new frame, of which later rows hold known columns alone.

    Args:
        table: canonical.
        spec: its roles, with the frequency said.
        moment: with a time zone.
    """
    later = table[TIME].to_numpy("datetime64[us]") > _newest(spec, moment)
    if not spec.known:
        return table[~later].reset_index(drop=True)
    measured = [*spec.target, *spec.observed]
    blank = {name: table[name].mask(later) for name in measured}
    return table.assign(**blank).reset_index(drop=True)


def needed_rows(forecaster: Forecaster, piece: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """The rows of a piece of a canonical table that forecasts as of moments from `first` to `last` depend on."""
    spec, times = forecaster.spec, piece[TIME].to_numpy("datetime64[us]")
    if spec.frequency == "irregular":
        return piece[times <= _newest(spec, last)]
    frequency, begin = Frequency.parse(spec.frequency, spec.timezone), _newest(spec, first)
    until = forecaster.intervals.calibrated_until
    followed = begin if until is None else np.maximum(until, frequency.shift(begin, -_MAX_TIMES - forecaster.horizon))
    kept = times > frequency.shift(np.minimum(begin, followed), -forecaster.reach - 1)
    kept[forecaster.recent(piece[times <= begin]).index] = True
    return piece[kept & (times <= frequency.shift(_newest(spec, last), forecaster.horizon + 1))]


def forecast_as_of(
    forecaster: Forecaster, table: pd.DataFrame, moment: pd.Timestamp, levels: tuple[int, ...]
) -> IssuedForecasts:
    """Forecast every series of a canonical table that can be, as of a moment, over the trained horizon.

    Left out, and named, are series that had no row with all targets by then, that the training did not know, and
    whose history is too short.

    Args:
        forecaster: its intervals follow the errors known at the moment; it is left alone.
        table: canonical; rows that `needed` leaves out make no difference.
        moment: with a time zone.
        levels: of the intervals, in percent.

    Raises:
        DataError: no series can be forecast, or a known column has no value in the horizon.
    """
    known, left_out = _begun(table_as_of(table, forecaster.spec, moment), forecaster)
    if known.empty:
        why = next(iter(left_out.values()), "there are no rows")
        raise DataError(f"as of {moment.isoformat()} no series can be forecast ({why}). Give their history.")
    followed = _followed(forecaster, known)
    try:
        return IssuedForecasts(followed.forecast_table(known, None, levels), left_out)
    except HistoryError as error:
        enough = known[~known[SERIES].isin(error.series)]
        if enough.empty:
            raise
        short = {name: f"a forecast needs {forecaster.lookback} rows of history" for name in error.series}
        return IssuedForecasts(followed.forecast_table(enough, None, levels), {**left_out, **short})


def _newest(spec: DataSpec, moment: pd.Timestamp) -> np.datetime64:
    """The newest time stamp of a row that was whole at a moment."""
    stamp = np.datetime64(moment.tz_convert("UTC").tz_localize(None), "us")
    if spec.resample is None:
        return stamp
    frequency = Frequency.parse(spec.frequency, spec.timezone)
    return frequency.shift(frequency.floor(np.array([stamp]))[0], -1)


def _begun(table: pd.DataFrame, forecaster: Forecaster) -> tuple[pd.DataFrame, dict[str, str]]:
    """The rows of series that have begun and that the training knew, and why the others are left out."""
    table = table[~table[SERIES].isin(forecaster.left_out)]
    measured = table[list(forecaster.spec.target)].notna().all(axis=1)
    begun = set(table.loc[measured, SERIES].unique())
    left_out = {}
    for name in table[SERIES].unique():
        if name not in begun:
            left_out[name] = "no row has a value of every target by then"
        elif not forecaster.normalizer.knows(name):
            left_out[name] = "it was not there in training"
    return (table[~table[SERIES].isin(left_out)] if left_out else table), left_out


def _followed(forecaster: Forecaster, table: pd.DataFrame) -> Forecaster:
    """The forecaster with intervals that know the newest errors; the same one where they are not to follow any."""
    intervals = forecaster.intervals
    if intervals.calibrated_until is None:
        return forecaster
    measured = table[list(forecaster.spec.target)].notna().all(axis=1)
    times = np.unique(table.loc[measured, TIME].to_numpy("datetime64[us]"))
    new = times[times > intervals.calibrated_until]
    names = table[SERIES].unique()
    if len(new) > _MAX_TIMES:
        intervals = replace(intervals, calibrated_until=new[-_MAX_TIMES - 1])
    apart = max(1, -(-len(names) * min(len(new), _MAX_TIMES) // _MAX_WINDOWS))
    some = table if apart == 1 else table[table[SERIES].isin(names[::apart])]
    return replace(forecaster, intervals=intervals).recalibrate(some)
