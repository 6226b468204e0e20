"""The rules of the canonical table that concern several rows: duplicates, the grid, static columns."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from lstm.config.data import DataSpec
from lstm.data.rows import ROW, SERIES, TIME
from lstm.errors import DataError


class Canonicalizer:
    """Turns sorted rows into canonical rows piece by piece: resamples, merges duplicates, and checks the grid."""

    def __init__(self, spec: DataSpec, name: str) -> None:
        """Use `spec`, whose frequency is resolved; messages call the table `name`."""
        self.spec, self.name = spec, name
        self.frequency = spec.grid
        self.rows = self.merged = self.series = 0
        self.first: Any = None
        self.last: Any = None
        self._grid_rows = 0.0
        self._with_value = dict.fromkeys(spec.target, False)
        self._previous: pd.DataFrame | None = None  # the last canonical row so far
        self._start = np.datetime64(0, "us")  # first time of its series

    def process(self, pieces: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        """Yield the canonical pieces of sorted `pieces`.

        Raises:
            DataError: a row appears twice, is off the grid, or changes a static column.
        """
        held: pd.DataFrame | None = None
        for piece in pieces:
            piece = self._resample(piece)
            rows = piece if held is None else pd.concat([held, piece], ignore_index=True)
            # Hold back the rows of the last time: the next piece may have more of them.
            start = int(_new_key(rows).nonzero()[0][-1]) if len(rows) else 0
            held = rows.iloc[start:]
            if start:
                yield self._process_piece(rows.iloc[:start])
        if held is not None and len(held):
            yield self._process_piece(held)

    def process_all(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the canonical rows of a table that is a single piece."""
        return self._canonical_rows(self._resample(rows)).drop(columns=ROW)

    def _resample(self, rows: pd.DataFrame) -> pd.DataFrame:
        if self.spec.resample is None:
            return rows
        assert self.frequency is not None
        bins = self.frequency.floor(rows[TIME].to_numpy("datetime64[us]"))
        return rows.assign(**{TIME: pd.DatetimeIndex(bins, tz="UTC")})

    def _process_piece(self, rows: pd.DataFrame) -> pd.DataFrame:
        rows = self._canonical_rows(rows.reset_index(drop=True))
        self._previous = rows.iloc[[-1]]
        return rows.drop(columns=ROW)

    def _canonical_rows(self, rows: pd.DataFrame) -> pd.DataFrame:
        rows = self._merge_duplicates(rows)
        starts = self._series_starts(rows)
        self._check_grid(rows, starts)
        self._check_static(rows, starts)
        self._count(rows, starts)
        return rows

    def _merge_duplicates(self, rows: pd.DataFrame) -> pd.DataFrame:
        new = _new_key(rows)
        if new.all():
            return rows
        rule = self.spec.resample or self.spec.duplicates
        if rule == "refuse":
            second = int((~new).argmax())
            first_row, second_row = sorted(rows[ROW].iloc[[second - 1, second]])
            series, time = rows[SERIES].iloc[second], self._local_time(rows[TIME].iloc[second])
            raise DataError(
                f"{self.name}: rows {first_row} and {second_row}: series {series!r} has {time} twice. "
                "Keep one row a series and time, name the column that tells them apart in data.series, or set "
                "data.duplicates: mean or last."
            )
        groups = rows.groupby(np.cumsum(new), sort=False)
        merged = groups.last()
        targets = list(self.spec.target)
        merged[targets] = groups[targets].sum(min_count=1) if rule == "sum" else groups[targets].agg(rule)
        if rule != "last":
            covariates = [name for name in self.spec.numeric if name not in (*targets, *self.spec.static)]
            merged[covariates] = groups[covariates].mean()
        self.merged += len(rows) - len(merged)
        return merged[rows.columns].reset_index(drop=True)

    def _series_starts(self, rows: pd.DataFrame) -> np.ndarray:
        """(rows,) bool: whether a series begins in the row; its rows may have begun in the piece before."""
        names = rows[SERIES]
        starts = np.array(names != names.shift(), dtype=bool)
        if self._previous is not None:
            starts[0] = names.iloc[0] != self._previous[SERIES].iloc[0]
        return starts

    def _check_grid(self, rows: pd.DataFrame, starts: np.ndarray) -> None:
        times = rows[TIME].to_numpy("datetime64[us]")
        anchors = self.frequency.anchors(times, starts) if self.frequency else times[starts]
        first = np.r_[self._start, anchors][np.cumsum(starts)]
        if self.frequency is None:
            self._start = first[-1]
            return
        positions = self.frequency.positions(times, first)
        off_grid = positions < 0
        if off_grid.any():
            row = int(off_grid.argmax())
            start = (
                f"counted from {self._local_time(first[row])}" if times[row] != first[row] else "and begins its series"
            )
            raise DataError(
                f"{self.name}: row {rows[ROW].iloc[row]}: time {self._local_time(times[row])} is off the grid of "
                f"data.frequency={self.spec.frequency}{self._zone_suffix()}, {start}. Set the true frequency, or set "
                "data.resample: mean."
            )
        ends = np.r_[starts[1:], True]
        self._grid_rows += float((positions[ends] + 1).sum())
        if not starts[0]:
            previous = self._previous
            assert previous is not None
            self._grid_rows -= float(
                self.frequency.positions(previous[TIME].to_numpy("datetime64[us]"), np.array([self._start]))[0] + 1
            )
        self._start = first[-1]

    def _local_time(self, time: Any) -> str:
        """Return a time in data.timezone, ISO 8601."""
        stamp = pd.Timestamp(time)
        stamp = stamp if stamp.tzinfo else stamp.tz_localize("UTC")
        return stamp.tz_convert(self.spec.timezone).isoformat()

    def _zone_suffix(self) -> str:
        return f" in {self.spec.timezone}" if self.frequency and self.frequency.unit else ""

    def _check_static(self, rows: pd.DataFrame, starts: np.ndarray) -> None:
        for column in self.spec.static:
            values = rows[column]
            previous = values.shift()
            if self._previous is not None:
                previous.iloc[0] = self._previous[column].iloc[0]
            changes = (values.ne(previous) & ~(values.isna() & previous.isna())).to_numpy(bool) & ~starts
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
        present = np.array([rows[name].notna() for name in self.spec.target])  # (targets, rows)
        measured = times[present.any(axis=0)]
        if len(measured):  # rows ahead, with known columns only, don't count
            high = pd.Timestamp(measured.max(), tz="UTC")
            self.last = high if self.last is None else max(self.last, high)
        for target, values in zip(self.spec.target, present, strict=True):
            self._with_value[target] |= bool(values.any())

    def check_complete(self) -> None:
        """Check the rules that concern the table as a whole.

        Raises:
            DataError: a target has no value, or the grid is far larger than the table.
        """
        for target, has_value in self._with_value.items():
            if not has_value:
                raise DataError(f"{self.name}: target {target!r} has no value in any row. Name another target.")
        if self._grid_rows > 100 * self.rows + 1_000_000:
            raise DataError(
                f"{self.name}: data.frequency={self.spec.frequency} makes a grid of {self._grid_rows:.3g} rows for "
                f"{self.rows} measured ones. Set the true frequency."
            )

    @property
    def notices(self) -> tuple[str, ...]:
        """What was changed in the rows, for the user."""
        if not self.merged:
            return ()
        if self.spec.resample:
            return (
                f"{self.rows + self.merged} rows became {self.rows} steps of {self.spec.frequency} "
                f"({self.spec.resample})",
            )
        return (f"{self.merged} duplicate rows were merged ({self.spec.duplicates})",)


def _new_key(rows: pd.DataFrame) -> np.ndarray:
    """(rows,) bool: whether the series or time differs from the row before."""
    times = rows[TIME].to_numpy("datetime64[us]")
    new = np.ones(len(rows), bool)
    same_time = np.flatnonzero(times[1:] == times[:-1]) + 1  # compare names only there
    names = rows[SERIES]
    new[same_time] = names.take(same_time).to_numpy() != names.take(same_time - 1).to_numpy()
    return new
