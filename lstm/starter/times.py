"""Find the column of times, its format and time zone, and columns that follow from it."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from lstm.errors import DataError
from lstm.starter.names import Choice, calendar_part, format_names, is_time_name
from lstm.starter.zones import find_zone

_OFFSET = r"(?:Z|:\d\d(?:\.\d+)?\s?[+-]\d\d(?::?\d\d)?)$"
_DATES = (  # formats outside ISO 8601
    "%d.%m.%Y;%d/%m/%Y;%m/%d/%Y;%d-%m-%Y;%m-%d-%Y;%d.%m.%y;%d/%m/%y;%m/%d/%y;%d-%m-%y;%d-%b-%Y;%d-%b-%y;%d %b %Y;"
    "%d %B %Y;%b %d, %Y;%B %d, %Y;%b %d %Y;%d/%b/%Y"
)
_CLOCKS = "; %H:%M; %H:%M:%S; %H:%M:%S.%f; %I:%M %p; %I:%M:%S %p"
_TIME_OF_DAY = r"\d{1,2}:\d{2}(?::\d{2}(?:\.\d+)?)?(?:\s?[APap][Mm])?"


@dataclass(frozen=True)
class Times:
    """The times of a table."""

    column: Choice[str]
    format: Choice[str | None]  # None: ISO 8601
    timezone: Choice[str]
    moments: np.ndarray  # (rows,) datetime64[us], UTC
    left_out: dict[str, str]  # other columns of times and calendar parts, with the reason

    @property
    def local(self) -> pd.DatetimeIndex:
        """Local times of the time zone, without an offset."""
        return pd.DatetimeIndex(self.moments, tz="UTC").tz_convert(self.timezone.value).tz_localize(None)


@dataclass(frozen=True)
class _Parsed:
    stamps: pd.Series  # NaT where a cell is no time; in UTC if the cells have an offset
    format: str | None

    @property
    def zoned(self) -> bool:
        return self.stamps.dt.tz is not None

    @property
    def naive(self) -> pd.DatetimeIndex:
        stamps = pd.DatetimeIndex(self.stamps)
        return stamps.tz_localize(None) if self.zoned else stamps


def find_times(frame: pd.DataFrame, name: str, from_text: bool) -> Times:
    """Find the column of times.

    Args:
        frame: columns named by text.
        name: of the table in messages.
        from_text: whether numbers were read from text, as from CSV, so that 20130131 may be a date.

    Raises:
        DataError: there is none, a cell of it is no time, or days and hours are in two columns.
    """
    candidates = {str(column): parsed for column in frame if (parsed := _parse(frame[column])) is not None}
    candidates = candidates or (_numeric_dates(frame) if from_text else {})
    if not candidates:
        raise DataError(_no_time(frame, name))
    columns = list(frame.columns)
    best = max(candidates, key=lambda column: _rank(column, candidates[column], columns.index(column)))
    parsed = candidates[best]
    _check_cells(frame[best], parsed, name)
    _check_clock(frame, best, parsed, name)
    others = {column: f"another column of times; {best!r} is used" for column in candidates if column != best}
    times = Times(
        column=Choice(best, "times with their offset from UTC" if parsed.zoned else "times without an offset"),
        format=Choice(parsed.format, "how the times are written"),
        timezone=find_zone(frame, best, {column: candidate.stamps for column, candidate in candidates.items()}),
        moments=parsed.naive.to_numpy("datetime64[us]"),
        left_out=others,
    )
    times.left_out.update(_calendar_columns(frame, times))
    return times


def _rank(column: str, parsed: _Parsed, position: int) -> tuple[Any, ...]:
    complete = bool(parsed.stamps.notna().all())
    return complete, parsed.zoned, is_time_name(column), parsed.stamps.nunique(), -position


def _parse(raw: pd.Series) -> _Parsed | None:
    """Return the cells as times; None if they are something else."""
    if pd.api.types.is_datetime64_any_dtype(raw):
        return _Parsed(raw.dt.tz_convert("UTC") if getattr(raw.dt, "tz", None) is not None else raw, None)
    cells = raw.dropna()
    if pd.api.types.is_numeric_dtype(raw) or cells.empty:
        return None
    text = cells.astype("str")
    for form in (None, *_formats(text)):
        if _to_times(text.iloc[:200], form).notna().mean() > 0.9:
            return _Parsed(_to_times(raw, form), form)
    return None


def _formats(text: pd.Series) -> list[str]:
    """Return the formats that fit the first cell, the one that fits most cells first."""
    zone = " %z" if re.search(r" [+-]\d\d:?\d\d$", text.iloc[0]) else ""
    forms = [f"{date}{clock}{zone}" for date in _DATES.split(";") for clock in _CLOCKS.split(";")]
    fitting = [form for form in forms if _fits(text.iloc[0], form)]
    return sorted(fitting, key=lambda form: (-_to_times(text, form).notna().sum(), not _is_rising(text, form), form))


def _fits(cell: str, form: str) -> bool:
    try:
        return bool(datetime.strptime(cell, form))
    except ValueError:
        return False


def _is_rising(text: pd.Series, form: str) -> bool:
    return bool(_to_times(text, form).dropna().is_monotonic_increasing)


def _to_times(raw: pd.Series, form: str | None) -> pd.Series:
    """Return times between 1800 and 2200, NaT elsewhere."""
    first = raw.dropna().astype("str").iloc[:1]
    zoned = bool(first.str.contains(_OFFSET, regex=True).any())
    stamps = pd.to_datetime(raw, errors="coerce", utc=zoned, format=form or "ISO8601")
    return stamps.where(stamps.dt.year.between(1800, 2200))


def _numeric_dates(frame: pd.DataFrame) -> dict[str, _Parsed]:
    """Return numeric columns that are dates if read as text: 20130131, or 2013 in a column of years."""
    candidates = {}
    for column in map(str, frame.select_dtypes("integer")):
        low, high = frame[column].min(), frame[column].max()
        parts = [str(other) for other in frame if calendar_part(str(other))]
        years = low >= 1800 and high <= 2200 and parts == [column] and calendar_part(column) == "year"
        days = low >= 18_000_101 and high <= 22_001_231 and is_time_name(column)
        if years or days:
            stamps = _to_times(frame[column].astype("str"), None)
            candidates.update({column: _Parsed(stamps, None)} if stamps.notna().all() else {})
    return candidates


def _no_time(frame: pd.DataFrame, name: str) -> str:
    parts = [str(column) for column in frame if calendar_part(str(column))]
    fix = f" Join {format_names(parts)} into one column." if len(parts) > 1 else ""
    return (
        f"{name}: no column holds times; its columns are {format_names(list(frame.columns), 30)}. Give it a column in "
        f"ISO 8601 such as 2013-01-31T18:00:00Z; numbers are not read as times.{fix}"
    )


def _check_cells(raw: pd.Series, parsed: _Parsed, name: str) -> None:
    bad = parsed.stamps.isna().to_numpy()
    if bad.any():
        row = int(bad.argmax())
        raise DataError(
            f"{name}: column {raw.name!r}, row {row + 1}: {str(raw.iloc[row])[:60]!r} is no time, while "
            f"{(~bad).sum()} of {len(bad)} rows hold one. Correct it, or remove the row."
        )


def _check_clock(frame: pd.DataFrame, best: str, parsed: _Parsed, name: str) -> None:
    """Raise if a second column holds the time of day: its rows would look like many rows per day."""
    if parsed.stamps.is_unique or (parsed.naive != parsed.naive.normalize()).any():
        return
    for column in frame:
        cells = frame[column].dropna()
        if pd.api.types.is_numeric_dtype(cells):
            clock = calendar_part(str(column)) == "hour"
        else:
            clock = bool(cells.astype("str").str.fullmatch(_TIME_OF_DAY).all())
        if clock and cells.nunique() > 1:
            raise DataError(
                f"{name}: column {best!r} holds days and column {column!r} the time of day. Join them into one column "
                "of times such as 2013-01-31T18:00:00Z."
            )


def _calendar_columns(frame: pd.DataFrame, times: Times) -> dict[str, str]:
    """Return columns that follow from the time, such as year or hour, also of another time zone."""
    local, reasons = times.local, {}
    for column in frame:
        part = calendar_part(str(column))
        if part and column != times.column.value and pd.api.types.is_integer_dtype(frame[column]):
            pairs = pd.crosstab(np.asarray(getattr(local, part)), frame[column].to_numpy())
            if pairs.max(axis=1).sum() > 0.5 * len(frame):
                reasons[str(column)] = f"follows from {times.column.value!r}"
    return reasons
