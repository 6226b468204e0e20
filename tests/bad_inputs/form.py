"""What an accepted form of input is made of, and the table that most of them yield."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from tests.bad_inputs.tables import Content, frame

GOOD = frame()
SALES = GOOD["sales"]
TIMES = pd.to_datetime(GOOD["time"])
PARQUET = "source: sales.parquet"


@dataclass(frozen=True)
class Form:
    """An input that is accepted."""

    title: str
    config: str = ""  # lines of `data`, in YAML; {web} stands for the address of a server
    files: Mapping[str, Content] = field(default_factory=dict)  # beside and instead of the good sales.csv
    rows: tuple[tuple[Any, ...], ...] | None = None  # of the canonical table: series, time, values; None: the good one
    notices: tuple[str, ...] = ()  # what is said to have been changed
    frequency: str = "1h"
    environment: Mapping[str, str] = field(default_factory=dict)
    size: tuple[int, int] | None = None  # rows and series, of a table that is too long to state


def at(*hours: float, series: str = "north") -> list[tuple[Any, ...]]:
    """Rows an hour apart, from 2024-01-01 on, with these sales."""
    return [(series, f"2024-01-01T{hour:02d}:00", sales) for hour, sales in enumerate(hours)]


def days(*times: str) -> tuple[tuple[Any, ...], ...]:
    """Rows at these times in UTC, with sales 0, 1, 2, …"""
    return tuple(("north", time, float(number)) for number, time in enumerate(times))
