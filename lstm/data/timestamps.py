"""From a column of timestamps of any type to UTC. Ambiguous timestamps are refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.errors import DataError

_BLANK = r"[ \t\n\r\f\v]*"  # with \s pandas would not use Arrow's fast regular expressions
_OFFSET = (
    rf"[T ]{_BLANK}\d[\d:.]*{_BLANK}(?:Z|[+-]\d\d?(?::?\d\d)?){_BLANK}$"  # after a time only: dates contain a - too
)
_FIRST, _END = np.datetime64("1800", "us"), np.datetime64("2201", "us")
_PRESENT = ("now", "today")  # pandas would parse them as the current time
_ISO = "Use ISO 8601 such as 2013-01-31T18:00:00Z, or say how times are written: data.time_format: '%d/%m/%Y %H:%M'."
_SINCE = "and nobody says since when"

Cell = Callable[[pd.Series, Any], str]  # returns the name, in messages, of the first cell where an array is True


class TimestampReader:
    """Reads one chunk after the other. All timestamps of a table must have an offset, or none."""

    def __init__(self, spec: DataSpec, name: str) -> None:
        """Use `spec`; messages call the table `name`."""
        self.spec, self.name = spec, name
        self._has_offsets: bool | None = None

    def read(self, raw: pd.Series, cell: Cell) -> pd.Series:
        """Return the times of a column: datetime64[us], UTC.

        Raises:
            DataError: a time is missing, unparsable, out of range, or ambiguous or nonexistent in the local time zone.
        """
        raw = self._to_text(raw)
        times = _map_distinct(raw, self._parse)
        if _is_text(raw) and (present := raw.isin(_PRESENT)).any():
            times = times.mask(present)
        bad = times.isna().to_numpy()
        if bad.any():
            raise DataError(f"{cell(raw, bad)}: {self._parse_problem(raw, bad)}")
        values = times.to_numpy("datetime64[us]")
        outside = (values < _FIRST) | (values >= _END)
        if outside.any():
            raise DataError(
                f"{cell(raw, outside)}: {format_cell(raw, outside)} is not in 1800 to 2200. Correct the time."
            )
        if not self._check_offsets(raw, cell):
            times = self._localize(times.dt.tz_localize(None), raw, cell).dt.tz_convert("UTC")
        return times.dt.as_unit("us")

    def _parse(self, raw: pd.Series) -> pd.Series:
        return pd.to_datetime(raw, errors="coerce", utc=True, format=self.spec.time_format or "ISO8601")

    def _to_text(self, raw: pd.Series) -> pd.Series:
        """Return text or dates; whole numbers become text if data.time_format describes their digits."""
        if raw.dtype == object and raw.map(type).isin([bytes]).any():
            return raw.astype("str")
        if not pd.api.types.is_numeric_dtype(raw) or raw.empty:
            return raw
        if self.spec.time_format and bool((raw.dropna() % 1 == 0).all()):
            return raw.astype("Int64").astype("str").where(raw.notna())
        raise DataError(f"{self.name}: column {raw.name!r} holds numbers, {_SINCE}. {_ISO}")

    def _parse_problem(self, raw: pd.Series, bad: np.ndarray) -> str:
        text = format_cell(raw, bad)
        if raw[bad].isna().iloc[0]:
            return "the time is empty or NA. Fill it in, or leave the row out."
        if self.spec.time_format:
            return f"{text} is not what data.time_format {self.spec.time_format!r} describes. Correct one of them."
        is_number = text.strip("'").replace(".", "", 1).isdigit()
        return f"{text} is a number, {_SINCE}. {_ISO}" if is_number else f"{text} is no time. {_ISO}"

    def _check_offsets(self, raw: pd.Series, cell: Cell) -> bool:
        """Check that all timestamps have an offset, or none, and return whether they have."""
        has_offset = self._with_offset(raw)
        if self._has_offsets is None and len(has_offset):
            self._has_offsets = bool(has_offset[0])
        other = has_offset != self._has_offsets
        if other.any():
            problem = "has no offset" if self._has_offsets else "has an offset"
            raise DataError(
                f"{cell(raw, other)}: {format_cell(raw, other)} {problem}, unlike the rows before. "
                "Write all times with an offset, or all without."
            )
        return bool(self._has_offsets)

    def _with_offset(self, raw: pd.Series) -> np.ndarray:
        """(rows,) bool: whether a timestamp has an offset."""
        if pd.api.types.is_datetime64_any_dtype(raw):
            return np.full(len(raw), getattr(raw.dt, "tz", None) is not None)
        if self.spec.time_format:
            return np.full(len(raw), "%z" in self.spec.time_format.lower())
        return _map_distinct(raw.astype("str"), _ends_with_offset).to_numpy(bool, na_value=False)

    def _localize(self, wall: pd.Series, raw: pd.Series, cell: Cell) -> pd.Series:
        zone = self.spec.timezone
        local = wall.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        if local.notna().all():
            return local
        first = np.ones(len(wall), bool)
        if self._has_calendar_steps(wall):
            # Where the clocks skip or repeat midnight, a day begins with its first moment.
            days = wall.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
            is_midnight = (wall == wall.dt.normalize()) & (wall == days.dt.tz_localize(None).dt.normalize())
            local = local.where(local.notna() | ~is_midnight, days)
        bad = local.isna().to_numpy()
        if not bad.any():
            return local
        unskipped = wall.dt.tz_localize(zone, ambiguous=first, nonexistent="NaT")
        problem = "does not exist" if unskipped.isna().to_numpy()[bad.argmax()] else "comes twice"
        raise DataError(
            f"{cell(raw, bad)}: local time {format_cell(raw, bad)} {problem} in {zone}, where the clocks change. "
            "Write times with their offset (2013-11-03T01:30:00-04:00), or in UTC with a Z."
        )

    def _has_calendar_steps(self, wall: pd.Series) -> bool:
        """Return whether the steps are whole days or longer."""
        spec = self.spec
        if spec.frequency in ("infer", "irregular"):
            return spec.frequency == "infer" and bool((wall == wall.dt.normalize()).all())
        return spec.resample is None and Frequency.parse(spec.frequency, spec.timezone).unit is not None


def format_cell(raw: pd.Series, bad: Any) -> str:
    """Format the first cell where `bad` is True as the user knows it: `inf`, not `np.float64(inf)`."""
    value = raw.iloc[int(np.asarray(bad).argmax())]
    if hasattr(value, "isoformat") and not pd.isna(value):
        return str(value.isoformat())
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:60]}…"


def _ends_with_offset(raw: pd.Series) -> pd.Series:
    return raw.str.contains(_OFFSET, regex=True)


def _map_distinct(raw: pd.Series, function: Callable[[pd.Series], pd.Series]) -> pd.Series:
    """Apply a function to a column; of text, to its distinct values only, since series share timestamps."""
    if not isinstance(raw.dtype, pd.StringDtype):
        return function(raw)
    codes, values = pd.factorize(raw, use_na_sentinel=False)
    return function(pd.Series(values)).take(codes).set_axis(raw.index)


def _is_text(raw: pd.Series) -> bool:
    return raw.dtype == object or isinstance(raw.dtype, pd.StringDtype)
