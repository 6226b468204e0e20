"""The rows of the forecast log, whatever they are kept in."""

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from lstm.data.rows import SERIES, TIME
from lstm.errors import ConfigError

TARGET, ISSUED, VERSION, RUN = "target", "issued_at", "model_version", "run"
TEXT = (SERIES, TARGET, VERSION, RUN)


def log_columns(targets: Sequence[str], levels: Iterable[int]) -> list[str]:
    """The columns of a row, in order."""
    bands = [f"{side}-{level}" for level in levels for side in ("lo", "hi")]
    return [SERIES, TIME, *([TARGET] if len(targets) > 1 else []), "forecast", *bands, ISSUED, VERSION, RUN]


def is_band(name: str) -> bool:
    """Whether a column is the bound of an interval."""
    return re.fullmatch(r"(lo|hi)-[1-9]\d?", name) is not None


def typed(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the log's types."""
    kinds = {name: "datetime64[us, UTC]" if name in (TIME, ISSUED) else "float64" for name in rows}
    return rows.astype({**kinds, **{name: "str" for name in TEXT if name in rows}})


def utc(moment: pd.Timestamp) -> pd.Timestamp:
    """A slot in UTC.

    Raises:
        ConfigError: it has no time zone, or parts of a second, which no slot has.
    """
    if moment.tzinfo is None or moment != moment.floor("s"):
        raise ConfigError(f"slot {moment.isoformat()}: must be a moment of whole seconds with its time zone.")
    return moment.tz_convert("UTC").as_unit("us")
