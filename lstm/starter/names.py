"""What a column's name suggests of its role; choices with reasons; formatting for messages."""

import re
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")
_WORDS = """
times: time times timestamp datetime date dates ds when day month week period datum zeit utc year
ids: id ids uid key series shop store site station sensor device meter item sku product symbol ticker asset region zone
    location customer client origin airport city country branch plant household building channel name user
targets: target y value sales sold demand load consumption count cnt close price temp ot
"""
_TIMES, _IDS, _TARGETS = (part.split() for part in re.split(r"\w+:", _WORDS)[1:])
_CALENDAR_PARTS = {  # column name in lower-case letters: part of a time
    **dict.fromkeys(("year", "yr"), "year"),
    **dict.fromkeys(("month", "mnth", "mon"), "month"),
    **dict.fromkeys(("day", "dom", "dayofmonth"), "day"),
    **dict.fromkeys(("hour", "hr", "hourofday"), "hour"),
    **dict.fromkeys(("minute", "min"), "minute"),
    **dict.fromkeys(("second", "sec"), "second"),
    **dict.fromkeys(("weekday", "dayofweek", "dow"), "day_of_week"),
    **dict.fromkeys(("dayofyear", "doy", "yday"), "day_of_year"),
    "quarter": "quarter",
}


@dataclass(frozen=True)
class Choice(Generic[T]):
    """A guessed value and the reason for it, in one line."""

    value: T
    reason: str


def words(name: str) -> list[str]:
    """Return the words of a column's name in lower case: shop, sales and 2 for `shopSales_2`."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name)]


def format_names(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Return quoted names, separated by commas; of more than `most`, also their number."""
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def format_percent(share: float) -> str:
    """Return a share as `98.9 %`; 100 % only if it is exactly 1."""
    digits = 0 if share in (0, 1) else 1
    return f"{min(100 * share, 99.9) if share < 1 else 100:.{digits}f} %"


def calendar_part(name: str) -> str | None:
    """Return the part of a time that a column name suggests: `year`, `day_of_week`, …, or None."""
    return _CALENDAR_PARTS.get(re.sub(r"[^a-z]", "", name.lower()))


def is_time_name(name: str) -> bool:
    """Return whether a column name suggests times."""
    return not set(_TIMES).isdisjoint(words(name))


def is_id_name(name: str) -> bool:
    """Return whether a column name suggests an id of a series."""
    parts = words(name) or [""]
    return parts[-1] in (*_IDS, "no", "nr") or parts[0] == "id"


def is_holiday_name(name: str) -> bool:
    """Return whether a column name suggests public holidays."""
    return any(word in ("holiday", "holidays", "feiertag") for word in words(name))


def target_rank(name: str) -> tuple[int, bool] | None:
    """Return how strongly a column name suggests a target, the strongest lowest; None if it does not."""
    parts = words(name)
    for rank, hint in enumerate(_TARGETS):
        if any(word in (hint, f"{hint}s") or (hint == "temp" and word.startswith("temperature")) for word in parts):
            return rank, len(parts) > 1
    return None
