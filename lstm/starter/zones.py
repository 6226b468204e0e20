"""Find the time zone of a table, if one of its columns reveals it."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from lstm.starter.names import Choice, calendar_part

Agrees = Callable[[pd.DatetimeIndex], np.ndarray]
_SAMPLE_ROWS = 20_000  # that zones are tested on
_OFFSET = r"(?:Z|\s?[+-]\d\d(?::?\d\d)?)$"
# Of zones with the same time, the first one is guessed.
_ZONES = """
    UTC Europe/London Europe/Berlin Europe/Helsinki Europe/Istanbul Europe/Moscow America/New_York America/Chicago
    America/Denver America/Phoenix America/Los_Angeles America/Anchorage America/Halifax America/Sao_Paulo
    America/Bogota America/Mexico_City Pacific/Honolulu Australia/Sydney Australia/Melbourne Australia/Brisbane
    Australia/Adelaide Australia/Darwin Australia/Perth Pacific/Auckland Asia/Tokyo Asia/Seoul Asia/Shanghai
    Asia/Singapore Asia/Bangkok Asia/Dhaka Asia/Kolkata Asia/Karachi Asia/Dubai Asia/Tehran Asia/Jerusalem
    Africa/Cairo Africa/Johannesburg Africa/Lagos
"""


def find_zone(frame: pd.DataFrame, column: str, stamps: dict[str, pd.Series]) -> Choice[str]:
    """Return the time zone of a table.

    Args:
        frame: the table.
        column: its times.
        stamps: its parsed columns of times, in UTC if they have an offset.
    """
    moments = pd.DatetimeIndex(stamps[column])
    if moments.tz is None:
        return Choice("UTC", "assumed: the times have no offset; name the zone if they are local times")
    zone_name = str(getattr(getattr(frame[column], "dt", None), "tz", None))
    if zone_name != "UTC" and _is_zone(zone_name):
        return Choice(zone_name, f"the zone of {column!r}")
    rows = np.unique(np.linspace(0, len(frame) - 1, min(_SAMPLE_ROWS, len(frame))).astype(np.int64))
    locals_ = {zone: moments[rows].tz_convert(zone).tz_localize(None) for zone in _ZONES.split()}
    for reason, agrees in _local_clocks(frame, column, stamps, rows):
        matching = [zone for zone, local in locals_.items() if agrees(local).mean() > 0.999]
        if matching:
            also = f", and in {', '.join(matching[1:4])}" if matching[1:] else ""
            return Choice(matching[0], f"{reason} there{also}; name your own zone")
    return Choice("UTC", "the times are in UTC; for calendar features name the local time zone")


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def _local_clocks(
    frame: pd.DataFrame, column: str, stamps: dict[str, pd.Series], rows: np.ndarray
) -> list[tuple[str, Agrees]]:
    """Return sources of local time: a description, and a function for which rows agree with a zone's local times."""
    clocks: list[tuple[str, Agrees]] = []
    if not pd.api.types.is_datetime64_any_dtype(frame[column]):
        text = frame[column].iloc[rows].astype("str").str.replace(_OFFSET, "", regex=True)
        wall = pd.DatetimeIndex(pd.to_datetime(text, errors="coerce", format="ISO8601"))
        utc = pd.DatetimeIndex(stamps[column]).tz_localize(None)[rows]
        if not wall.hasnans and (wall != utc).any():
            clocks.append((f"{column!r} has the offsets used", lambda local: np.asarray(local == wall)))
    for other, shown in stamps.items():
        if other != column and shown.dt.tz is None:
            clocks.append((f"{other!r} is the local time", _agrees_with(pd.DatetimeIndex(shown)[rows])))
    for other in map(str, frame):
        if calendar_part(other) == "hour" and pd.api.types.is_numeric_dtype(frame[other]):
            clocks.append((f"{other!r} is the hour", _agrees_with_hours(frame[other].to_numpy()[rows])))
    return clocks


def _agrees_with(shown: pd.DatetimeIndex) -> Agrees:
    """Return the comparison with a column of local times, or of local days."""
    if bool((shown == shown.normalize()).all()):
        return lambda local: np.asarray(local.normalize() == shown)
    return lambda local: np.asarray(local == shown)


def _agrees_with_hours(hours: np.ndarray) -> Agrees:
    return lambda local: np.asarray(local.hour == hours)
