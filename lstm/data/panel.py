"""From the canonical table to a panel: every series on a regular grid, gaps filled by rule or cut.

A panel keeps its series one after the other in flat arrays, so that a window is a slice of rows. It is made block
by block, so that a table of any size passes through a bounded amount of memory.

Nothing here lets a row know of a later one, with one stated exception: a gap in a target is interpolated
(`method: linear`) from both of its ends, and the rows in between are marked as not `causal`, so that no
window ends in such a gap. Covariates are only ever carried forward: at forecast time nobody knows the
next reading either.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration
from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.data.covariates import GridRows, build_covariates, scatter_to_grid
from lstm.data.grid import SEASONS_BACK, Grid
from lstm.data.layout import Layout
from lstm.data.rows import SERIES, TIME
from lstm.errors import DataError

Categories = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """Series, or a stretch of them, in raw units; rows of one series together and in order of time."""

    values: np.ndarray  # (rows, columns) float64; NaN only where a covariate is missing for longer than max_gap
    actual: np.ndarray  # (rows, targets) float64: what was really measured, NaN elsewhere
    causal: np.ndarray  # (rows,) bool: no value of this row was interpolated from a later one
    segment: np.ndarray  # (rows,) int32: rows of one unbroken run share a number
    series: np.ndarray  # (rows,) int32: position in `names`
    times: np.ndarray  # (rows,) datetime64[us], UTC
    names: tuple[str, ...]
    layout: Layout


def build_panel(table: pd.DataFrame, spec: DataSpec, categories: Categories | None = None, ahead: int = 0) -> Panel:
    """Put a canonical table on its grid, fill or cut gaps, and add the calendar.

    Args:
        table: as `canonical` returns it.
        spec: roles, frequency, gap rule and calendar.
        categories: the categories of each categorical column; any other counts as none of them.
        ahead: rows to append after the last row of each series in which every target was measured, for the
            known columns of a forecast; rows of the table beyond them are left out. 0: the table's own rows.

    Raises:
        DataError: a known column has no value in a row ahead, or a series no row with all targets.
    """
    return next(panel_blocks(iter([table]), spec, categories or {}, ahead))


def panel_blocks(
    pieces: Iterator[pd.DataFrame],
    spec: DataSpec,
    categories: Categories,
    ahead: int = 0,
    borders: Sequence[np.datetime64] = (),
) -> Iterator[Panel]:
    """The panel of a canonical table that comes in pieces, in blocks: together the same as `build_panel`.

    A series may go on from one block to the next; then its rows there have the same name, and its last segment
    goes on with the same number. A gap that reaches over one of the `borders` is not filled: what lies before must
    not depend on what comes after.
    """
    maker = _Maker(spec, categories, ahead, np.array(borders, "datetime64[us]"))
    segments = -1
    for piece, last in _with_last(pieces):
        block = maker.block(piece, last)
        segment = (segments + np.cumsum(block.segment)).astype(np.int32)
        segments = int(segment[-1]) if len(segment) else segments
        yield Panel(**{**vars(block), "segment": segment})


def _with_last(pieces: Iterator[pd.DataFrame]) -> Iterator[tuple[pd.DataFrame, bool]]:
    before = next(pieces)
    for piece in pieces:
        yield before, False
        before = piece
    yield before, True


@dataclass(frozen=True)
class _Stretch:
    """The part of each series' grid that is at hand, in steps from the series' first row."""

    names: tuple[str, ...]
    first: np.ndarray  # (series,) datetime64[us]: the moment of step 0
    low: np.ndarray  # (series,) int64
    high: np.ndarray  # (series,) int64, not included


class _Maker:
    """Keeps of a series that goes on in the next piece what its next rows depend on."""

    def __init__(self, spec: DataSpec, categories: Categories, ahead: int, borders: np.ndarray) -> None:
        self.spec, self.ahead, self.borders = spec, ahead, borders
        self.layout = Layout.of(spec, categories)
        self.categories = categories
        self.frequency = None if spec.frequency == "irregular" else Frequency.parse(spec.frequency, spec.timezone)
        self.limit = self._limit()
        self.held: pd.DataFrame | None = None
        self.held_step = 0  # of its first row
        self.first, self.done = np.datetime64(0, "us"), 0  # of the series that goes on: step 0, steps done

    def _limit(self) -> int:
        longest = self.spec.missing.max_gap
        if isinstance(longest, int) or self.frequency is None:
            return longest if isinstance(longest, int) else 0
        return int(parse_duration(longest) / self.frequency.step)

    @property
    def _reach(self) -> int:
        """Steps back that a row may depend on."""
        return self.limit + 1 + SEASONS_BACK * (self.spec.missing.season or 0)

    def block(self, piece: pd.DataFrame, last: bool) -> Panel:
        """The rows that `piece` completes, their `segment` still as bool: True where a new one begins."""
        goes_on = self.held is not None
        rows = pd.concat([self.held, piece], ignore_index=True) if goes_on else piece.reset_index(drop=True)
        starts = (rows[SERIES] != rows[SERIES].shift()).to_numpy(bool)
        run = np.cumsum(starts) - 1
        times = rows[TIME].to_numpy("datetime64[us]")
        first = self.frequency.anchors(times, starts) if self.frequency else times[starts]
        if goes_on:
            first[0] = self.first
        steps = self._steps(times, first, run, starts)
        low = steps[starts]
        if goes_on and self.frequency:
            low[0] = max(self.done - self._reach, 0)
        rows, steps, run, high = self._to_the_end(rows, steps, run)
        stretch = _Stretch(tuple(rows[SERIES][np.r_[True, run[1:] != run[:-1]]]), first, low, high)
        whole = self._gridded(rows, steps, run, stretch)
        begin, end = low.copy(), high.copy()
        if goes_on:
            begin[0] = self.done
        if not last:
            end[-1] = max(begin[-1], self._settled(high[-1], times[run == run[-1]]))
            self.first, self.done = first[-1], int(end[-1])
            self._hold(rows, steps, run)
        return _cut(whole, stretch, begin, end)

    def _steps(self, times: np.ndarray, first: np.ndarray, run: np.ndarray, starts: np.ndarray) -> np.ndarray:
        if self.frequency is not None:
            return self.frequency.positions(times, first[run])
        before = self.held_step * (run == 0)  # rows of the first series that are no longer held
        return np.arange(len(times)) - np.flatnonzero(starts)[run] + before

    def _settled(self, high: int, times: np.ndarray) -> int:
        """Up to which step of the last series nothing depends on what comes: no gap before it can still be filled."""
        if self.frequency is not None:
            return high - self.limit - 1
        return high - int((times > times[-1] - self._longest).sum()) - 1

    def _hold(self, rows: pd.DataFrame, steps: np.ndarray, run: np.ndarray) -> None:
        """Keep what the next steps of the last series depend on."""
        mine = run == run[-1]
        kept = mine & (steps >= self.done - self._reach)
        if self.frequency is None:
            times = rows[TIME].to_numpy("datetime64[us]")
            kept |= mine & (times >= times[mine & (steps >= self.done)][0] - self._longest)
        self.held, self.held_step = rows[kept], int(steps[kept][0])

    def _to_the_end(
        self, rows: pd.DataFrame, steps: np.ndarray, run: np.ndarray
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
        """Where each series ends: with its last row, or `ahead` steps after the last row with all of its targets."""
        if not self.ahead:
            ends = np.r_[run[1:] != run[:-1], True]
            return rows, steps, run, steps[ends] + 1
        measured = np.all([rows[name].notna() for name in self.spec.target], axis=0)
        newest = np.full(run[-1] + 1, -1, np.int64)
        np.maximum.at(newest, run[measured], steps[measured])
        if (newest < 0).any():
            name = rows[SERIES][run == int((newest < 0).argmax())].iloc[0]
            raise DataError(
                f"series {name!r}: no row has a value of every target. Leave the series out, or give its history."
            )
        high = newest + 1 + self.ahead
        kept = steps < high[run]
        if kept.all():
            return rows, steps, run, high
        return rows[kept].reset_index(drop=True), steps[kept], run[kept], high

    def _gridded(self, rows: pd.DataFrame, steps: np.ndarray, run: np.ndarray, stretch: _Stretch) -> Panel:
        lengths = stretch.high - stretch.low
        grid = Grid.of(lengths)
        series = np.repeat(np.arange(len(lengths)), lengths)
        step = np.arange(len(series)) - grid.first + stretch.low[series]
        place = (np.cumsum(lengths) - lengths)[run] + steps - stretch.low[run]
        times = self._times(rows, place, stretch, series, step)
        future = step >= stretch.high[series] - self.ahead
        targets = scatter_to_grid(rows, self.spec.target, place, len(series))
        filled, broken, causal = self._filled_targets(targets, grid, times)
        broken &= ~future
        self._check_ahead(rows, place, future, stretch, series, times)
        inputs = GridRows(rows, place, run, grid, times, None if self.frequency else self._longest)
        values = np.hstack([filled, build_covariates(inputs, targets, self.spec, self.categories, self.limit)])
        begins = grid.starts | broken | np.r_[False, broken[:-1]] | self._far_apart(times)
        return Panel(values, targets, causal, begins, series.astype(np.int32), times, stretch.names, self.layout)

    def _times(
        self, rows: pd.DataFrame, place: np.ndarray, stretch: _Stretch, series: np.ndarray, step: np.ndarray
    ) -> np.ndarray:
        if self.frequency is not None:
            return self.frequency.times(stretch.first[series], step)
        times = np.full(len(series), np.datetime64("NaT"), "datetime64[us]")
        times[place] = rows[TIME].to_numpy("datetime64[us]")
        bounds = np.searchsorted(series, np.arange(len(stretch.names) + 1))
        for low, high in itertools.pairwise(bounds.tolist()):  # rows ahead: as far apart as rows usually are
            ahead = high - low - int((~np.isnat(times[low:high])).sum())
            known = times[low : high - ahead]
            usual = np.median(np.diff(known).astype(np.int64)) if len(known) > 1 else 1_000_000
            times[high - ahead : high] = known[-1] + (np.arange(ahead) + 1) * np.timedelta64(int(usual), "us")
        return times

    def _filled_targets(
        self, targets: np.ndarray, grid: Grid, times: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Targets with short gaps filled, which rows stay broken, and which were not interpolated."""
        filled, causal = targets.copy(), np.ones(len(targets), bool)
        missing = self.spec.missing
        for number, values in enumerate(targets.T):
            valid = ~np.isnan(values)
            if missing.method == "none" or valid.all():
                continue
            short = self._short_gaps(grid, valid, times)
            filled[:, number] = grid.fill(values, missing.method, short, missing.season)
            causal &= ~short | (missing.method != "linear")
        return filled, np.isnan(filled).any(axis=1), causal

    def _short_gaps(self, grid: Grid, valid: np.ndarray, times: np.ndarray) -> np.ndarray:
        """(rows,) bool: missing, in a gap that is short, has a value on both sides, and reaches over no border."""
        before, after = grid.previous_valid(valid), grid.next_valid(valid)
        apart = after - before - 1 <= self.limit if self.frequency else times[after] - times[before] <= self._longest
        span = np.searchsorted(self.borders, times, side="right")
        begins = np.minimum(before + 1, len(valid) - 1)  # where the gap does
        return ~valid & (before >= 0) & (after >= 0) & apart & (span[begins] == span[after])

    @property
    def _longest(self) -> np.timedelta64:
        return parse_duration(str(self.spec.missing.max_gap)).to_timedelta64()

    def _far_apart(self, times: np.ndarray) -> np.ndarray:
        """Rows of an irregular series that come too long after the one before."""
        if self.frequency is not None:
            return np.zeros(len(times), bool)
        return np.r_[False, np.diff(times) > self._longest]

    def _check_ahead(
        self,
        rows: pd.DataFrame,
        place: np.ndarray,
        future: np.ndarray,
        stretch: _Stretch,
        series: np.ndarray,
        times: np.ndarray,
    ) -> None:
        for column in self.spec.known if self.ahead else ():
            there = np.zeros(len(series), bool)
            there[place] = rows[column].notna()
            missing = future & ~there
            if missing.any():
                row = int(missing.argmax())
                raise missing_known_value(stretch.names[series[row]], column, times[row])


def missing_known_value(series: str, column: str, moment: np.datetime64) -> DataError:
    """That a known column must be given at a moment, in UTC, of the horizon."""
    return DataError(
        f"series {series!r}: known column {column!r} has no value at {pd.Timestamp(moment).isoformat()}+00:00, "
        "which the horizon covers. Append rows with its future values (targets left empty)."
    )


def _cut(whole: Panel, stretch: _Stretch, begin: np.ndarray, end: np.ndarray) -> Panel:
    """The rows of steps `begin` to `end` of each series."""
    lengths = stretch.high - stretch.low
    step = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - stretch.low, lengths)
    kept = (step >= np.repeat(begin, lengths)) & (step < np.repeat(end, lengths))
    if kept.all():
        return whole
    arrays = ("values", "actual", "causal", "segment", "series", "times")
    return Panel(**{**vars(whole), **{name: getattr(whole, name)[kept] for name in arrays}})
