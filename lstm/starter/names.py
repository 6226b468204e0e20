"""What the name of a column suggests, and how a guess keeps its reason."""

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
_PARTS = {  # a column's name, in lower case and letters only: what it says of a time
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
    """A guessed value, and why it was guessed, in one line."""

    value: T
    reason: str


def words(name: str) -> list[str]:
    """The words of a column's name, in lower case: `shopSales_2` holds shop, sales and 2."""
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[^\W\d_A-Z]+|\d+", name)]


def listed(names: list[str] | tuple[str, ...], most: int = 5) -> str:
    """Names for a message: quoted, by comma, and how many there are where they are many."""
    shown = ", ".join(map(repr, names[:most]))
    return shown if len(names) <= most else f"{shown}, … ({len(names)} in all)"


def percent(share: float) -> str:
    """A share for a message: `98.9 %`, and 100 % only where it is all."""
    digits = 0 if share in (0, 1) else 1
    return f"{min(100 * share, 99.9) if share < 1 else 100:.{digits}f} %"


def part_of(name: str) -> str | None:
    """What a column of this name says of a time: `year`, `day_of_week`, …; None where it is not called so."""
    return _PARTS.get(re.sub(r"[^a-z]", "", name.lower()))


def says_time(name: str) -> bool:
    """Whether a column is called as times are."""
    return not set(_TIMES).isdisjoint(words(name))


def says_id(name: str) -> bool:
    """Whether a column is called as what tells series apart is."""
    own = words(name) or [""]
    return own[-1] in (*_IDS, "no", "nr") or own[0] == "id"


def says_holiday(name: str) -> bool:
    """Whether a column is called as public holidays are."""
    return any(word in ("holiday", "holidays", "feiertag") for word in words(name))


def target_rank(name: str) -> tuple[int, bool] | None:
    """How much a column is called as what people forecast is, less being more; None where it is not."""
    own = words(name)
    for rank, hint in enumerate(_TARGETS):
        if any(word in (hint, f"{hint}s") or (hint == "temp" and word.startswith("temperature")) for word in own):
            return rank, len(own) > 1
    return None
