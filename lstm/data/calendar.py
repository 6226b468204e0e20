"""Known-ahead features that follow from the time stamp alone, in local time."""

import numpy as np
import pandas as pd

from lstm.config.data import CalendarSpec

# Feature: the attribute of a DatetimeIndex, and its period
_CYCLES = {
    "hour": ("hour", 24.0),
    "dayofweek": ("day_of_week", 7.0),
    "dayofyear": ("day_of_year", 365.25),
    "month": ("month", 12.0),
}


def calendar_columns(spec: CalendarSpec) -> list[str]:
    """Names of the columns that `calendar_features` makes, in order."""
    waves = [f"{feature}_{wave}" for feature in spec.features for wave in ("sin", "cos")]
    return waves + (["holiday"] if spec.holidays else [])


def calendar_features(times: pd.DatetimeIndex, spec: CalendarSpec, timezone: str) -> np.ndarray:
    """Sine and cosine of each cyclic feature, and a 0/1 column of public holidays.

    Args:
        times: (rows,) time stamps in UTC.
        spec: which features.
        timezone: where the clock hangs: 18:00 is 18:00 there in summer and winter.

    Returns:
        (rows, columns) float64 in [-1, 1], columns as `calendar_columns` names them.
    """
    moments = times.unique()  # series share their moments: each is looked at once
    local = moments.tz_convert(timezone)
    columns = []
    for feature in spec.features:
        attribute, period = _CYCLES[feature]
        position = getattr(local, attribute).to_numpy(dtype=np.float64)
        if feature == "hour":
            position = position + local.minute.to_numpy() / 60 + local.second.to_numpy() / 3600
        angle = 2 * np.pi * position / period
        columns += [np.sin(angle), np.cos(angle)]
    if spec.holidays:
        columns.append(_holidays(local, spec.holidays))
    return np.stack(columns, axis=1)[moments.get_indexer(times)] if columns else np.zeros((len(times), 0))


def _holidays(local: pd.DatetimeIndex, country: str) -> np.ndarray:
    from holidays import country_holidays

    days = local.tz_localize(None).normalize()
    code, _, part = country.partition("-")
    calendar = country_holidays(code, subdiv=part or None, years=sorted(set(days.year)))
    return days.isin(pd.DatetimeIndex(sorted(calendar))).astype(np.float64)
