"""From checked rows to the canonical long table: one row a series and time, on the grid, in UTC.

Columns of the canonical table: `series` (str), `time` (datetime64[us], UTC), then the targets and covariates under
their own names: float64, or str where they are categorical. Rows are sorted by series and time.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency, infer_frequency
from lstm.config.data import DataSpec
from lstm.data.rows import ROW, SERIES, TIME, RowReader
from lstm.data.sorting import sort_rows
from lstm.errors import DataError

INFER_SERIES = 20  # the first so many say the frequency


def canonicalize(frame: pd.DataFrame, spec: DataSpec, name: str = "table") -> pd.DataFrame:
    """Check a raw frame against its specification and bring it into the canonical form.

    Args:
        frame: raw rows, in any order.
        spec: which column plays which role; its frequency may still be `infer`.
        name: what error messages call the table.

    Returns:
        A new frame; `frame` is left alone.

    Raises:
        DataError: a column is missing or holds something else than its role says, a time is unparsable,
            missing, ambiguous or off the frequency, a row is there twice, or no target has a value.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{name}: must be a pandas DataFrame, but is a {type(frame).__name__}.")
    rows = sort_rows(RowReader(spec, name).read(frame))
    if rows.empty:
        raise DataError(f"{name}: holds no rows. Name a source with data.")
    canonicalizer = Canonicalizer(resolve_frequency(spec, rows, name), name)
    table = canonicalizer.process_all(rows)
    canonicalizer.check_complete()
    return table


def resolve_frequency(spec: DataSpec, rows: pd.DataFrame, name: str) -> DataSpec:
    """The specification with its frequency said: `infer` becomes what most series of `rows` (in order) follow.

    Raises:
        DataError: no frequency fits.
    """
    if spec.frequency != "infer":
        return spec
    stamps = rows[[SERIES, TIME]].drop_duplicates()
    found = [
        infer_frequency(times.to_numpy("datetime64[us]"), spec.timezone)
        for _, times in list(stamps.groupby(SERIES, sort=False)[TIME])[:INFER_SERIES]
    ]
    named = pd.Series([one for one in found if one]).value_counts()
    if named.empty:
        raise DataError(
            f"{name}: data.frequency: infer finds no step that most rows follow each other by. "
            "Name the frequency with a data.resample rule, or set data.frequency: irregular."
        )
    return spec.model_copy(update={"frequency": str(named.index[0])})


class Canonicalizer:
    """Sorted rows in, canonical rows out, piece by piece: resampled, without duplicates, on the grid."""

    def __init__(self, spec: DataSpec, name: str) -> None:
        """Settle by `spec`, whose frequency is said; messages call the table `name`."""
        self.spec, self.name = spec, name
        self.frequency = None if spec.frequency == "irregular" else Frequency.parse(spec.frequency, spec.timezone)
        self.rows = self.merged = self.series = 0
        self.first: Any = None
        self.last: Any = None
        self._grid_rows = 0.0
        self._with_value = dict.fromkeys(spec.target, False)
        self._before: pd.DataFrame | None = None  # the last canonical row so far
        self._start = np.datetime64(0, "us")  # when its series began

    def process(self, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Canonical pieces of sorted `pieces`.

        Raises:
            DataError: a row is there twice, is off the grid, or changes a static column.
        """
        held: pd.DataFrame | None = None
        for piece in pieces:
            piece = self._binned(piece)
            rows = piece if held is None else pd.concat([held, piece], ignore_index=True)
            # The rows of the last moment wait: the next piece may hold more of them.
            start = int(_new_key(rows).nonzero()[0][-1]) if len(rows) else 0
            held = rows.iloc[start:]
            if start:
                yield self._settled(rows.iloc[:start])
        if held is not None and len(held):
            yield self._settled(held)

    def process_all(self, rows: pd.DataFrame) -> pd.DataFrame:
        """`settle`, where one piece is all there is."""
        return self._checked(self._binned(rows)).drop(columns=ROW)

    def _binned(self, rows: pd.DataFrame) -> pd.DataFrame:
        if self.spec.resample is None:
            return rows
        assert self.frequency is not None
        bins = self.frequency.floor(rows[TIME].to_numpy("datetime64[us]"))
        return rows.assign(**{TIME: pd.DatetimeIndex(bins, tz="UTC")})

    def _settled(self, rows: pd.DataFrame) -> pd.DataFrame:
        rows = self._checked(rows.reset_index(drop=True))
        self._before = rows.iloc[[-1]]
        return rows.drop(columns=ROW)

    def _checked(self, rows: pd.DataFrame) -> pd.DataFrame:
        rows = self._merged(rows)
        starts = self._series_starts(rows)
        self._check_grid(rows, starts)
        self._check_static(rows, starts)
        self._count(rows, starts)
        return rows

    def _merged(self, rows: pd.DataFrame) -> pd.DataFrame:
        new = _new_key(rows)
        if new.all():
            return rows
        rule = self.spec.resample or self.spec.duplicates
        if rule == "refuse":
            second = int((~new).argmax())
            one, two = sorted(rows[ROW].iloc[[second - 1, second]])
            when = self._clock(rows[TIME].iloc[second])
            raise DataError(
                f"{self.name}: rows {one} and {two}: series {rows[SERIES].iloc[second]!r} has {when} twice. Keep one "
                "row a series and time, name the column that tells them apart in data.series, or set "
                "data.duplicates: mean or last."
            )
        groups = rows.groupby(np.cumsum(new), sort=False)
        merged = groups.last()
        targets = list(self.spec.target)
        merged[targets] = groups[targets].sum(min_count=1) if rule == "sum" else groups[targets].agg(rule)
        if rule != "last":
            changing = [name for name in self.spec.numeric if name not in (*targets, *self.spec.static)]
            merged[changing] = groups[changing].mean()
        self.merged += len(rows) - len(merged)
        return merged[rows.columns].reset_index(drop=True)

    def _series_starts(self, rows: pd.DataFrame) -> np.ndarray:
        """Where a series begins that the piece before did not end with."""
        names = rows[SERIES]
        starts = np.array(names != names.shift(), dtype=bool)
        if self._before is not None:
            starts[0] = names.iloc[0] != self._before[SERIES].iloc[0]
        return starts

    def _check_grid(self, rows: pd.DataFrame, starts: np.ndarray) -> None:
        times = rows[TIME].to_numpy("datetime64[us]")
        anchors = self.frequency.anchors(times, starts) if self.frequency else times[starts]
        first = np.r_[self._start, anchors][np.cumsum(starts)]
        if self.frequency is None:
            self._start = first[-1]
            return
        positions = self.frequency.positions(times, first)
        off = positions < 0
        if off.any():
            row = int(off.argmax())
            start = f"counted from {self._clock(first[row])}" if times[row] != first[row] else "and begins its series"
            raise DataError(
                f"{self.name}: row {rows[ROW].iloc[row]}: time {self._clock(times[row])} is off the grid of "
                f"data.frequency={self.spec.frequency}{self._local()}, {start}. Set the true frequency, or set "
                "data.resample: mean."
            )
        ends = np.r_[starts[1:], True]
        self._grid_rows += float((positions[ends] + 1).sum())
        if not starts[0]:
            before = self._before
            assert before is not None
            self._grid_rows -= float(
                self.frequency.positions(before[TIME].to_numpy("datetime64[us]"), np.array([self._start]))[0] + 1
            )
        self._start = first[-1]

    def _clock(self, moment: Any) -> str:
        """A moment on the clock of data.timezone."""
        stamp = pd.Timestamp(moment)
        stamp = stamp if stamp.tzinfo else stamp.tz_localize("UTC")
        return stamp.tz_convert(self.spec.timezone).isoformat()

    def _local(self) -> str:
        return f" in {self.spec.timezone}" if self.frequency and self.frequency.unit else ""

    def _check_static(self, rows: pd.DataFrame, starts: np.ndarray) -> None:
        for column in self.spec.static:
            values = rows[column]
            before = values.shift()
            if self._before is not None:
                before.iloc[0] = self._before[column].iloc[0]
            changes = (values.ne(before) & ~(values.isna() & before.isna())).to_numpy(bool) & ~starts
            if changes.any():
                row = int(changes.argmax())
                raise DataError(
                    f"{self.name}: static column {column!r} changes within series {rows[SERIES].iloc[row]!r} at row "
                    f"{rows[ROW].iloc[row]}. Name it as known or observed instead."
                )

    def _count(self, rows: pd.DataFrame, starts: np.ndarray) -> None:
        self.rows += len(rows)
        self.series += int(starts.sum())
        times = rows[TIME].to_numpy("datetime64[us]")
        low = pd.Timestamp(times.min(), tz="UTC")
        self.first = low if self.first is None else min(self.first, low)
        found = np.array([rows[name].notna() for name in self.spec.target])  # (targets, rows)
        measured = times[found.any(axis=0)]
        if len(measured):  # rows ahead, which hold known columns alone, are no part of the span
            high = pd.Timestamp(measured.max(), tz="UTC")
            self.last = high if self.last is None else max(self.last, high)
        for target, values in zip(self.spec.target, found, strict=True):
            self._with_value[target] |= bool(values.any())

    def check_complete(self) -> None:
        """Rules that only the whole table can break.

        Raises:
            DataError: a target has no value at all, or the grid would be far larger than the table.
        """
        for target, found in self._with_value.items():
            if not found:
                raise DataError(f"{self.name}: target {target!r} has no value in any row. Name another target.")
        if self._grid_rows > 100 * self.rows + 1_000_000:
            raise DataError(
                f"{self.name}: data.frequency={self.spec.frequency} makes a grid of {self._grid_rows:.3g} rows for "
                f"{self.rows} measured ones. Set the true frequency."
            )

    @property
    def notices(self) -> tuple[str, ...]:
        """What was changed, to be said."""
        if not self.merged:
            return ()
        if self.spec.resample:
            return (
                f"{self.rows + self.merged} rows became {self.rows} steps of {self.spec.frequency} "
                f"({self.spec.resample})",
            )
        return (f"{self.merged} duplicate rows were merged ({self.spec.duplicates})",)


def _new_key(rows: pd.DataFrame) -> np.ndarray:
    """Whether a row's series or time differs from the row before it."""
    times = rows[TIME].to_numpy("datetime64[us]")
    new = np.ones(len(rows), bool)
    later = np.flatnonzero(times[1:] == times[:-1]) + 1  # only there the names matter
    names = rows[SERIES]
    new[later] = names.take(later).to_numpy() != names.take(later - 1).to_numpy()
    return new
