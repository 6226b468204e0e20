"""From raw rows to checked rows: the rules that concern a single row.

Columns of checked rows: `series` (str), `time` (datetime64[us], UTC), `__row__` (number in the source, from 1), then
the numeric columns as float64 and the categorical ones as str, under their own names.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from lstm.config.data import DataSpec
from lstm.data.timestamps import TimestampReader, format_cell
from lstm.errors import DataError, did_you_mean
from lstm.sources.reading import FILE, PLACE
from lstm.sources.row_filter import RowFilter

SERIES, TIME, ROW = "series", "time", "__row__"
_MAX_VALUE = 1e30  # the square of more overflows float32
_MAX_LIST = 300  # characters of a list of columns in a message
_UNNAMED = r"Unnamed: \d+"  # pandas' name of a CSV column without one


class RowReader:
    """Checks the chunks of a table one after the other."""

    def __init__(
        self,
        spec: DataSpec,
        name: str,
        columns: Callable[[], list[str]] | None = None,
        row_filter: RowFilter | None = None,
    ) -> None:
        """Prepare reading.

        Args:
            spec: roles of the columns.
            name: what messages call the table.
            columns: returns all columns of the source, for messages; a chunk may hold only some.
            row_filter: rows that don't match are dropped unchecked.
        """
        self.spec, self.name = spec, name
        self._row_filter, self._row_numbers = row_filter, np.empty(0, np.int64)
        self.rows_read = 0
        self._file, self._rows_before = name, 0  # the file that the rows come from, and the rows of the files before it
        self._columns = columns
        self._timestamps = TimestampReader(spec, name)
        self._slashed: dict[str, tuple[str, ...]] = {}  # the ids of each series, if one of them contains a /

    def read(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Check and convert the next chunk, and return new rows.

        Raises:
            DataError: a column is missing or doesn't fit its role, a time is missing, unparsable or ambiguous, or an
                id is missing.
        """
        self._locate(frame)
        frame = frame.rename(columns=str)
        spec, wide = self.spec, wide_columns(frame, self.spec)
        self._check_columns(frame, [spec.time, *spec.series, *(wide if spec.wide else spec.target), *_covariates(spec)])
        if self._row_filter is not None:
            self._check_columns(frame, spec.where, " of data.where")
        self._check_wide(wide)
        frame = self._select_rows(frame.reset_index(drop=True))
        times = self._timestamps.read(frame[spec.time], self._cell)
        rows = {TIME: times, ROW: self._row_numbers}
        rows |= {column: self._values(frame[column]) for column in _covariates(spec)}
        return self._to_long(rows, frame, wide) if wide else self._with_targets(rows, frame)

    def _locate(self, frame: pd.DataFrame) -> None:
        """Find the position of a chunk in the source and in its file; a source may skip rows that the filter drops."""
        file = frame.attrs.get(FILE, self.name)
        rows_before = self._rows_before if file == self._file else self.rows_read
        self.rows_read, self._rows_before = frame.attrs.get(PLACE, (self.rows_read, rows_before))
        self._file = file

    def _select_rows(self, frame: pd.DataFrame) -> pd.DataFrame:
        self._row_numbers = np.arange(len(frame)) + self.rows_read + 1
        self.rows_read += len(frame)
        if self._row_filter is None:
            return frame
        mask = self._row_filter.mask(frame)
        self._row_numbers = self._row_numbers[mask]
        return frame[mask].reset_index(drop=True)

    def _with_targets(self, rows: dict[str, Any], frame: pd.DataFrame) -> pd.DataFrame:
        rows |= {name: self._numbers(frame[name]) for name in self.spec.target}
        rows[SERIES] = self._ids(frame)
        return pd.DataFrame({name: rows[name] for name in (SERIES, TIME, ROW, *self.spec.values)}, copy=False)

    def _to_long(self, rows: dict[str, Any], frame: pd.DataFrame, wide: Sequence[str]) -> pd.DataFrame:
        """Repeat the rows of a wide table for each of its series."""
        index = np.tile(np.arange(len(frame)), len(wide))
        repeated = pd.DataFrame(rows).take(index).reset_index(drop=True)
        repeated[SERIES] = pd.Series(np.repeat(np.array(wide, dtype=object), len(frame)), dtype="str")
        repeated[self.spec.target[0]] = self._number_block(frame[list(wide)]).ravel(order="F")
        return repeated[[SERIES, TIME, ROW, *self.spec.values]]

    def _number_block(self, frame: pd.DataFrame) -> np.ndarray:
        """Return numbers, (rows, columns); check column by column only where a fast check of all fails."""
        if all(isinstance(dtype, np.dtype) and dtype.kind in "iuf" for dtype in frame.dtypes):
            numbers = frame.to_numpy("float64")
            if not (np.abs(numbers) > _MAX_VALUE).any():
                return numbers
        return np.stack([self._numbers(frame[column]).to_numpy() for column in frame], axis=1)

    def _check_columns(self, frame: pd.DataFrame, wanted: Iterable[str], role: str = "") -> None:
        present, duplicates = set(frame.columns), set(frame.columns[frame.columns.duplicated()])
        for column in wanted:
            if column not in present:
                known = self._columns() if self._columns else map(str, frame.columns)
                raise DataError(
                    f"{self.name}: column {column!r}{role} is not there.{did_you_mean(column, known, _MAX_LIST)}"
                )
            if column in duplicates:
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
                cell = self._cell(frame[column], missing)
                raise DataError(f"{cell}: the id is empty or NA. Give every row the name of its series.")
        joined = parts[0]
        for part in parts[1:]:
            joined = joined + "/" + part
        if len(parts) > 1:
            self._check_unambiguous(joined, parts)
        return joined

    def _check_unambiguous(self, joined: pd.Series, parts: list[pd.Series]) -> None:
        """Check that joining ids that contain a / doesn't give two series the same name."""
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
        # A whole number is the same category whether its column is int, float or text.
        text = raw.astype("str").str.replace(r"^(-?\d+)\.0$", r"\1", regex=True)
        return text.where(raw.notna(), None)

    def _numbers(self, raw: pd.Series) -> pd.Series:
        if _is_time(raw):
            numbers = pd.Series(np.nan, index=raw.index)
        elif _is_text(raw):
            numbers = pd.to_numeric(self._with_decimal_points(raw.astype("str")), errors="coerce")
        else:
            numbers = _numeric(raw)
        numbers = pd.Series(numbers.to_numpy("float64", na_value=np.nan), index=raw.index)
        text = (numbers.isna() & raw.notna()).to_numpy()
        if text.any():
            raise DataError(f"{self._cell(raw, text)}: {format_cell(raw, text)} is no number. {self._fix(raw, text)}")
        for bad, problem in (
            (np.isinf(numbers), "not finite"),
            (numbers.abs() > _MAX_VALUE, "over 1e30: no measurement"),
        ):
            if bad.any():
                raise DataError(
                    f"{self._cell(raw, bad)}: {format_cell(raw, bad)} is {problem}. Leave a missing value empty."
                )
        return numbers

    def _with_decimal_points(self, text: pd.Series) -> pd.Series:
        """Replace decimal commas by points; text with a point is no number then."""
        if self.spec.csv.decimal == ".":
            return text
        return text.mask(text.str.contains(".", regex=False)).str.replace(",", ".", regex=False)

    def _fix(self, raw: pd.Series, bad: Any) -> str:
        if _is_time(raw):
            return "Leave the column out, or make a number of it, such as hours."
        if fix := self._separator_fix(str(raw[bad].iloc[0])):
            return fix
        if raw.name in self.spec.target or raw.name not in _covariates(self.spec):
            return "A target must be numeric; leave a missing value empty."
        return f"Leave a missing value empty; if the column holds categories, set data.categorical: [{raw.name}]."

    def _separator_fix(self, text: str) -> str:
        """Return the fix for a number with thousands separators or a decimal comma; for other text, nothing."""
        if not re.fullmatch(r"[+-]?\d[\d.,'\s]*", text.strip()):
            return ""
        thousands = "Write thousands without a sign between them"
        if self.spec.csv.decimal == ",":
            return f"{thousands}, or set data.csv.decimal: '.'."
        if text.count(",") != 1:
            return f"{thousands}."
        decimal = "If the comma is a decimal sign, set data.csv.decimal: ','."
        return f"{decimal} {thousands}." if re.search(r",\d{3}(?!\d)|[.\s']", text) else decimal

    def _cell(self, raw: pd.Series, bad: Any) -> str:
        row = self._row_numbers[int(np.asarray(bad).argmax())] - self._rows_before
        return f"{self._file}: column {raw.name!r}, row {row}"


def wide_columns(frame: pd.DataFrame, spec: DataSpec) -> tuple[str, ...]:
    """Return the columns of a wide table that are series; none for a long table."""
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
