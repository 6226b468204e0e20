"""The inputs of a network other than the targets, in the order of the layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration
from lstm.config.data import DataSpec
from lstm.data.calendar import calendar_features
from lstm.data.grid import Grid
from lstm.data.layout import numeric_columns


@dataclass(frozen=True)
class GridRows:
    """Rows of a canonical table and their positions on the grid."""

    rows: pd.DataFrame
    grid_row: np.ndarray  # (table rows,) int64
    series: np.ndarray  # (table rows,) int64: number of the series
    grid: Grid
    times: np.ndarray  # (grid rows,) datetime64[us], UTC
    max_age: np.timedelta64 | None  # of a value that is carried forward, where rows are irregular

    def forward_fill(self, values: np.ndarray, limit: int) -> np.ndarray:
        """Replace missing values by the last one that is at most `limit` rows (irregular: `max_age`) old."""
        before = self.grid.previous_valid(~np.isnan(values))
        if self.max_age is None:
            recent = np.arange(len(values)) - before <= limit
        else:
            recent = self.times - self.times[before] <= self.max_age
        return np.where((before >= 0) & recent, values[before], np.nan)

    def repeat_static(self, values: pd.Series) -> np.ndarray:
        """Repeat a value that is constant within a series on each row of its grid: (grid rows,)."""
        starts = np.r_[True, self.series[1:] != self.series[:-1]]
        lengths = (self.grid.last - self.grid.first + 1)[self.grid.starts]
        return np.repeat(values.to_numpy()[starts], lengths)


def build_covariates(
    inputs: GridRows, targets: np.ndarray, spec: DataSpec, categories: Mapping[str, Sequence[str]], limit: int
) -> np.ndarray:
    """Build the columns after the targets in the order of `Layout`: (grid rows, columns) float64.

    Args:
        inputs: rows of the table and their positions on the grid.
        targets: (grid rows, targets) as measured, for the missing indicators.
        spec: roles, gap rule and calendar.
        categories: of each categorical column.
        limit: steps that a value is carried forward; for irregular rows `inputs.max_age` applies.
    """
    if spec.missing.method == "none":
        limit, inputs = 0, replace(inputs, max_age=None)
    observed = scatter_to_grid(inputs.rows, numeric_columns(spec, spec.observed), inputs.grid_row, len(inputs.times))
    known = scatter_to_grid(inputs.rows, numeric_columns(spec, spec.known), inputs.grid_row, len(inputs.times))
    static = [inputs.repeat_static(inputs.rows[name]) for name in numeric_columns(spec, spec.static)]
    columns = [_forward_fill(observed, inputs, limit)]
    columns += [_one_hot(inputs, name, categories[name], limit) for name in spec.observed if name in spec.categorical]
    if spec.missing.indicators:
        columns.append(np.isnan(np.hstack([targets, observed])).astype(np.float64))
    if spec.frequency == "irregular":
        columns.append(_since_last(inputs, parse_duration(str(spec.missing.max_gap)).total_seconds()))
    columns += [_forward_fill(known, inputs, limit), *(values.astype(np.float64)[:, None] for values in static)]
    columns += [_one_hot(inputs, name, categories[name], limit) for name in spec.known if name in spec.categorical]
    columns += [_one_hot(inputs, name, categories[name], None) for name in spec.static if name in spec.categorical]
    stamps = pd.DatetimeIndex(inputs.times, tz="UTC")
    return np.hstack([*columns, calendar_features(stamps, spec.calendar, spec.timezone)])


def scatter_to_grid(rows: pd.DataFrame, names: Sequence[str], grid_row: np.ndarray, length: int) -> np.ndarray:
    """Put columns of the table on the grid: (length, columns) float64, NaN where the table has no row."""
    values = np.full((length, len(names)), np.nan)
    for number, name in enumerate(names):
        values[grid_row, number] = rows[name].to_numpy(np.float64)
    return values


def _forward_fill(values: np.ndarray, inputs: GridRows, limit: int) -> np.ndarray:
    return np.stack([inputs.forward_fill(column, limit) for column in values.T], axis=1) if values.shape[1] else values


def _one_hot(inputs: GridRows, name: str, categories: Sequence[str], limit: int | None) -> np.ndarray:
    """(grid rows, categories): 1 in the column of the row's category; all 0 where it is missing or unknown.

    `limit`: steps that a category is carried forward; None: it is constant within a series.
    """
    known = {category: number for number, category in enumerate(categories)}
    codes = inputs.rows[name].map(lambda category: known.get(category, -1), na_action="ignore").astype("float64")
    if limit is None:
        on_grid = inputs.repeat_static(codes)
    else:
        on_grid = np.full(len(inputs.times), np.nan)
        on_grid[inputs.grid_row] = codes.to_numpy()
        on_grid = inputs.forward_fill(on_grid, limit)
    return (on_grid[:, None] == np.arange(len(categories))).astype(np.float64)


def _since_last(inputs: GridRows, max_gap_s: float) -> np.ndarray:
    """(rows, 1): log of the seconds since the row before, scaled so that max_gap is 1; 0 at a series' first row."""
    seconds = np.r_[0.0, np.diff(inputs.times).astype(np.float64) / 1e6]
    scaled = np.log1p(np.maximum(seconds, 0)) / np.log1p(max_gap_s)
    return np.where(inputs.grid.starts, 0.0, scaled)[:, None]
