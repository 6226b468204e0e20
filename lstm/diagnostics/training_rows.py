"""What scaling and encoding learned, computed anew from the raw rows of the training span."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from lstm.config.preparation import NormalizeSpec
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import ALL_SERIES
from lstm.forecasting.forecaster import Forecaster
from lstm.profiling.coverage import series_rows

MAX_ROWS = 2_000_000  # of a table or of a series that are read at once
_TOLERANCE = 1e-9  # of center and scale: sums of floats depend on their order
_ROUNDING = 10 * np.finfo(np.float64).eps  # × the largest value: a spread within it is none
_COPY = 1 - 1e-9  # correlation of a column that is a target in other units
_EXCERPT = 5000  # rows of the training span that copies are looked for in
_FEWEST = 50  # rows that say something of a copy
_LAGS = 48  # steps to either side that copies are looked for
_PAST = 12  # own past values: a target that they determine has nothing to hide

CheckOutcome = tuple[list[str], str]  # what is wrong, and what was looked at


def check_scaling(
    forecaster: Forecaster, table: Table, panel: PanelStore, normalize: NormalizeSpec, names: Sequence[str]
) -> CheckOutcome:
    """Center and scale of the forecaster against those of the training rows; within 1e-9."""
    spec, together = forecaster.spec, forecaster.normalizer.names == (ALL_SERIES,)
    own = [name for name in (*spec.target, *spec.observed, *spec.known) if name in spec.numeric]
    static = [name for name in spec.static if name in spec.numeric]
    logs = spec.target if normalize.log else ()
    wrong, looked = [], []
    rows = _training(table, panel) if table.rows <= MAX_ROWS else None
    for name in (ALL_SERIES,) if together else names:
        part = _of_series(rows, table, panel, name)
        if part is not None:
            whose = "all series" if together else f"series {name!r}"
            looked.append(whose)
            found = _expected(part, own, logs, normalize)
            wrong += [f"{whose}, {one}" for one in _other(forecaster, name, own, 0, found)]
    if static and rows is not None and names:
        found = _expected(rows, static, (), normalize)
        wrong += [f"all series, {one}" for one in _other(forecaster, names[0], static, len(own), found)]
    if not looked:
        return wrong, f"not computed anew: center and scale come from more than {MAX_ROWS:,} rows"
    return wrong, (
        f"center and scale of {', '.join(looked)} (strategy {normalize.strategy}) are those of the rows in "
        f"[{panel.cuts.start}, {panel.cuts.validation})"
    )


def _training(table: Table, panel: PanelStore, names: Sequence[str] | None = None) -> pd.DataFrame:
    return table.read_rows(names, panel.cuts.start, panel.cuts.validation)


def _of_series(rows: pd.DataFrame | None, table: Table, panel: PanelStore, name: str) -> pd.DataFrame | None:
    """The training rows that a name of the normaliser stands for; None: they are too many."""
    if rows is not None:
        return rows if name == ALL_SERIES else rows[rows[SERIES] == name]
    if name == ALL_SERIES:
        return None
    low, high = series_rows(panel, panel.names.index(name))
    return _training(table, panel, [name]) if high - low <= MAX_ROWS else None


def _expected(
    rows: pd.DataFrame, columns: Sequence[str], logs: Sequence[str], normalize: NormalizeSpec
) -> list[tuple[float, float]]:
    """Center and scale of each column, by the definition of the strategy."""
    found = []
    for column in columns:
        values = rows[column].to_numpy(np.float64)
        values = values[~np.isnan(values)]
        found.append(_center_and_scale(np.log(values) if column in logs else values, normalize.strategy))
    return found


def _center_and_scale(values: np.ndarray, strategy: str) -> tuple[float, float]:
    if strategy == "none":
        return 0.0, 1.0
    if not len(values):
        return np.nan, np.nan
    if strategy == "zscore":
        center, scale = values.mean(), values.std()
    elif strategy == "minmax":
        center, scale = values.min(), np.ptp(values)
    else:
        low, center, high = np.percentile(values, [25, 50, 75])
        scale = high - low
    return float(center), float(scale) if scale > _ROUNDING * np.abs(values).max() else 1.0


def _other(
    forecaster: Forecaster, name: str, columns: Sequence[str], first: int, found: list[tuple[float, float]]
) -> Iterator[str]:
    """Columns whose center or scale in the forecaster is not the one that was found."""
    place = forecaster.normalizer.series_rows([name])[0]
    for number, (column, wanted) in enumerate(zip(columns, found, strict=True), start=first):
        used = (forecaster.normalizer.center[place, number], forecaster.normalizer.scale[place, number])
        size = max(abs(wanted[0]), wanted[1])
        if not np.allclose(used, wanted, rtol=0, atol=_TOLERANCE * size):
            yield (
                f"column {column!r}: center and scale are {used[0]:.10g} and {used[1]:.10g}, but those of its training "
                f"rows {wanted[0]:.10g} and {wanted[1]:.10g}"
            )


def check_categories(forecaster: Forecaster, table: Table, panel: PanelStore) -> CheckOutcome:
    """Every category with an input of its own occurs in the training rows."""
    if not forecaster.categories:
        return [], "there is no categorical column"
    if table.rows > MAX_ROWS:
        return [], f"not looked up: the table has more than {MAX_ROWS:,} rows"
    rows = _training(table, panel)
    wrong = [
        f"column {column!r}: category {level!r} has an input, but is in no row of the training span"
        for column, levels in forecaster.categories.items()
        for level in sorted(set(levels) - set(rows[column].dropna()))
    ]
    return wrong, f"every category of {', '.join(forecaster.categories)} is in the training rows"


def check_known_columns(forecaster: Forecaster, table: Table, panel: PanelStore, names: Sequence[str]) -> CheckOutcome:
    """No known column is a target of a time that the forecast is asked for, in whatever unit and shifted by some steps.

    A target that its own past determines to the last digit is left out: then anything known tells it.
    """
    spec, wrong = forecaster.spec, []
    columns = [name for name in spec.known if name in spec.numeric]
    if not columns:
        return [], "no measured column counts as known ahead"
    for name in names:
        rows = _excerpt(table, panel, name)
        for target in spec.target:
            values = rows[target].to_numpy(np.float64)
            if len(values) < _FEWEST or _determined(values):
                continue
            for column in columns:
                lag = _copied(values, rows[column].to_numpy(np.float64), min(forecaster.horizon, _LAGS))
                if lag is not None:
                    when = "of the same time" if not lag else f"{abs(lag)} steps {'before' if lag > 0 else 'after'}"
                    wrong.append(
                        f"series {name!r}: known column {column!r} is the target {target!r} {when}, which nobody knows "
                        f"for a horizon of {forecaster.horizon}. List it in data.observed"
                    )
    return wrong, f"{', '.join(columns)}: none is a copy of a target"


def _excerpt(table: Table, panel: PanelStore, name: str) -> pd.DataFrame:
    """The newest training rows of a series, on its grid: a row a step."""
    low, high = series_rows(panel, panel.names.index(name))
    times = panel.array("times")[low:high]
    start, end = np.searchsorted(times, np.array([panel.cuts.start, panel.cuts.validation]))
    grid = times[max(start, end - _EXCERPT) : end]
    if not len(grid):
        return table.read_rows([name], panel.cuts.start, panel.cuts.start)
    rows = table.read_rows([name], grid[0], grid[-1] + np.timedelta64(1, "us"))
    return rows.set_index(TIME).reindex(pd.DatetimeIndex(grid, tz="UTC"))


def _determined(values: np.ndarray) -> bool:
    """Whether a linear function of the last values gives each value to the last digit: constants, lines, waves."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _PAST + 1)
    windows = windows[~np.isnan(windows).any(axis=1)]
    if len(windows) < _FEWEST:
        return False
    inputs, now = np.c_[windows[:, :-1], np.ones(len(windows))], windows[:, -1]
    rest = now - inputs @ np.linalg.lstsq(inputs, now, rcond=None)[0]
    return bool(np.square(rest).sum() <= (1 - _COPY) * np.square(now - now.mean()).sum())


def _copied(target: np.ndarray, column: np.ndarray, horizon: int) -> int | None:
    """By how many steps a column trails the target that it is a copy of; at least the horizon is no leak."""
    for lag in sorted(range(-_LAGS, horizon), key=abs):
        now, then = (column[lag:], target[: len(target) - lag]) if lag >= 0 else (column[:lag], target[-lag:])
        both = ~(np.isnan(now) | np.isnan(then))
        if both.sum() < _FEWEST or np.ptp(now[both]) == 0 or np.ptp(then[both]) == 0:
            continue
        if abs(np.corrcoef(now[both], then[both])[0, 1]) > _COPY:
            return lag
    return None
