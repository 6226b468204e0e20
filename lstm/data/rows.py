"""From raw rows to checked ones: the rules that one row can break by itself.

Columns of checked rows: `series` (str), `time` (datetime64[us], UTC), `__row__` (its number in the source, from 1),
then the numeric columns as float64 and the categorical ones as str, each under its own name.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lstm.config.data import DataSpec
from lstm.data.timestamps import TimestampReader, format_cell
from lstm.errors import DataError, did_you_mean
from lstm.sources.row_filter import RowFilter

SERIES, TIME, ROW = "series", "time", "__row__"
FILE, PLACE = "file", "place"  # in `attrs` of a chunk: its file of several; rows of all files, and of others, before it
_LARGEST = 1e30  # float32 would square more to infinity
_LONGEST = 300  # characters of a list of columns, of which there may be thousands
_UNNAMED = r"Unnamed: \d+"  # what pandas calls a column of a CSV without a name


class RowReader:
    """Checks one chunk of a table after the other, and counts their rows."""

    def __init__(
        self,
        spec: DataSpec,
        name: str,
        columns: Callable[[], list[str]] | None = None,
        chosen: RowFilter | None = None,
    ) -> None:
        """Read by `spec`; messages call the table `name`, and take from `columns` what it holds beside a chunk.

        Only rows that are `chosen` are looked at: `data.where` is for sources, a frame that is brought holds what is
        meant.
        """
        self.spec, self.name = spec, name
        self._chosen, self._row_numbers = chosen, np.empty(0, np.int64)
        self.seen = 0
        self._file, self._before = name, 0  # which file of several the rows come from, and how many came before it
        self._columns = columns
        self._stamps = TimestampReader(spec, name)
        self._slashed: dict[str, tuple[str, ...]] = {}  # the ids of a series, where one holds a / of its own

    def read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Check and convert the next chunk; `frame` is left alone.

        Raises:
            DataError: a column is missing or holds something else than its role says, a time is unparsable,
                missing or ambiguous, or an id is missing.
        """
        self._place(frame)
        frame = frame.rename(columns=str)
        spec, wide = self.spec, wide_columns(frame, self.spec)
        self._check_columns(frame, [spec.time, *spec.series, *(wide if spec.wide else spec.target), *_covariates(spec)])
        if self._chosen is not None:
            self._check_columns(frame, spec.where, " of data.where")
        self._check_wide(wide)
        frame = self._choose(frame.reset_index(drop=True))
        times = self._stamps.read(frame[spec.time], self._cell)
        rows = {TIME: times, ROW: self._row_numbers}
        rows |= {column: self._values(frame[column]) for column in _covariates(spec)}
        made = self._long(rows, frame, wide) if wide else self._with_targets(rows, frame)
        return made

    def _place(self, frame: pd.DataFrame) -> None:
        """Where the chunk is in the source, and in its file: a source may leave out rows that would not be chosen."""
        file = frame.attrs.get(FILE, self.name)
        self.seen, self._before = frame.attrs.get(PLACE, (self.seen, self._before if file == self._file else self.seen))
        self._file = file

    def _choose(self, frame: pd.DataFrame) -> pd.DataFrame:
        self._row_numbers = np.arange(len(frame)) + self.seen + 1
        self.seen += len(frame)
        if self._chosen is None:
            return frame
        kept = self._chosen.mask(frame)
        self._row_numbers = self._row_numbers[kept]
        return frame[kept].reset_index(drop=True)

    def _with_targets(self, rows: dict[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
        rows |= {name: self._numbers(frame[name]) for name in self.spec.target}
        rows[SERIES] = self._ids(frame)
        return pd.DataFrame({name: rows[name] for name in (SERIES, TIME, ROW, *self.spec.values)}, copy=False)

    def _long(self, rows: dict[str, Any], frame: pd.DataFrame, wide: Sequence[str]) -> pd.DataFrame:
        """The rows of a wide table once for each of its series."""
        again = np.tile(np.arange(len(frame)), len(wide))
        repeated = pd.DataFrame(rows).take(again).reset_index(drop=True)
        repeated[SERIES] = pd.Series(np.repeat(np.array(wide, dtype=object), len(frame)), dtype="str")
        repeated[self.spec.target[0]] = self._block(frame[list(wide)]).ravel(order="F")
        return repeated[[SERIES, TIME, ROW, *self.spec.values]]

    def _block(self, frame: pd.DataFrame) -> np.ndarray:
        """(rows, columns): thousands of columns at once where nothing is wrong, else the first wrong one is told."""
        if all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in frame.dtypes):
            numbers = frame.to_numpy("float64")
            if not (np.abs(numbers) > _LARGEST).any():
                return numbers
        return np.stack([self._numbers(frame[column]).to_numpy() for column in frame], axis=1)

    def _check_columns(self, frame: pd.DataFrame, wanted: Iterable[str], role: str = "") -> None:
        there, twice = set(frame.columns), set(frame.columns[frame.columns.duplicated()])
        for column in wanted:
            if column not in there:
                known = self._columns() if self._columns else map(str, frame.columns)
                raise DataError(
                    f"{self.name}: column {column!r}{role} is not there.{did_you_mean(column, known, _LONGEST)}"
                )
            if column in twice:
                raise DataError(f"{self.name}: column {column!r} is there twice. Give each column its own name.")

    def _check_wide(self, wide: Sequence[str]) -> None:
        if self.spec.wide and not wide:
            raise DataError(
                f"{self.name}: data.wide: all finds no column beside {self.spec.time!r} and the covariates. Name a "
                "table that has a column a series."
            )
        unnamed = next((column for column in wide if re.fullmatch(_UNNAMED, column)), None)
        if unnamed and self.spec.wide == "all":
            raise DataError(
                f"{self.name}: a column has no name ({unnamed!r}), and data.wide: all makes each one a series. Write "
                "the table without its index, or list the series in data.wide."
            )

    def _ids(self, frame: pd.DataFrame) -> pd.Series:
        names = self.spec.series
        if not names:
            return pd.Series("all", index=frame.index, dtype="str")
        parts = [frame[column].astype("str") for column in names]
        for part, column in zip(parts, names, strict=True):
            missing = (frame[column].isna() | (part.str.strip() == "")).to_numpy(bool)
            if missing.any():
                place = self._cell(frame[column], missing)
                raise DataError(f"{place}: the id is empty or NA. Give every row the name of its series.")
        joined = parts[0]
        for part in parts[1:]:
            joined = joined + "/" + part
        if len(parts) > 1:
            self._check_told_apart(joined, parts)
        return joined

    def _check_told_apart(self, joined: pd.Series, parts: list[pd.Series]) -> None:
        """Of ids that hold a / of their own, two may look like the same series."""
        slashed = joined.str.count("/") >= len(parts)
        for ids in dict.fromkeys(zip(*(part[slashed] for part in parts), strict=True)):
            name = "/".join(ids)
            other = self._slashed.setdefault(name, ids)
            if other != ids:
                raise DataError(
                    f"{self.name}: columns {', '.join(self.spec.series)}: {other} and {ids} would both be the series "
                    f"{name!r}. Write ids without a /."
                )

    def _values(self, raw: pd.Series) -> pd.Series:
        if raw.name not in self.spec.categorical:
            return self._numbers(raw)
        # A whole number is the same category however its column is typed, and whatever its other rows hold.
        text = raw.astype("str").str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
        return text.where(raw.notna(), None)

    def _numbers(self, raw: pd.Series) -> pd.Series:
        if _is_time(raw):
            numbers = pd.Series(np.nan, index=raw.index)
        elif _is_text(raw):
            numbers = pd.to_numeric(self._with_points(raw.astype("str")), errors="coerce")
        else:
            numbers = _numeric(raw)
        numbers = pd.Series(numbers.to_numpy("float64", na_value=np.nan), index=raw.index)
        text = (numbers.isna() & raw.notna()).to_numpy()
        if text.any():
            raise DataError(f"{self._cell(raw, text)}: {format_cell(raw, text)} is no number. {self._fix(raw, text)}")
        for bad, what in ((np.isinf(numbers), "not finite"), (numbers.abs() > _LARGEST, "over 1e30: no measurement")):
            if bad.any():
                raise DataError(
                    f"{self._cell(raw, bad)}: {format_cell(raw, bad)} is {what}. Leave a missing value empty."
                )
        return numbers

    def _with_points(self, text: pd.Series) -> pd.Series:
        """Where the comma is the decimal sign, a point is none."""
        if self.spec.csv.decimal == ".":
            return text
        return text.mask(text.str.contains(".", regex=False)).str.replace(",", ".", regex=False)

    def _fix(self, raw: pd.Series, bad: Any) -> str:
        if _is_time(raw):
            return "Leave the column out, or make a number of it, such as hours."
        if grouped := self._grouping(str(raw[bad].iloc[0])):
            return grouped
        if raw.name in self.spec.target or raw.name not in _covariates(self.spec):
            return "A target must be numeric; leave a missing value empty."
        return f"Leave a missing value empty; if the column holds categories, set data.categorical: [{raw.name}]."

    def _grouping(self, found: str) -> str:
        """The fix of a number that is written with signs for thousands, or with a decimal comma; else nothing."""
        if not re.fullmatch(r"[+-]?\d[\d.,'\s]*", found.strip()):
            return ""
        thousands = "Write thousands without a sign between them"
        if self.spec.csv.decimal == ",":
            return f"{thousands}, or set data.csv.decimal: '.'."
        if found.count(",") != 1:
            return f"{thousands}."
        decimal = "If the comma is a decimal sign, set data.csv.decimal: ','."
        return f"{decimal} {thousands}." if re.search(r",\d{3}(?!\d)|[.\s']", found) else decimal

    def _cell(self, raw: pd.Series, bad: Any) -> str:
        row = self._row_numbers[int(np.asarray(bad).argmax())] - self._before
        return f"{self._file}: column {raw.name!r}, row {row}"


def wide_columns(frame: pd.DataFrame, spec: DataSpec) -> tuple[str, ...]:
    """The columns of a wide table that are each a series; none where the table is long."""
    if spec.wide != "all":
        return spec.wide
    return tuple(str(name) for name in frame.columns if name != spec.time and name not in _covariates(spec))


def _covariates(spec: DataSpec) -> tuple[str, ...]:
    return (*spec.observed, *spec.known, *spec.static)


def _is_time(raw: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(raw) or pd.api.types.is_timedelta64_dtype(raw)


def _is_text(raw: pd.Series) -> bool:
    if raw.dtype == object:
        return bool(raw.map(type).isin([str, bytes]).any())
    return isinstance(raw.dtype, pd.StringDtype)


def _numeric(raw: pd.Series) -> pd.Series:
    try:
        return pd.to_numeric(raw, errors="coerce")
    except OverflowError:  # hundreds of digits
        return pd.to_numeric(raw.astype("str"), errors="coerce")
