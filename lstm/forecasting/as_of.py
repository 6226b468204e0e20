"""Forecasts as of a past moment, from what was known then.

A row counts as known at a moment if its time stamp is not later. With `data.resample` a row holds the measurements
within its step, so it is known only when the step has ended. Of later rows only the columns known ahead (`known`,
`static`) are used.

Before forecasting, the intervals follow the errors since the training (`Forecaster.recalibrate`), of at most the newest
`_MAX_TIMES` time stamps and about `_MAX_WINDOWS` windows. Errors of all series at one time enter as their mean, so with
many series an even sample of them is enough.
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

# With each error inside, the offset of the 95 % level shrinks by a factor of 1 - 0.03 · 0.05, so an error 1000 errors
# ago has a fifth of its effect left. The windows limit keeps recalibration as cheap as the forecast itself.
_MAX_TIMES = 1000
_MAX_WINDOWS = 5000


@dataclass(frozen=True)
class IssuedForecasts:
    """Forecasts as of one moment, and the series without one."""

    rows: pd.DataFrame  # as `Forecaster.forecast_table` returns them
    left_out: dict[str, str]  # series -> reason


def table_as_of(table: pd.DataFrame, spec: DataSpec, moment: pd.Timestamp) -> pd.DataFrame:
    """Return a canonical table as it was known at a moment.

    Rows that were not known yet keep only the columns known ahead; without such columns they are dropped.

    Args:
        table: canonical.
        spec: its columns, with its actual frequency.
        moment: with a time zone.
    """
    later = table[TIME].to_numpy("datetime64[us]") > _newest_known(spec, moment)
    if not spec.known:
        return table[~later].reset_index(drop=True)
    measured = [*spec.target, *spec.observed]
    masked = {name: table[name].mask(later) for name in measured}
    return table.assign(**masked).reset_index(drop=True)


def needed_rows(forecaster: Forecaster, piece: pd.DataFrame, first: pd.Timestamp, last: pd.Timestamp) -> pd.DataFrame:
    """Return the rows of a piece of a canonical table that forecasts as of moments from `first` to `last` depend on.

    Args:
        forecaster: the forecaster.
        piece: rows of whole series.
        first, last: with a time zone.
    """
    spec, times = forecaster.spec, piece[TIME].to_numpy("datetime64[us]")
    if spec.frequency == "irregular":
        return piece[times <= _newest_known(spec, last)]
    frequency, newest = Frequency.parse(spec.frequency, spec.timezone), _newest_known(spec, first)
    calibrated = forecaster.intervals.calibrated_until
    oldest = frequency.shift(newest, -_MAX_TIMES - forecaster.horizon)
    begin = newest if calibrated is None else np.maximum(calibrated, oldest)
    kept = times > frequency.shift(np.minimum(newest, begin), -forecaster.reach - 1)
    kept[forecaster.recent(piece[times <= newest]).index] = True
    return piece[kept & (times <= frequency.shift(_newest_known(spec, last), forecaster.horizon + 1))]


def forecast_as_of(
    forecaster: Forecaster, table: pd.DataFrame, moment: pd.Timestamp, levels: tuple[int, ...]
) -> IssuedForecasts:
    """Forecast all series of a canonical table as of a moment, over the trained horizon.

    A series is left out, with a reason, if no row had all targets by then, if the training did not know it, or if its
    history is too short.

    Args:
        forecaster: not changed; a copy of its intervals follows the errors known at the moment.
        table: canonical; the rows of `needed_rows` are enough.
        moment: with a time zone.
        levels: of the intervals, in percent.

    Raises:
        DataError: no series can be forecast, or a known column lacks a value within the horizon.
    """
    known, left_out = _drop_unforecastable(table_as_of(table, forecaster.spec, moment), forecaster)
    if known.empty:
        reason = next(iter(left_out.values()), "there are no rows")
        raise DataError(f"as of {moment.isoformat()} no series can be forecast ({reason}). Give their history.")
    recalibrated = _recalibrate(forecaster, known)
    try:
        return IssuedForecasts(recalibrated.forecast_table(known, None, levels), left_out)
    except HistoryError as error:
        enough = known[~known[SERIES].isin(error.series)]
        if enough.empty:
            raise
        short = {name: f"a forecast needs {forecaster.lookback} rows of history" for name in error.series}
        return IssuedForecasts(recalibrated.forecast_table(enough, None, levels), {**left_out, **short})


def _newest_known(spec: DataSpec, moment: pd.Timestamp) -> np.datetime64:
    """Return the newest time stamp of a row that is known at a moment, in UTC."""
    stamp = np.datetime64(moment.tz_convert("UTC").tz_localize(None), "us")
    if spec.resample is None:
        return stamp
    frequency = Frequency.parse(spec.frequency, spec.timezone)
    return frequency.shift(frequency.floor(np.array([stamp]))[0], -1)


def _drop_unforecastable(table: pd.DataFrame, forecaster: Forecaster) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the rows of series that were measured and that the training knew, and why the others are left out."""
    table = table[~table[SERIES].isin(forecaster.left_out)]
    measured = table[list(forecaster.spec.target)].notna().all(axis=1)
    with_target = set(table.loc[measured, SERIES].unique())
    left_out = {}
    for name in table[SERIES].unique():
        if name not in with_target:
            left_out[name] = "no row has a value of every target by then"
        elif not forecaster.normalizer.knows(name):
            left_out[name] = "it was not there in training"
    return (table[~table[SERIES].isin(left_out)] if left_out else table), left_out


def _recalibrate(forecaster: Forecaster, table: pd.DataFrame) -> Forecaster:
    """Return the forecaster with intervals that know the newest errors; itself if the intervals don't adapt."""
    intervals = forecaster.intervals
    if intervals.calibrated_until is None:
        return forecaster
    measured = table[list(forecaster.spec.target)].notna().all(axis=1)
    times = np.unique(table.loc[measured, TIME].to_numpy("datetime64[us]"))
    new = times[times > intervals.calibrated_until]
    names = table[SERIES].unique()
    if len(new) > _MAX_TIMES:
        intervals = replace(intervals, calibrated_until=new[-_MAX_TIMES - 1])
    every = max(1, -(-len(names) * min(len(new), _MAX_TIMES) // _MAX_WINDOWS))
    sample = table if every == 1 else table[table[SERIES].isin(names[::every])]
    return replace(forecaster, intervals=intervals).recalibrate(sample)
