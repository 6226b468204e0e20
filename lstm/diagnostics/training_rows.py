"""Scaling, categories and known columns, checked against the raw rows of the training span."""

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
_ROUNDING = 10 * np.finfo(np.float64).eps  # × the largest value: a spread below it is rounding
_COPY_CORRELATION = 1 - 1e-9  # of a column that is a target in other units
_MAX_EXCERPT = 5000  # rows of the training span in which copies are looked for
_MIN_ROWS = 50  # to call a column a copy
_MAX_LAG = 48  # steps in either direction in which copies are looked for
_PAST_VALUES = 12  # a target that so many of its own past values determine can't leak

CheckOutcome = tuple[list[str], str]  # errors, and what was checked


def check_scaling(
    forecaster: Forecaster, table: Table, panel: PanelStore, normalize: NormalizeSpec, names: Sequence[str]
) -> CheckOutcome:
    """Compare the forecaster's center and scale with those of the training rows, within 1e-9."""
    spec, shared = forecaster.spec, forecaster.normalizer.names == (ALL_SERIES,)
    varying = [name for name in (*spec.target, *spec.observed, *spec.known) if name in spec.numeric]
    static = [name for name in spec.static if name in spec.numeric]
    log_columns = spec.target if normalize.log else ()
    errors, checked = [], []
    rows = _training_rows(table, panel) if table.rows <= MAX_ROWS else None
    for name in (ALL_SERIES,) if shared else names:
        part = _rows_of_series(rows, table, panel, name)
        if part is not None:
            scope = "all series" if shared else f"series {name!r}"
            checked.append(scope)
            expected = _centers_and_scales(part, varying, log_columns, normalize)
            errors += [f"{scope}, {error}" for error in _scaling_errors(forecaster, name, varying, 0, expected)]
    if static and rows is not None and names:
        expected = _centers_and_scales(rows, static, (), normalize)
        static_errors = _scaling_errors(forecaster, names[0], static, len(varying), expected)
        errors += [f"all series, {error}" for error in static_errors]
    if not checked:
        return errors, f"not computed anew: center and scale come from more than {MAX_ROWS:,} rows"
    return errors, (
        f"center and scale of {', '.join(checked)} (strategy {normalize.strategy}) are those of the rows in "
        f"[{panel.cuts.start}, {panel.cuts.validation})"
    )


def _training_rows(table: Table, panel: PanelStore, names: Sequence[str] | None = None) -> pd.DataFrame:
    return table.read_rows(names, panel.cuts.start, panel.cuts.validation)


def _rows_of_series(rows: pd.DataFrame | None, table: Table, panel: PanelStore, name: str) -> pd.DataFrame | None:
    """Return the training rows that a name of the normaliser stands for; None if they are too many."""
    if rows is not None:
        return rows if name == ALL_SERIES else rows[rows[SERIES] == name]
    if name == ALL_SERIES:
        return None
    low, high = series_rows(panel, panel.names.index(name))
    return _training_rows(table, panel, [name]) if high - low <= MAX_ROWS else None


def _centers_and_scales(
    rows: pd.DataFrame, columns: Sequence[str], log_columns: Sequence[str], normalize: NormalizeSpec
) -> list[tuple[float, float]]:
    """Return center and scale of each column, by the definition of the strategy."""
    scaling = []
    for column in columns:
        values = rows[column].to_numpy(np.float64)
        values = values[~np.isnan(values)]
        scaling.append(_center_and_scale(np.log(values) if column in log_columns else values, normalize.strategy))
    return scaling


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


def _scaling_errors(
    forecaster: Forecaster, name: str, columns: Sequence[str], first: int, expected: list[tuple[float, float]]
) -> Iterator[str]:
    """Yield columns whose center or scale in the forecaster is not as expected.

    Args:
        forecaster: its normaliser is checked.
        name: of the series.
        columns: to check.
        first: position of the first column in the normaliser.
        expected: center and scale of each column.
    """
    row = forecaster.normalizer.series_rows([name])[0]
    for number, (column, (center, scale)) in enumerate(zip(columns, expected, strict=True), start=first):
        used = (forecaster.normalizer.center[row, number], forecaster.normalizer.scale[row, number])
        if not np.allclose(used, (center, scale), rtol=0, atol=_TOLERANCE * max(abs(center), scale)):
            yield (
                f"column {column!r}: center and scale are {used[0]:.10g} and {used[1]:.10g}, but those of its training "
                f"rows {center:.10g} and {scale:.10g}"
            )


def check_categories(forecaster: Forecaster, table: Table, panel: PanelStore) -> CheckOutcome:
    """Check that each category with an input occurs in the training rows."""
    if not forecaster.categories:
        return [], "there is no categorical column"
    if table.rows > MAX_ROWS:
        return [], f"not looked up: the table has more than {MAX_ROWS:,} rows"
    rows = _training_rows(table, panel)
    errors = [
        f"column {column!r}: category {level!r} has an input, but is in no row of the training span"
        for column, levels in forecaster.categories.items()
        for level in sorted(set(levels) - set(rows[column].dropna()))
    ]
    return errors, f"every category of {', '.join(forecaster.categories)} is in the training rows"


def check_known_columns(forecaster: Forecaster, table: Table, panel: PanelStore, names: Sequence[str]) -> CheckOutcome:
    """Check that no known column is a target within the horizon, in other units or shifted by some steps.

    Targets that their own past determines to the last digit are skipped: any known column can follow them.
    """
    spec, errors = forecaster.spec, []
    columns = [name for name in spec.known if name in spec.numeric]
    if not columns:
        return [], "no measured column counts as known ahead"
    for name in names:
        rows = _excerpt(table, panel, name)
        for target in spec.target:
            values = rows[target].to_numpy(np.float64)
            if len(values) < _MIN_ROWS or _is_determined(values):
                continue
            for column in columns:
                lag = _copy_lag(values, rows[column].to_numpy(np.float64), min(forecaster.horizon, _MAX_LAG))
                if lag is not None:
                    when = "of the same time" if not lag else f"{abs(lag)} steps {'before' if lag > 0 else 'after'}"
                    errors.append(
                        f"series {name!r}: known column {column!r} is the target {target!r} {when}, which nobody knows "
                        f"for a horizon of {forecaster.horizon}. List it in data.observed"
                    )
    return errors, f"{', '.join(columns)}: none is a copy of a target"


def _excerpt(table: Table, panel: PanelStore, name: str) -> pd.DataFrame:
    """Return the newest training rows of a series on its grid, one row per step."""
    low, high = series_rows(panel, panel.names.index(name))
    times = panel.array("times")[low:high]
    start, end = np.searchsorted(times, np.array([panel.cuts.start, panel.cuts.validation]))
    grid = times[max(start, end - _MAX_EXCERPT) : end]
    if not len(grid):
        return table.read_rows([name], panel.cuts.start, panel.cuts.start)
    rows = table.read_rows([name], grid[0], grid[-1] + np.timedelta64(1, "us"))
    return rows.set_index(TIME).reindex(pd.DatetimeIndex(grid, tz="UTC"))


def _is_determined(values: np.ndarray) -> bool:
    """Return whether each value is a linear function of the last ones: constants, lines, waves."""
    windows = np.lib.stride_tricks.sliding_window_view(values, _PAST_VALUES + 1)
    windows = windows[~np.isnan(windows).any(axis=1)]
    if len(windows) < _MIN_ROWS:
        return False
    inputs, now = np.c_[windows[:, :-1], np.ones(len(windows))], windows[:, -1]
    residuals = now - inputs @ np.linalg.lstsq(inputs, now, rcond=None)[0]
    return bool(np.square(residuals).sum() <= (1 - _COPY_CORRELATION) * np.square(now - now.mean()).sum())


def _copy_lag(target: np.ndarray, column: np.ndarray, horizon: int) -> int | None:
    """Return by how many steps (< horizon) a column trails the target that it copies; None if it is no copy."""
    for lag in sorted(range(-_MAX_LAG, horizon), key=abs):
        now, then = (column[lag:], target[: len(target) - lag]) if lag >= 0 else (column[:lag], target[-lag:])
        both = ~(np.isnan(now) | np.isnan(then))
        if both.sum() < _MIN_ROWS or np.ptp(now[both]) == 0 or np.ptp(then[both]) == 0:
            continue
        if abs(np.corrcoef(now[both], then[both])[0, 1]) > _COPY_CORRELATION:
            return lag
    return None
