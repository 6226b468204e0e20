"""From a column of time stamps, however they are typed, to UTC; what can't be told for sure is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.errors import DataError

_BLANK = r"[ \t\n\r\f\v]*"  # \s would make pandas leave Arrow's fast expressions
_OFFSET = rf"[T ]{_BLANK}\d[\d:.]*{_BLANK}(?:Z|[+-]\d\d?(?::?\d\d)?){_BLANK}$"  # behind a time: a date has a - too
_FIRST, _END = np.datetime64("1800", "us"), np.datetime64("2201", "us")
_PRESENT = ("now", "today")  # which pandas reads as the time of reading
_ISO = "Use ISO 8601 such as 2013-01-31T18:00:00Z, or say how times are written: data.time_format: '%d/%m/%Y %H:%M'."
_SINCE = "and nobody says since when"

Cell = Callable[[pd.Series, Any], str]  # what messages call the first cell of a column where an array is True


class TimestampReader:
    """Reads one chunk after the other: all stamps of a table carry their offset, or none does."""

    def __init__(self, spec: DataSpec, name: str) -> None:
        """Read by `spec`; messages call the table `name`."""
        self.spec, self.name = spec, name
        self._zoned: bool | None = None

    def read(self, raw: pd.Series, cell: Cell) -> pd.Series:
        """The moments of a column: datetime64[us], UTC.

        Raises:
            DataError: a time is missing, unparsable, out of range, or comes twice or never on the local clock.
        """
        raw = self._written(raw)
        times = _by_value(raw, self._parsed)
        if _is_text(raw) and (present := raw.isin(_PRESENT)).any():
            times = times.mask(present)
        bad = times.isna().to_numpy()
        if bad.any():
            raise DataError(f"{cell(raw, bad)}: {self._unparsable(raw, bad)}")
        moments = times.to_numpy("datetime64[us]")
        outside = (moments < _FIRST) | (moments >= _END)
        if outside.any():
            raise DataError(
                f"{cell(raw, outside)}: {format_cell(raw, outside)} is not in 1800 to 2200. Correct the time."
            )
        if not self._has_zone(raw, cell):
            times = self._localized(times.dt.tz_localize(None), raw, cell).dt.tz_convert("UTC")
        return times.dt.as_unit("us")

    def _parsed(self, raw: pd.Series) -> pd.Series:
        return pd.to_datetime(raw, errors="coerce", utc=True, format=self.spec.time_format or "ISO8601")

    def _written(self, raw: pd.Series) -> pd.Series:
        """Text or dates; whole numbers are text where a format says what their digits mean."""
        if raw.dtype == object and raw.map(type).isin([bytes]).any():
            return raw.astype("str")
        if not pd.api.types.is_numeric_dtype(raw) or raw.empty:
            return raw
        if self.spec.time_format and bool((raw.dropna() % 1 == 0).all()):
            return raw.astype("Int64").astype("str").where(raw.notna())
        raise DataError(f"{self.name}: column {raw.name!r} holds numbers, {_SINCE}. {_ISO}")

    def _unparsable(self, raw: pd.Series, bad: np.ndarray) -> str:
        found = format_cell(raw, bad)
        if raw[bad].isna().iloc[0]:
            return "the time is empty or NA. Fill it in, or leave the row out."
        if self.spec.time_format:
            return f"{found} is not what data.time_format {self.spec.time_format!r} describes. Correct one of them."
        number = found.strip("'").replace(".", "", 1).isdigit()
        return f"{found} is a number, {_SINCE}. {_ISO}" if number else f"{found} is no time. {_ISO}"

    def _has_zone(self, raw: pd.Series, cell: Cell) -> bool:
        found = self._offsets(raw)
        if self._zoned is None and len(found):
            self._zoned = bool(found[0])
        other = found != self._zoned
        if other.any():
            has = "has no offset" if self._zoned else "has an offset"
            raise DataError(
                f"{cell(raw, other)}: {format_cell(raw, other)} {has}, unlike the rows before. "
                "Write all times with an offset, or all without."
            )
        return bool(self._zoned)

    def _offsets(self, raw: pd.Series) -> np.ndarray:
        """(rows,) bool: whether a stamp carries its offset."""
        if pd.api.types.is_datetime64_any_dtype(raw):
            return np.full(len(raw), getattr(raw.dt, "tz", None) is not None)
        if self.spec.time_format:
            return np.full(len(raw), "%z" in self.spec.time_format.lower())
        return _by_value(raw.astype("str"), _with_offset).to_numpy(bool, na_value=False)

    def _localized(self, wall: pd.Series, raw: pd.Series, cell: Cell) -> pd.Series:
        zone = self.spec.timezone
        local = wall.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        if local.notna().all():
            return local
        first = np.ones(len(wall), bool)
        if self._counts_days(wall):
            # A day begins with its first moment, where the clocks skip or repeat midnight.
            days = wall.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
            begins = (wall == wall.dt.normalize()) & (wall == days.dt.tz_localize(None).dt.normalize())
            local = local.where(local.notna() | ~begins, days)
        bad = local.isna().to_numpy()
        if not bad.any():
            return local
        sure = wall.dt.tz_localize(zone, ambiguous=first, nonexistent="NaT")
        what = "does not exist" if sure.isna().to_numpy()[bad.argmax()] else "comes twice"
        raise DataError(
            f"{cell(raw, bad)}: local time {format_cell(raw, bad)} {what} in {zone}, where the clocks change. "
            "Write times with their offset (2013-11-03T01:30:00-04:00), or in UTC with a Z."
        )

    def _counts_days(self, wall: pd.Series) -> bool:
        spec = self.spec
        if spec.frequency in ("infer", "irregular"):
            return spec.frequency == "infer" and bool((wall == wall.dt.normalize()).all())
        return spec.resample is None and Frequency.parse(spec.frequency, spec.timezone).unit is not None


def format_cell(raw: pd.Series, bad: Any) -> str:
    """The first cell where `bad` is True as its user knows it: `inf`, not `np.float64(inf)`."""
    value = raw.iloc[int(np.asarray(bad).argmax())]
    if hasattr(value, "isoformat") and not pd.isna(value):
        return str(value.isoformat())
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _with_offset(raw: pd.Series) -> pd.Series:
    return raw.str.contains(_OFFSET, regex=True)


def _by_value(raw: pd.Series, made: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """What `made` makes of a column; of text it is asked once a value, since series share their times."""
    if not isinstance(raw.dtype, pd.StringDtype):
        return made(raw)
    codes, values = pd.factorize(raw, use_na_sentinel=False)
    return made(pd.Series(values)).take(codes).set_axis(raw.index)


def _is_text(raw: pd.Series) -> bool:
    return raw.dtype == object or isinstance(raw.dtype, pd.StringDtype)
