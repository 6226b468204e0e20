"""Calendar features, computed from the local time of each timestamp."""

import numpy as np
import pandas as pd

from lstm.config.data import CalendarSpec

# Feature: the attribute of a DatetimeIndex and its period.
_CYCLES = {
    "hour": ("hour", 24.0),
    "dayofweek": ("day_of_week", 7.0),
    "dayofyear": ("day_of_year", 365.25),
    "month": ("month", 12.0),
}


def calendar_columns(spec: CalendarSpec) -> list[str]:
    """Return the names of the columns of `calendar_features`, in order."""
    cycles = [f"{feature}_{function}" for feature in spec.features for function in ("sin", "cos")]
    return cycles + (["holiday"] if spec.holidays else [])


def calendar_features(times: pd.DatetimeIndex, spec: CalendarSpec, timezone: str) -> np.ndarray:
    """Compute sine and cosine of each cyclic feature, and a 0/1 column of public holidays.

    Args:
        times: (rows,) timestamps in UTC.
        spec: the features to compute.
        timezone: of the local time; 18:00 stays 18:00 in summer and winter.

    Returns:
        (rows, columns) float64 in [-1, 1], columns in the order of `calendar_columns`.
    """
    distinct = times.unique()  # series share timestamps: compute each once
    local = distinct.tz_convert(timezone)
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
    return np.stack(columns, axis=1)[distinct.get_indexer(times)] if columns else np.zeros((len(times), 0))


def _holidays(local: pd.DatetimeIndex, country: str) -> np.ndarray:
    from holidays import country_holidays

    days = local.tz_localize(None).normalize()
    code, _, subdivision = country.partition("-")
    calendar = country_holidays(code, subdiv=subdivision or None, years=sorted(set(days.year)))
    return days.isin(pd.DatetimeIndex(sorted(calendar))).astype(np.float64)
