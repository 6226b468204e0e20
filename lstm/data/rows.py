"""From raw rows to checked ones: the rules that one row can break by itself.

Columns of checked rows: `series` (str), `time` (datetime64[us], UTC), `__row__` (its number in the source, from 1),
then the numeric columns as float64 and the categorical ones as str, each under its own name.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from lstm.data.spec import DataSpec
from lstm.errors import DataError, nearest

SERIES, TIME, ROW = "series", "time", "__row__"
_OFFSET = r"(?:Z|:\d\d(?:\.\d+)?\s?[+-]\d\d(?::?\d\d)?)$"
_LARGEST = 1e30  # float32 would square more to infinity
_ISO = "Use ISO 8601 such as 2013-01-31T18:00:00Z, or say how times are written: data.time_format: '%d/%m/%Y %H:%M'."


class RowReader:
    """Checks one chunk of a table after the other, and counts their rows."""

    def __init__(self, spec: DataSpec, name: str) -> None:
        """Read by `spec`; messages call the table `name`."""
        self.spec, self.name = spec, name
        self.seen = 0
        self._zoned: bool | None = None

    def read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Check and convert the next chunk; `frame` is left alone.

        Raises:
            DataError: a column is missing or holds something else than its role says, a time is unparsable,
                missing or ambiguous, or an id is missing.
        """
        spec = self.spec
        columns = wide_columns(frame, spec)
        self._check_columns(frame, [spec.time, *spec.series, *(columns or spec.target), *_covariates(spec)])
        frame = frame.reset_index(drop=True)
        rows = pd.DataFrame({TIME: self._times(frame[spec.time]), ROW: np.arange(len(frame)) + self.seen + 1})
        for column in _covariates(spec):
            rows[column] = self._values(frame[column])
        if columns:
            parts = [
                self._with_target(rows, frame, [column], pd.Series(column, index=rows.index)) for column in columns
            ]
        else:
            parts = [self._with_target(rows, frame, spec.target, self._ids(frame))]
        self.seen += len(frame)
        return pd.concat(parts, ignore_index=True)[[SERIES, TIME, ROW, *spec.values]]

    def _with_target(
        self, rows: pd.DataFrame, frame: pd.DataFrame, columns: Sequence[str], ids: pd.Series
    ) -> pd.DataFrame:
        numbers = {name: self._numbers(frame[column]) for name, column in zip(self.spec.target, columns, strict=True)}
        return rows.assign(**{SERIES: ids.astype("str")}, **numbers)

    def _check_columns(self, frame: pd.DataFrame, wanted: list[str]) -> None:
        for column in wanted:
            if column not in frame.columns:
                known = map(str, frame.columns)
                raise DataError(f"{self.name}: column {column!r} is not there.{nearest(column, known)}")
            if list(frame.columns).count(column) > 1:
                raise DataError(f"{self.name}: column {column!r} is there twice. Give each column its own name.")

    def _ids(self, frame: pd.DataFrame) -> pd.Series:
        names = list(self.spec.series)
        if not names:
            return pd.Series("all", index=frame.index, dtype="str")
        for column in names:
            missing = frame[column].isna().to_numpy()
            if missing.any():
                raise DataError(f"{self._cell(column, missing)}: the id is empty or NA. Name the series.")
        parts = [frame[column].astype("str") for column in names]
        joined = parts[0]
        for part in parts[1:]:
            joined = joined + "/" + part
        return joined

    def _times(self, raw: pd.Series) -> pd.Series:
        if pd.api.types.is_numeric_dtype(raw):
            raise DataError(
                f"{self.name}: column {raw.name!r} holds numbers, and nobody says since when. "
                "Write times in ISO 8601 such as 2013-01-31T18:00:00Z."
            )
        zoned = self._has_zone(raw)
        try:
            times = pd.to_datetime(raw, errors="coerce", utc=zoned, format=self.spec.time_format or "ISO8601")
        except ValueError as error:
            raise DataError(
                f"data.time_format {self.spec.time_format!r}: is no format of strptime ({error})."
            ) from None
        if times.isna().any():
            bad = times.isna().to_numpy()
            raise DataError(f"{self._cell(raw.name, bad)}: {_first(raw, bad)} is no time. {_ISO}")
        outside = ~times.dt.year.between(1800, 2200).to_numpy()
        if outside.any():
            raise DataError(
                f"{self._cell(raw.name, outside)}: {_first(raw, outside)} is not in 1800 to 2200. Correct the time."
            )
        return (times if times.dt.tz is not None else self._localized(times, raw)).dt.tz_convert("UTC").dt.as_unit("us")

    def _localized(self, times: pd.Series, raw: pd.Series) -> pd.Series:
        zone = self.spec.timezone
        local = times.dt.tz_localize(zone, ambiguous="NaT", nonexistent="NaT")
        bad = local.isna().to_numpy()
        if bad.any():
            sure = times.dt.tz_localize(zone, ambiguous=np.ones(len(times), bool), nonexistent="NaT")
            what = "does not exist" if sure.isna().to_numpy()[bad.argmax()] else "comes twice"
            raise DataError(
                f"{self._cell(raw.name, bad)}: local time {_first(raw, bad)} {what} in {zone}, where the clocks "
                "change. Write times with their offset (2013-11-03T01:30:00-04:00), or in UTC with a Z."
            )
        return local

    def _has_zone(self, raw: pd.Series) -> bool:
        """Whether the stamps carry their offset; all of them have to, or none."""
        if pd.api.types.is_datetime64_any_dtype(raw):
            found = np.full(len(raw), getattr(raw.dt, "tz", None) is not None)
        else:
            found = raw.astype("str").str.contains(_OFFSET, regex=True).to_numpy(bool, na_value=False)
        if self._zoned is None and len(found):
            self._zoned = bool(found[0])
        other = (found != self._zoned) & raw.notna().to_numpy()
        if other.any():
            has = "has no offset" if self._zoned else "has an offset"
            raise DataError(
                f"{self._cell(raw.name, other)}: {_first(raw, other)} {has}, unlike the rows before. "
                "Write all times with an offset, or all without."
            )
        return bool(self._zoned)

    def _values(self, raw: pd.Series) -> pd.Series:
        if raw.name not in self.spec.categorical:
            return self._numbers(raw)
        whole = pd.api.types.is_float_dtype(raw) and bool((raw.dropna() % 1 == 0).all())
        return (raw.astype("Int64") if whole else raw).astype("str").where(raw.notna(), None)

    def _numbers(self, raw: pd.Series) -> pd.Series:
        if pd.api.types.is_datetime64_any_dtype(raw) or pd.api.types.is_timedelta64_dtype(raw):
            numbers = pd.Series(np.nan, index=raw.index)
        elif raw.dtype == object and raw.map(type).isin([str, bytes]).any():
            numbers = pd.to_numeric(raw.astype("str"), errors="coerce")
        else:
            numbers = pd.to_numeric(raw, errors="coerce")
        numbers = pd.Series(numbers.to_numpy("float64", na_value=np.nan), index=raw.index)
        text = (numbers.isna() & raw.notna()).to_numpy()
        if text.any():
            raise DataError(f"{self._cell(raw.name, text)}: {_first(raw, text)} is no number. {self._fix(raw, text)}")
        for bad, what in ((np.isinf(numbers), "not finite"), (numbers.abs() > _LARGEST, "over 1e30: no measurement")):
            if bad.any():
                raise DataError(
                    f"{self._cell(raw.name, bad)}: {_first(raw, bad)} is {what}. Leave a missing value empty."
                )
        return numbers

    def _fix(self, raw: pd.Series, bad: Any) -> str:
        found = str(raw[bad].iloc[0])
        if "," in found and found.replace(",", "").replace(".", "").lstrip("-").isdigit():
            return "If the comma is a decimal sign, set data.csv.decimal: ','."
        if raw.name in self.spec.target or raw.name not in _covariates(self.spec):
            return "A target must be numeric; leave a missing value empty."
        return f"Leave a missing value empty; if the column holds categories, set data.categorical: [{raw.name}]."

    def _cell(self, column: Any, bad: Any) -> str:
        return f"{self.name}: column {column!r}, row {self.seen + int(np.asarray(bad).argmax()) + 1}"


def wide_columns(frame: pd.DataFrame, spec: DataSpec) -> tuple[str, ...]:
    """The columns of a wide table that are each a series; none where the table is long."""
    if spec.wide != "all":
        return spec.wide
    return tuple(str(name) for name in frame.columns if name != spec.time and name not in _covariates(spec))


def _covariates(spec: DataSpec) -> tuple[str, ...]:
    return (*spec.observed, *spec.known, *spec.static)


def _first(raw: pd.Series, bad: Any) -> str:
    """The first offending cell as its user knows it: `inf`, not `np.float64(inf)`."""
    value = raw.iloc[int(np.asarray(bad).argmax())]
    shown = repr(value.item() if isinstance(value, np.generic) else value)
    return shown if len(shown) <= 60 else f"{shown[:60]}…"
