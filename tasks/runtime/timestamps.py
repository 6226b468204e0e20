"""Parse times that a schedule or a user gives."""

from contextlib import suppress
from datetime import datetime
from typing import Any

import pandas as pd

from lstm.errors import ConfigError


def as_utc(moment: datetime | str, name: str) -> pd.Timestamp:
    """Return a time in UTC; without a time zone it is taken as UTC.

    Args:
        moment: a datetime, or ISO 8601 text.
        name: of the parameter, for the message.

    Raises:
        ConfigError: it is no valid time.
    """
    stamp: Any = pd.NaT
    with suppress(ValueError, TypeError, OverflowError):
        stamp = pd.Timestamp(moment) if isinstance(moment, str | datetime) else pd.NaT
    if stamp is pd.NaT:
        raise ConfigError(f"{name}={moment!r}: must be a time such as 2026-01-31T06:00:00Z.")
    stamp = stamp.as_unit("us")
    return stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
