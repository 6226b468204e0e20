"""From the canonical table to a panel: every series on a regular grid, gaps filled or cut.

A panel keeps its series one after the other in flat arrays, so that a window is a slice of rows. It is built block by
block, so that a table of any size needs a bounded amount of memory.

No row depends on a later one, with one exception: `method: linear` interpolates a gap in a target from both of its
ends. The rows of such a gap are not `causal`, and no window has its origin right after one. Covariates are only
carried forward, since their next value is unknown when a forecast is made.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.config.data import DataSpec
from lstm.data.covariates import GridRows, build_covariates, scatter_to_grid
from lstm.data.gaps import GapFiller
from lstm.data.grid import SEASONS_BACK, Grid, extrapolate_times
from lstm.data.layout import Layout
from lstm.data.rows import SERIES, TIME
from lstm.errors import DataError

Categories = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class Panel:
    """Series, or parts of them, in raw units; the rows of a series are adjacent and in order of time."""

    values: np.ndarray  # (rows, columns) float64; NaN where a covariate is missing for longer than max_gap
    actual: np.ndarray  # (rows, targets) float64: measured values, NaN elsewhere
    causal: np.ndarray  # (rows,) bool: no value of the row was interpolated from a later one
    segment: np.ndarray  # (rows,) int32: number of the unbroken stretch of rows
    series: np.ndarray  # (rows,) int32: position in `names`
    times: np.ndarray  # (rows,) datetime64[us], UTC
    names: tuple[str, ...]
    layout: Layout


def build_panel(table: pd.DataFrame, spec: DataSpec, categories: Categories | None = None, ahead: int = 0) -> Panel:
    """Put a canonical table on its grid, fill or cut gaps, and add the calendar.

    Args:
        table: as `canonicalize` returns it.
        spec: roles, frequency, gap rule and calendar.
        categories: of each categorical column; any other value is encoded as none of them.
        ahead: rows to append after the last row of each series that has all targets, for the known columns of a
            forecast; later rows of the table are left out. 0: the rows of the table only.

    Raises:
        DataError: a known column has no value in a row ahead, or a series has no row with all targets.
    """
    return next(panel_blocks(iter([table]), spec, categories or {}, ahead))


def panel_blocks(
    pieces: Iterator[pd.DataFrame],
    spec: DataSpec,
    categories: Categories,
    ahead: int = 0,
    borders: Sequence[np.datetime64] = (),
) -> Iterator[Panel]:
    """Build the panel of a canonical table that comes in pieces. Joined, the blocks equal `build_panel`.

    A series may continue in the next block: its rows there have the same name, and its last segment keeps its number.
    A gap that contains one of the `borders` is not filled, since rows before a border must not depend on later ones.
    """
    builder = _PanelBuilder(spec, categories, ahead, np.array(borders, "datetime64[us]"))
    segments = -1
    for piece, following in itertools.pairwise(itertools.chain(pieces, [None])):
        assert piece is not None
        block = builder.block(piece, is_last=following is None)
        segment = (segments + np.cumsum(block.segment)).astype(np.int32)
        segments = int(segment[-1]) if len(segment) else segments
        yield Panel(**{**vars(block), "segment": segment})


@dataclass(frozen=True)
class _GridSpan:
    """The part of each series' grid that is in memory, in steps from the series' first row."""

    names: tuple[str, ...]
    first: np.ndarray  # (series,) datetime64[us]: time of step 0
    low: np.ndarray  # (series,) int64
    high: np.ndarray  # (series,) int64, exclusive

    @property
    def lengths(self) -> np.ndarray:
        """(series,) int64: steps of each series."""
        lengths: np.ndarray = self.high - self.low
        return lengths


class _PanelBuilder:
    """Builds block after block. Of a series that continues, it holds the rows that later rows depend on."""

    def __init__(self, spec: DataSpec, categories: Categories, ahead: int, borders: np.ndarray) -> None:
        self.spec, self.ahead, self.categories = spec, ahead, categories
        self.layout = Layout.of(spec, categories)
        self.frequency = spec.grid
        self.gaps = GapFiller(spec, self.frequency, borders)
        self.held: pd.DataFrame | None = None
        self.held_step = 0  # step of the first held row
        self.first, self.done = np.datetime64(0, "us"), 0  # of the series that continues: time of step 0, steps done

    @property
    def _reach(self) -> int:
        """Steps back that a row may depend on."""
        return self.gaps.limit + 1 + SEASONS_BACK * (self.spec.missing.season or 0)

    def block(self, piece: pd.DataFrame, is_last: bool) -> Panel:
        """Return the rows that `piece` completes, their `segment` as bool: True where a new segment begins."""
        continues = self.held is not None
        rows = pd.concat([self.held, piece], ignore_index=True) if continues else piece.reset_index(drop=True)
        starts = (rows[SERIES] != rows[SERIES].shift()).to_numpy(bool)
        series = np.cumsum(starts) - 1  # (table rows,)
        times = rows[TIME].to_numpy("datetime64[us]")
        first = self.frequency.anchors(times, starts) if self.frequency else times[starts]
        if continues:
            first[0] = self.first
        steps = self._steps(times, first, series, starts)
        low = steps[starts]
        if continues and self.frequency:
            low[0] = max(self.done - self._reach, 0)
        rows, steps, series, high = self._end_series(rows, steps, series)
        span = _GridSpan(tuple(rows[SERIES][np.r_[True, series[1:] != series[:-1]]]), first, low, high)
        panel = self._to_grid(rows, steps, series, span)
        begin, end = low.copy(), high.copy()
        if continues:
            begin[0] = self.done
        if not is_last:
            end[-1] = max(begin[-1], self._final_step(high[-1], times[series == series[-1]]))
            self.first, self.done = first[-1], int(end[-1])
            self._hold(rows, steps, series)
        return _select_steps(panel, span, begin, end)

    def _steps(self, times: np.ndarray, first: np.ndarray, series: np.ndarray, starts: np.ndarray) -> np.ndarray:
        """(table rows,) int64: step of each row from the first row of its series."""
        if self.frequency is not None:
            return self.frequency.positions(times, first[series])
        dropped = self.held_step * (series == 0)  # rows of the first series that are no longer held
        return np.arange(len(times)) - np.flatnonzero(starts)[series] + dropped

    def _final_step(self, high: int, times: np.ndarray) -> int:
        """Return the step up to which no row of the last series can change: no open gap lies before it."""
        max_age = self.gaps.max_age
        if max_age is None:
            return high - self.gaps.limit - 1
        return high - int((times > times[-1] - max_age).sum()) - 1

    def _hold(self, rows: pd.DataFrame, steps: np.ndarray, series: np.ndarray) -> None:
        """Keep the rows that the next steps of the last series depend on."""
        is_last = series == series[-1]
        kept = is_last & (steps >= self.done - self._reach)
        if self.gaps.max_age is not None:
            times = rows[TIME].to_numpy("datetime64[us]")
            kept |= is_last & (times >= times[is_last & (steps >= self.done)][0] - self.gaps.max_age)
        self.held, self.held_step = rows[kept], int(steps[kept][0])

    def _end_series(
        self, rows: pd.DataFrame, steps: np.ndarray, series: np.ndarray
    ) -> tuple[pd.DataFrame, np.ndarray, np.ndarray, np.ndarray]:
        """End each series with its last row, or `ahead` steps after its last row with all targets.

        Returns:
            The remaining rows, their steps and series, and the end of each series in steps.
        """
        if not self.ahead:
            ends = np.r_[series[1:] != series[:-1], True]
            return rows, steps, series, steps[ends] + 1
        measured = np.all([rows[name].notna() for name in self.spec.target], axis=0)
        newest = np.full(series[-1] + 1, -1, np.int64)
        np.maximum.at(newest, series[measured], steps[measured])
        if (newest < 0).any():
            name = rows[SERIES][series == int((newest < 0).argmax())].iloc[0]
            raise DataError(
                f"series {name!r}: no row has a value of every target. Leave the series out, or give its history."
            )
        high = newest + 1 + self.ahead
        kept = steps < high[series]
        if kept.all():
            return rows, steps, series, high
        return rows[kept].reset_index(drop=True), steps[kept], series[kept], high

    def _to_grid(self, rows: pd.DataFrame, steps: np.ndarray, series: np.ndarray, span: _GridSpan) -> Panel:
        """Put rows on the grid of their series, fill gaps, and add covariates."""
        lengths = span.lengths
        grid = Grid.of(lengths)
        grid_series = np.repeat(np.arange(len(lengths)), lengths)
        grid_step = np.arange(len(grid_series)) - grid.first + span.low[grid_series]
        grid_row = (np.cumsum(lengths) - lengths)[series] + steps - span.low[series]
        times = self._times(rows, grid_row, span, grid_series, grid_step)
        future = grid_step >= span.high[grid_series] - self.ahead
        targets = scatter_to_grid(rows, self.spec.target, grid_row, len(grid_series))
        filled, broken, causal = self.gaps.fill(targets, grid, times)
        broken &= ~future
        inputs = GridRows(rows, grid_row, series, grid, times, self.gaps.max_age)
        values = np.hstack([filled, build_covariates(inputs, targets, self.spec, self.categories, self.gaps.limit)])
        begins = grid.starts | broken | np.r_[False, broken[:-1]] | self.gaps.breaks(times)
        panel = Panel(values, targets, causal, begins, grid_series.astype(np.int32), times, span.names, self.layout)
        self._check_ahead(panel, rows, grid_row, future)
        return panel

    def _times(
        self, rows: pd.DataFrame, grid_row: np.ndarray, span: _GridSpan, grid_series: np.ndarray, grid_step: np.ndarray
    ) -> np.ndarray:
        """(grid rows,) datetime64[us], UTC."""
        if self.frequency is not None:
            return self.frequency.times(span.first[grid_series], grid_step)
        times = np.full(len(grid_series), np.datetime64("NaT"), "datetime64[us]")
        times[grid_row] = rows[TIME].to_numpy("datetime64[us]")
        bounds = np.searchsorted(grid_series, np.arange(len(span.names) + 1))
        for low, high in itertools.pairwise(bounds.tolist()):
            extrapolate_times(times[low:high])
        return times

    def _check_ahead(self, panel: Panel, rows: pd.DataFrame, grid_row: np.ndarray, future: np.ndarray) -> None:
        for column in self.spec.known if self.ahead else ():
            present = np.zeros(len(future), bool)
            present[grid_row] = rows[column].notna()
            missing = future & ~present
            if missing.any():
                row = int(missing.argmax())
                raise missing_known_value(panel.names[panel.series[row]], column, panel.times[row])


def missing_known_value(series: str, column: str, time: np.datetime64) -> DataError:
    """Return the error that a known column has no value at a time (UTC) of the horizon."""
    return DataError(
        f"series {series!r}: known column {column!r} has no value at {pd.Timestamp(time).isoformat()}+00:00, "
        "which the horizon covers. Append rows with its future values (targets left empty)."
    )


def _select_steps(panel: Panel, span: _GridSpan, begin: np.ndarray, end: np.ndarray) -> Panel:
    """Return the rows of the steps `begin` to `end` of each series."""
    lengths = span.lengths
    step = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths - span.low, lengths)
    kept = (step >= np.repeat(begin, lengths)) & (step < np.repeat(end, lengths))
    if kept.all():
        return panel
    arrays = ("values", "actual", "causal", "segment", "series", "times")
    return Panel(**{**vars(panel), **{name: getattr(panel, name)[kept] for name in arrays}})
