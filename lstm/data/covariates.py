"""Everything that a network reads beside the targets: (rows, columns) in the order of the layout."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.calendars.durations import duration
from lstm.config.data import DataSpec
from lstm.data.calendar import calendar_features
from lstm.data.grid import Grid


@dataclass(frozen=True)
class Inputs:
    """Rows of a canonical table, and where they lie on the grid."""

    rows: pd.DataFrame
    place: np.ndarray  # (table rows,) int64: row of the grid
    run: np.ndarray  # (table rows,) int64: which stretch of the grid
    grid: Grid
    times: np.ndarray  # (grid rows,) datetime64[us], UTC
    longest: np.timedelta64 | None  # of irregular rows: how old a value may be that is carried forward

    def carried(self, values: np.ndarray, limit: int) -> np.ndarray:
        """Missing values replaced by the newest one that is at most `limit` rows old; of irregular rows, `longest`."""
        before = self.grid.before(~np.isnan(values))
        if self.longest is None:
            fresh = np.arange(len(values)) - before <= limit
        else:
            fresh = self.times - self.times[before] <= self.longest
        return np.where((before >= 0) & fresh, values[before], np.nan)

    def constant(self, values: pd.Series) -> np.ndarray:
        """A value that never changes within a series, on each row of its grid: (grid rows,)."""
        starts = np.r_[True, self.run[1:] != self.run[:-1]]
        lengths = (self.grid.last - self.grid.first + 1)[self.grid.starts]
        return np.repeat(values.to_numpy()[starts], lengths)


def covariates(
    inputs: Inputs, targets: np.ndarray, spec: DataSpec, levels: Mapping[str, Sequence[str]], limit: int
) -> np.ndarray:
    """The columns after the targets, as `Layout` orders them.

    Args:
        inputs: rows of the table and their grid.
        targets: (grid rows, targets) as measured, for the missing indicators.
        spec: roles, gap rule and calendar.
        levels: the categories of each categorical column.
        limit: steps that a missing value is carried forward; of irregular rows `inputs.longest` says it.
    """
    if spec.missing.method == "none":
        limit, inputs = 0, replace(inputs, longest=None)
    observed = placed(inputs.rows, _numbers(spec, spec.observed), inputs.place, len(inputs.times))
    known = placed(inputs.rows, _numbers(spec, spec.known), inputs.place, len(inputs.times))
    static = [inputs.constant(inputs.rows[name]) for name in _numbers(spec, spec.static)]
    columns = [_carried(observed, inputs, limit)]
    columns += [_one_hot(inputs, name, levels[name], limit) for name in spec.observed if name in spec.categorical]
    if spec.missing.indicators:
        columns.append(np.isnan(np.hstack([targets, observed])).astype(np.float64))
    if spec.frequency == "irregular":
        columns.append(_since_last(inputs, duration(str(spec.missing.max_gap)).total_seconds()))
    columns += [_carried(known, inputs, limit), *(values.astype(np.float64)[:, None] for values in static)]
    columns += [_one_hot(inputs, name, levels[name], limit) for name in spec.known if name in spec.categorical]
    columns += [_one_hot(inputs, name, levels[name], None) for name in spec.static if name in spec.categorical]
    stamps = pd.DatetimeIndex(inputs.times, tz="UTC")
    return np.hstack([*columns, calendar_features(stamps, spec.calendar, spec.timezone)])


def placed(rows: pd.DataFrame, names: Sequence[str], place: np.ndarray, length: int) -> np.ndarray:
    """Columns of the table on the grid: (grid rows, columns) float64, NaN where the table has no row."""
    made = np.full((length, len(names)), np.nan)
    for number, name in enumerate(names):
        made[place, number] = rows[name].to_numpy(np.float64)
    return made


def _numbers(spec: DataSpec, names: Sequence[str]) -> list[str]:
    return [name for name in names if name not in spec.categorical]


def _carried(values: np.ndarray, inputs: Inputs, limit: int) -> np.ndarray:
    return np.stack([inputs.carried(column, limit) for column in values.T], axis=1) if values.shape[1] else values


def _one_hot(inputs: Inputs, name: str, levels: Sequence[str], limit: int | None) -> np.ndarray:
    """(grid rows, levels): 1 in the column of the row's category; all 0 where it is missing or was never seen.

    `limit`: steps that a missing category is carried forward; None: it never changes within a series.
    """
    known = {level: number for number, level in enumerate(levels)}
    codes = inputs.rows[name].map(lambda level: known.get(level, -1), na_action="ignore").astype("float64")
    if limit is None:
        on_grid = inputs.constant(codes)
    else:
        on_grid = np.full(len(inputs.times), np.nan)
        on_grid[inputs.place] = codes.to_numpy()
        on_grid = inputs.carried(on_grid, limit)
    return (on_grid[:, None] == np.arange(len(levels))).astype(np.float64)


def _since_last(inputs: Inputs, longest: float) -> np.ndarray:
    """Seconds since the row before, on a log scale on which max_gap is 1; 0 at the start of a series: (rows, 1)."""
    seconds = np.r_[0.0, np.diff(inputs.times).astype(np.float64) / 1e6]
    scaled = np.log1p(np.maximum(seconds, 0)) / np.log1p(longest)
    return np.where(inputs.grid.starts, 0.0, scaled)[:, None]
