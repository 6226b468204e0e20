"""Which time zone the people behind a table live in, where one of its columns tells."""

from collections.abc import Callable
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd

from lstm.starter.names import Choice, part_of

Agrees = Callable[[pd.DatetimeIndex], np.ndarray]
_SAMPLE = 20_000  # rows that the zones are tried on
_OFFSET = r"(?:Z|\s?[+-]\d\d(?::?\d\d)?)$"
# Of zones that keep the same time, the one that a guess names comes first.
_ZONES = """
    UTC Europe/London Europe/Berlin Europe/Helsinki Europe/Istanbul Europe/Moscow America/New_York America/Chicago
    America/Denver America/Phoenix America/Los_Angeles America/Anchorage America/Halifax America/Sao_Paulo
    America/Bogota America/Mexico_City Pacific/Honolulu Australia/Sydney Australia/Melbourne Australia/Brisbane
    Australia/Adelaide Australia/Darwin Australia/Perth Pacific/Auckland Asia/Tokyo Asia/Seoul Asia/Shanghai
    Asia/Singapore Asia/Bangkok Asia/Dhaka Asia/Kolkata Asia/Karachi Asia/Dubai Asia/Tehran Asia/Jerusalem
    Africa/Cairo Africa/Johannesburg Africa/Lagos
"""


def find_zone(frame: pd.DataFrame, column: str, stamps: dict[str, pd.Series]) -> Choice[str]:
    """The time zone of a table.

    Args:
        frame: the table.
        column: its times.
        stamps: its columns of times, as times: in UTC where they carry an offset.
    """
    moments = pd.DatetimeIndex(stamps[column])
    if moments.tz is None:
        return Choice("UTC", "assumed: the times carry no offset; name the zone if they are local to one")
    own = str(getattr(getattr(frame[column], "dt", None), "tz", None))
    if own != "UTC" and _is_zone(own):
        return Choice(own, f"the zone of {column!r}")
    rows = np.unique(np.linspace(0, len(frame) - 1, min(_SAMPLE, len(frame))).astype(np.int64))
    locals_ = {zone: moments[rows].tz_convert(zone).tz_localize(None) for zone in _ZONES.split()}
    for what, agrees in _clocks(frame, column, stamps, rows):
        same = [zone for zone, local in locals_.items() if agrees(local).mean() > 0.999]
        if same:
            also = f", and in {', '.join(same[1:4])}" if same[1:] else ""
            return Choice(same[0], f"{what} there{also}; name your own zone")
    return Choice("UTC", "as the times are; for calendar features name the zone where people live by the clock")


def _is_zone(name: str) -> bool:
    try:
        return bool(ZoneInfo(name))
    except (KeyError, ValueError, OSError):
        return False


def _clocks(
    frame: pd.DataFrame, column: str, stamps: dict[str, pd.Series], rows: np.ndarray
) -> list[tuple[str, Agrees]]:
    """What tells the local time beside moments in UTC: its words, and in which rows a zone's local times agree."""
    clocks: list[tuple[str, Agrees]] = []
    if not pd.api.types.is_datetime64_any_dtype(frame[column]):
        text = frame[column].iloc[rows].astype("str").str.replace(_OFFSET, "", regex=True)
        wall = pd.DatetimeIndex(pd.to_datetime(text, errors="coerce", format="ISO8601"))
        utc = pd.DatetimeIndex(stamps[column]).tz_localize(None)[rows]
        if not wall.hasnans and (wall != utc).any():
            clocks.append((f"{column!r} has the offsets that hold", lambda local: np.asarray(local == wall)))
    for other, shown in stamps.items():
        if other != column and shown.dt.tz is None:
            clocks.append((f"{other!r} is the local time", _same(pd.DatetimeIndex(shown)[rows])))
    for other in map(str, frame):
        if part_of(other) == "hour" and pd.api.types.is_numeric_dtype(frame[other]):
            clocks.append((f"{other!r} is the hour", _same_hour(frame[other].to_numpy()[rows])))
    return clocks


def _same(shown: pd.DatetimeIndex) -> Agrees:
    """Agreement with a column of local times, or of local days."""
    if bool((shown == shown.normalize()).all()):
        return lambda local: np.asarray(local.normalize() == shown)
    return lambda local: np.asarray(local == shown)


def _same_hour(hours: np.ndarray) -> Agrees:
    return lambda local: np.asarray(local.hour == hours)
