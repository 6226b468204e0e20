"""Everything that a network reads beside the targets: (rows, columns) in the order of the layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration
from lstm.config.data import DataSpec
from lstm.data.calendar import calendar_features
from lstm.data.grid import Grid


@dataclass(frozen=True)
class GridRows:
    """Rows of a canonical table, and where they lie on the grid."""

    rows: pd.DataFrame
    place: np.ndarray  # (table rows,) int64: row of the grid
    run: np.ndarray  # (table rows,) int64: which stretch of the grid
    grid: Grid
    times: np.ndarray  # (grid rows,) datetime64[us], UTC
    longest: np.timedelta64 | None  # of irregular rows: how old a value may be that is carried forward

    def forward_fill(self, values: np.ndarray, limit: int) -> np.ndarray:
        """Missing values replaced by the newest one that is at most `limit` rows old; of irregular rows, `longest`."""
        before = self.grid.previous_valid(~np.isnan(values))
        if self.longest is None:
            fresh = np.arange(len(values)) - before <= limit
        else:
            fresh = self.times - self.times[before] <= self.longest
        return np.where((before >= 0) & fresh, values[before], np.nan)

    def repeat_static(self, values: pd.Series) -> np.ndarray:
        """A value that never changes within a series, on each row of its grid: (grid rows,)."""
        starts = np.r_[True, self.run[1:] != self.run[:-1]]
        lengths = (self.grid.last - self.grid.first + 1)[self.grid.starts]
        return np.repeat(values.to_numpy()[starts], lengths)


def build_covariates(
    inputs: GridRows, targets: np.ndarray, spec: DataSpec, categories: Mapping[str, Sequence[str]], limit: int
) -> np.ndarray:
    """The columns after the targets, as `Layout` orders them.

    Args:
        inputs: rows of the table and their grid.
        targets: (grid rows, targets) as measured, for the missing indicators.
        spec: roles, gap rule and calendar.
        categories: the categories of each categorical column.
        limit: steps that a missing value is carried forward; of irregular rows `inputs.longest` says it.
    """
    if spec.missing.method == "none":
        limit, inputs = 0, replace(inputs, longest=None)
    observed = scatter_to_grid(inputs.rows, _numbers(spec, spec.observed), inputs.place, len(inputs.times))
    known = scatter_to_grid(inputs.rows, _numbers(spec, spec.known), inputs.place, len(inputs.times))
    static = [inputs.repeat_static(inputs.rows[name]) for name in _numbers(spec, spec.static)]
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


def scatter_to_grid(rows: pd.DataFrame, names: Sequence[str], place: np.ndarray, length: int) -> np.ndarray:
    """Columns of the table on the grid: (grid rows, columns) float64, NaN where the table has no row."""
    made = np.full((length, len(names)), np.nan)
    for number, name in enumerate(names):
        made[place, number] = rows[name].to_numpy(np.float64)
    return made


def _numbers(spec: DataSpec, names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in spec.categorical]


def _forward_fill(values: np.ndarray, inputs: GridRows, limit: int) -> np.ndarray:
    return np.stack([inputs.forward_fill(column, limit) for column in values.T], axis=1) if values.shape[1] else values


def _one_hot(inputs: GridRows, name: str, categories: Sequence[str], limit: int | None) -> np.ndarray:
    """(grid rows, categories): 1 in the column of the row's category; all 0 where it is missing or was never seen.

    `limit`: steps that a missing category is carried forward; None: it never changes within a series.
    """
    known = {category: number for number, category in enumerate(categories)}
    codes = inputs.rows[name].map(lambda category: known.get(category, -1), na_action="ignore").astype("float64")
    if limit is None:
        on_grid = inputs.repeat_static(codes)
    else:
        on_grid = np.full(len(inputs.times), np.nan)
        on_grid[inputs.place] = codes.to_numpy()
        on_grid = inputs.forward_fill(on_grid, limit)
    return (on_grid[:, None] == np.arange(len(categories))).astype(np.float64)


def _since_last(inputs: GridRows, longest: float) -> np.ndarray:
    """Seconds since the row before, on a log scale on which max_gap is 1; 0 at the start of a series: (rows, 1)."""
    seconds = np.r_[0.0, np.diff(inputs.times).astype(np.float64) / 1e6]
    scaled = np.log1p(np.maximum(seconds, 0)) / np.log1p(longest)
    return np.where(inputs.grid.starts, 0.0, scaled)[:, None]
