"""Leakage probe: change all data after a forecast origin and compare the network's inputs and forecast."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lstm.calendars.durations import parse_duration
from lstm.config.data import DataSpec
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.layout import Layout
from lstm.data.origins import window_origins
from lstm.data.panel import Panel, build_panel
from lstm.data.panel_store import PanelStore
from lstm.data.rows import TIME
from lstm.data.windows import Windows
from lstm.forecasting.forecaster import Forecaster
from lstm.profiling.coverage import series_rows

_MAX_ROWS = 200_000  # of a series and split in which origins are looked for


@dataclass(frozen=True)
class ForecastOrigin:
    """A forecast origin of one series, and the span of rows that a forecast from it may depend on."""

    series: str
    split: str
    newest: np.datetime64  # last row of the history
    first_step: np.datetime64
    last_step: np.datetime64
    since: np.datetime64  # no older row can matter
    until: np.datetime64  # far enough after the last step
    features: np.ndarray  # (lookback, features) float32: the input in the arrays of training or evaluation

    def __str__(self) -> str:
        """Return split, series and time."""
        return f"{self.split}, series {self.series!r}, origin {np.datetime_as_string(self.first_step, unit='s')}"


def select_origins(
    forecaster: Forecaster, table: Table, panel: PanelStore, splits: Mapping[str, SplitArrays], names: Sequence[str]
) -> Iterator[ForecastOrigin]:
    """Yield origins of each series in validation and test: the first, one in between, one after a missing value."""
    for split in ("validation", "test"):
        for name in names:
            code, arrays = panel.names.index(name), splits[split]
            low, high = _split_rows(arrays, code)
            rows = slice(low, min(high, low + _MAX_ROWS))
            lookback, horizon = forecaster.lookback, forecaster.horizon
            allowed = np.array(arrays.allowed[rows])
            origins = window_origins(arrays.segment[rows], lookback, horizon, 1, allowed) + low
            for row in _select_rows(origins, arrays, table, forecaster.spec, name):
                yield _forecast_origin(forecaster, panel, arrays, split, code, row)


def _split_rows(arrays: SplitArrays, code: int) -> tuple[int, int]:
    """Return the first row of a series in a split's arrays, and the one after its last."""
    low, high = np.searchsorted(arrays.series, np.array([code, code + 1], arrays.series.dtype))
    return int(low), int(high)


def _select_rows(origins: np.ndarray, arrays: SplitArrays, table: Table, spec: DataSpec, name: str) -> list[int]:
    """Return up to three of the origins, which are rows of the split's arrays."""
    if not len(origins):
        return []
    times = arrays.times[origins - 1]
    raw = table.read_rows([name], times[0], times[-1] + np.timedelta64(1, "us"))
    complete = raw[raw[list(spec.values)].notna().all(axis=1)]
    after_gap = origins[~np.isin(times, complete[TIME].to_numpy("datetime64[us]"))]
    between = np.random.default_rng(len(origins)).integers(len(origins))
    return sorted({int(origins[0]), int(origins[between]), *(int(row) for row in after_gap[:1])})


def _forecast_origin(
    forecaster: Forecaster, panel: PanelStore, arrays: SplitArrays, split: str, code: int, row: int
) -> ForecastOrigin:
    low, high = series_rows(panel, code)
    times, first_step, horizon = panel.array("times")[low:high], arrays.times[row], forecaster.horizon
    position = int(np.searchsorted(times, first_step))
    reach = _reach(forecaster)
    end = min(position + 2 * horizon + reach - forecaster.lookback, len(times) - 1)
    return ForecastOrigin(
        series=panel.names[code],
        split=split,
        newest=times[position - 1],
        first_step=first_step,
        last_step=times[position + horizon - 1],
        since=_since(forecaster, times, position),
        until=times[end] + np.timedelta64(1, "us"),
        features=np.array(arrays.features[row - forecaster.lookback : row]),
    )


def _reach(forecaster: Forecaster) -> int:
    """Return how many rows before an origin a forecast may depend on; irregular rows need `max_gap` on top."""
    return (forecaster.lookback if forecaster.spec.frequency == "irregular" else forecaster.reach) + 1


def _since(forecaster: Forecaster, times: np.ndarray, position: int) -> np.datetime64:
    """Return the first time of the series' grid that a forecast whose first step is row `position` may depend on."""
    since: np.datetime64 = times[max(position - _reach(forecaster), 0)]
    if forecaster.spec.frequency == "irregular":
        since = since - parse_duration(str(forecaster.spec.missing.max_gap)).to_timedelta64()
    return since


def check_training_end(
    forecaster: Forecaster, table: Table, panel: PanelStore, train: SplitArrays, name: str
) -> list[str]:
    """Return where the newest training rows of a series differ from rows built from the training span alone."""
    code = panel.names.index(name)
    low, high = _split_rows(train, code)
    if low == high:
        return []
    rows = slice(max(low, high - forecaster.lookback), high)
    times, features = np.array(train.times[rows]), np.array(train.features[rows])
    first, last = series_rows(panel, code)
    grid = panel.array("times")[first:last]
    since = _since(forecaster, grid, int(np.searchsorted(grid, times[0])))
    span = table.read_rows([name], since, panel.cuts.validation).reset_index(drop=True)
    if span.empty:
        return []
    rebuilt = build_panel(span, forecaster.spec, forecaster.categories)
    shared = np.isin(times, rebuilt.times)
    expected = forecaster.normalizer.normalize_features(rebuilt)[np.searchsorted(rebuilt.times, times[shared])]
    if (column := _first_difference(features[shared], expected)) is not None:
        return [f"train, series {name!r}: input {_name(forecaster, column)} is not made of the training span alone"]
    if not np.isnan(features[~shared, : rebuilt.layout.n_targets]).all():
        return [f"train, series {name!r}: the gap that its training span ends with is filled from beyond"]
    return []


def probe_origin(forecaster: Forecaster, table: Table, origin: ForecastOrigin) -> tuple[list[str], list[str]]:
    """Return what depends on the future of an origin, and which arrays differ from a forecast's inputs.

    The future is changed, and removed. Both are repeated with a gap just before the origin, to see how it is filled.
    """
    rows = table.read_rows([origin.series], origin.since, origin.until).reset_index(drop=True)
    leaks: list[str] = []
    array_errors: list[str] = []
    for gap, history in (("", rows), (", after a gap", _with_gap(rows, forecaster.spec, origin))):
        futures = {"changed": _change_future(history, forecaster.spec, origin, forecaster.normalizer.log)}
        # A gap is filled only if a measured row ends it, so a gap before the origin stays open without a future.
        if _ends_measured(history, forecaster.spec, origin):
            futures["removed"] = _remove_future(history, forecaster.spec, origin)
        expected = _inputs_and_forecast(forecaster, history, origin)
        actual = {change: _inputs_and_forecast(forecaster, future, origin) for change, future in futures.items()}
        for change, values in actual.items():
            differences = _differences(forecaster, expected, values)
            leaks += [f"{origin}{gap}: {difference} where the future is {change}" for difference in differences]
        if not gap and (column := _first_difference(origin.features, actual["changed"][0])) is not None:
            name = _name(forecaster, column)
            array_errors.append(f"{origin}: input {name} of the arrays is not what a forecast sees")
    return leaks, array_errors


def _inputs_and_forecast(
    forecaster: Forecaster, rows: pd.DataFrame, origin: ForecastOrigin
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return inputs (lookback, features), known covariates (horizon, known), and forecast (horizon, targets)."""
    panel = build_panel(rows, forecaster.spec, forecaster.categories)
    windows = _window(forecaster, panel, origin)
    past, known, _ = windows.inputs(torch.zeros(1, dtype=torch.int64))
    return past[0].numpy(), known[0].numpy(), forecaster.forecast_windows(windows)[0]


def _window(forecaster: Forecaster, panel: Panel, origin: ForecastOrigin) -> Windows:
    return forecaster.windows(panel, np.searchsorted(panel.times, np.array([origin.first_step])))


def _differences(
    forecaster: Forecaster, expected: tuple[np.ndarray, ...], actual: tuple[np.ndarray, ...]
) -> Iterator[str]:
    if (column := _first_difference(expected[0], actual[0])) is not None:
        yield f"input {_name(forecaster, column)} before it moves"
    if (column := _first_difference(expected[1], actual[1])) is not None:
        yield f"known input {column + 1} within the horizon moves"
    if _first_difference(expected[2], actual[2]) is not None:
        yield "the forecast moves"


def _first_difference(expected: np.ndarray, actual: np.ndarray) -> int | None:
    """Return the first column that differs in any bit; NaN equals NaN."""
    if expected.shape != actual.shape:
        return 0
    differs = ((expected != actual) & ~(np.isnan(expected) & np.isnan(actual))).any(axis=0)
    return int(differs.argmax()) if differs.any() else None


def _name(forecaster: Forecaster, column: int) -> str:
    return repr(Layout.of(forecaster.spec, forecaster.categories).columns[column])


def _with_gap(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin) -> pd.DataFrame:
    """Remove the newest observations. Interpolated targets stay, since no window may end in such a gap."""
    columns = [*spec.observed, *(spec.target if spec.missing.method in ("forward", "seasonal") else ())]
    newest = rows.index[rows[TIME] < pd.Timestamp(origin.first_step, tz="UTC")][-1:]
    with_gap = rows.copy()
    with_gap.loc[newest, columns] = np.nan
    return with_gap


def _ends_measured(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin) -> bool:
    """Return whether the table has the newest row before the origin, with every target measured."""
    before = rows[rows[TIME] < pd.Timestamp(origin.first_step, tz="UTC")]
    newest = before[TIME].iloc[-1] if len(before) else None
    return newest == pd.Timestamp(origin.newest, tz="UTC") and bool(before[list(spec.target)].iloc[-1].notna().all())


def _change_future(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin, log: bool) -> pd.DataFrame:
    """Change every value from the origin on and fill missing ones; known columns change after the horizon."""
    return _with_future(rows, spec, origin, lambda values: _perturb(values, log))


def _remove_future(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin) -> pd.DataFrame:
    return _with_future(rows, spec, origin, lambda values: values.where(np.zeros(len(values), bool)))


def _with_future(
    rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin, change: Callable[[pd.Series], pd.Series]
) -> pd.DataFrame:
    times, changed = rows[TIME], rows.copy()
    future = times >= pd.Timestamp(origin.first_step, tz="UTC")
    beyond = times > pd.Timestamp(origin.last_step, tz="UTC")
    for name in (*spec.target, *spec.observed, *spec.known):
        changed[name] = rows[name].mask(beyond if name in spec.known else future, change(rows[name]))
    return changed


def _perturb(values: pd.Series, log: bool) -> pd.Series:
    """Return values far from the given ones; positive if logarithms are taken, since all given ones are."""
    if not pd.api.types.is_numeric_dtype(values):
        levels = sorted(values.dropna().unique())
        rotated = {level: levels[number - 1] for number, level in enumerate(levels)}
        return values.map(rotated).fillna(levels[0] if levels else "other")
    size = values.abs().max()
    filled = values.fillna(size if size > 0 else 1.0)
    return filled * 7 if log else filled * 7 + 5 * (size if size > 0 else 1.0)
