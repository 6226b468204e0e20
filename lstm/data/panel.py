"""From the canonical table to a panel: every series on a regular grid, gaps filled by rule or cut.

A panel keeps its series one after the other in flat arrays, so that a window is a slice of rows.

Nothing here lets a row know of a later one, with one stated exception: a gap in a target is interpolated
(`method: linear`) from both of its ends, and the rows in between are marked as not `causal`, so that no
window ends in such a gap. Covariates are only ever carried forward: at forecast time nobody knows the
next reading either.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.data.calendar import calendar_columns, calendar_features
from lstm.data.spec import DataSpec
from lstm.data.table import SERIES, TIME
from lstm.durations import duration
from lstm.errors import DataError


@dataclass(frozen=True)
class Panel:
    """All series in raw units, rows of one series together and in order of time.

    Columns of `values`: targets, observed, then the known ones: known, static, calendar.
    """

    values: np.ndarray  # (rows, columns) float64; NaN only where a covariate is missing for longer than max_gap
    actual: np.ndarray  # (rows, targets) float64: what was really measured, NaN elsewhere
    causal: np.ndarray  # (rows,) bool: no value of this row was interpolated from a later one
    segment: np.ndarray  # (rows,) int64: rows of one unbroken run share a number
    series: np.ndarray  # (rows,) int64: position in `names`
    times: np.ndarray  # (rows,) datetime64[ns], UTC
    names: tuple[str, ...]
    columns: tuple[str, ...]
    n_known: int  # how many of the last columns are known ahead
    n_scaled: int  # how many of the first columns are normalised: all but the calendar
    n_static: int  # how many of the last normalised columns never change within a series

    def rows(self, mask: np.ndarray) -> "Panel":
        """The panel of the rows where `mask` is true."""
        names = ("values", "actual", "causal", "segment", "series", "times")
        return replace(self, **{name: getattr(self, name)[mask] for name in names})


def build_panel(table: pd.DataFrame, spec: DataSpec, ahead: int = 0) -> Panel:
    """Put a canonical table on its grid, fill or cut gaps, and add the calendar.

    Args:
        table: as `canonical` returns it.
        spec: roles, frequency, gap rule and calendar.
        ahead: rows to append after each series' last measured target, for the known columns of a
            forecast; rows of the table beyond them are left out. 0: the table's own rows.

    Raises:
        DataError: a known column has no value in a row ahead.
    """
    step = duration(spec.frequency)
    parts, names = [], []
    for name, rows in table.groupby(SERIES, sort=True):
        names.append(str(name))
        parts.append(_one_series(rows.set_index(TIME), spec, step, ahead, str(name)))
    segments = np.concatenate([part["segment"] for part in parts])
    lengths = [len(part["times"]) for part in parts]
    offsets = np.repeat(np.cumsum([0, *(part["segment"].max() + 1 for part in parts[:-1])]), lengths)
    calendar = calendar_columns(spec.calendar)
    named = (*spec.target, *spec.observed, *spec.known, *spec.static)
    return Panel(
        values=np.concatenate([part["values"] for part in parts]),
        actual=np.concatenate([part["actual"] for part in parts]),
        causal=np.concatenate([part["causal"] for part in parts]),
        segment=segments + offsets,
        series=np.repeat(np.arange(len(parts)), lengths),
        times=np.concatenate([part["times"] for part in parts]),
        names=tuple(names),
        columns=(*named, *calendar),
        n_known=len(spec.known) + len(spec.static) + len(calendar),
        n_scaled=len(named),
        n_static=len(spec.static),
    )


def _one_series(rows: pd.DataFrame, spec: DataSpec, step: pd.Timedelta, ahead: int, name: str) -> dict[str, np.ndarray]:
    targets, covariates = list(spec.target), [*spec.observed, *spec.known]
    measured = rows.index[rows[targets].notna().any(axis=1)]
    if measured.empty:
        raise DataError(f"series {name!r}: no target has a value. Leave the series out, or give its history.")
    end = measured[-1] + ahead * step if ahead else rows.index[-1]
    grid = rows.reindex(pd.date_range(rows.index[0], end, freq=step))
    limit = int(duration(spec.missing.max_gap) / step)
    filled = grid[targets].copy()
    causal, broken = np.ones(len(grid), bool), np.zeros(len(grid), bool)
    for target in targets:
        filled[target] = _fill(grid[target], spec.missing.method, limit)
        if spec.missing.method == "linear":
            causal &= grid[target].notna() | filled[target].isna()
        broken |= filled[target].isna().to_numpy()
    carry = limit and spec.missing.method != "none"
    carried = grid[covariates].ffill(limit=limit) if carry else grid[covariates]
    if ahead:
        broken[-ahead:] = False
        _check_known_ahead(grid[list(spec.known)].iloc[-ahead:], name)
    static = grid[list(spec.static)].ffill().bfill()
    stamps = pd.DatetimeIndex(grid.index)
    calendar = calendar_features(stamps, spec.calendar, spec.timezone)
    return {
        "values": np.hstack([filled, carried, static, calendar]).astype(np.float64),
        "actual": grid[targets].to_numpy(np.float64),
        "causal": np.asarray(causal, dtype=bool),
        "segment": _segments(broken),
        "times": stamps.tz_convert(None).as_unit("ns").to_numpy(),
    }


def _fill(values: pd.Series, method: str, limit: int) -> pd.Series:
    """Fill runs of NaN of at most `limit` steps between two values; leave longer and outer runs alone."""
    missing = values.isna()
    if method == "none" or not limit or not missing.any():
        return values
    run = (missing != missing.shift()).cumsum()
    short = missing & (missing.groupby(run).transform("size") <= limit)
    inner = values.notna().cummax() & values.notna()[::-1].cummax()[::-1]
    filled = values.interpolate() if method == "linear" else values.ffill()
    return values.where(~(short & inner), filled)


def _segments(broken: np.ndarray) -> np.ndarray:
    """Number unbroken runs; a broken row is a run of its own, too short for any window."""
    return np.cumsum(broken | np.r_[False, broken[:-1]])


def _check_known_ahead(future: pd.DataFrame, name: str) -> None:
    for column in future.columns:
        if future[column].isna().any():
            time = future.index[future[column].isna()][0]
            raise DataError(
                f"series {name!r}: known column {column!r} has no value at {time.isoformat()}, which the horizon "
                "covers. Append rows with its future values (targets left empty)."
            )
