"""Columns and types of the forecast log, the same for all formats."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from lstm.data.rows import SERIES, TIME
from lstm.errors import ConfigError

TARGET, ISSUED, VERSION, RUN = "target", "issued_at", "model_version", "run"
TEXT = (SERIES, TARGET, VERSION, RUN)


def log_columns(targets: Sequence[str], levels: Iterable[int]) -> list[str]:
    """Return the columns of the log, in order."""
    bands = [f"{side}-{level}" for level in levels for side in ("lo", "hi")]
    return [SERIES, TIME, *([TARGET] if len(targets) > 1 else []), "forecast", *bands, ISSUED, VERSION, RUN]


def is_band(name: str) -> bool:
    """Return whether a column is the bound of an interval."""
    return re.fullmatch(r"(lo|hi)-[1-9]\d?", name) is not None


def cast_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with the types of the log."""
    dtypes = {name: "datetime64[us, UTC]" if name in (TIME, ISSUED) else "float64" for name in rows}
    return rows.astype({**dtypes, **{name: "str" for name in TEXT if name in rows}})


def slot_in_utc(moment: pd.Timestamp) -> pd.Timestamp:
    """Return a slot in UTC.

    Raises:
        ConfigError: it has no time zone, or fractions of a second.
    """
    if moment.tzinfo is None or moment != moment.floor("s"):
        raise ConfigError(f"slot {moment.isoformat()}: must be in whole seconds, with a time zone.")
    return moment.tz_convert("UTC").as_unit("us")
