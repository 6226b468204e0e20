"""Origins of forecasts, and what is left of their inputs when everything after them is another."""

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

_MOST_ROWS = 200_000  # of a series and split that origins are looked for in


@dataclass(frozen=True)
class ForecastOrigin:
    """A moment at which a forecast starts, and the rows of the table that are read around it."""

    series: str
    split: str
    newest: np.datetime64  # of the last row that is seen
    moment: np.datetime64  # of the first step ahead
    last: np.datetime64  # of the last step ahead
    since: np.datetime64  # nothing older matters
    until: np.datetime64  # rows enough after the last step
    features: np.ndarray  # (look-back, features) float32: what training or evaluation was given

    def __str__(self) -> str:
        """Where it is."""
        return f"{self.split}, series {self.series!r}, origin {np.datetime_as_string(self.moment, unit='s')}"


def select_origins(
    forecaster: Forecaster, table: Table, panel: PanelStore, splits: Mapping[str, SplitArrays], names: Sequence[str]
) -> Iterator[ForecastOrigin]:
    """Of each series, in validation and test: the first one, one in between, and one just after a missing value."""
    for split in ("validation", "test"):
        for name in names:
            code = panel.names.index(name)
            arrays, low = splits[split], 0
            key = np.array([code, code + 1], arrays.series.dtype)
            low, high = (int(row) for row in np.searchsorted(arrays.series, key))
            rows = slice(low, min(high, low + _MOST_ROWS))
            lookback, horizon = forecaster.lookback, forecaster.horizon
            found = window_origins(arrays.segment[rows], lookback, horizon, 1, np.array(arrays.allowed[rows])) + low
            for row in _picked(found, arrays, table, forecaster.spec, name):
                yield _origin(forecaster, panel, arrays, split, code, row)


def _picked(found: np.ndarray, arrays: SplitArrays, table: Table, spec: DataSpec, name: str) -> list[int]:
    """Rows of the split's arrays, of those that a window may start to forecast at."""
    if not len(found):
        return []
    times = arrays.times[found - 1]
    raw = table.read_rows([name], times[0], times[-1] + np.timedelta64(1, "us"))
    whole = raw[raw[list(spec.values)].notna().all(axis=1)]
    gaps = found[~np.isin(times, whole[TIME].to_numpy("datetime64[us]"))]
    between = np.random.default_rng(len(found)).integers(len(found))
    return sorted({int(found[0]), int(found[between]), *(int(gap) for gap in gaps[:1])})


def _origin(
    forecaster: Forecaster, panel: PanelStore, arrays: SplitArrays, split: str, code: int, row: int
) -> ForecastOrigin:
    low, high = series_rows(panel, code)
    times, moment, horizon = panel.array("times")[low:high], arrays.times[row], forecaster.horizon
    place = int(np.searchsorted(times, moment))
    reach = _reach(forecaster)
    end = min(place + 2 * horizon + reach - forecaster.lookback, len(times) - 1)
    return ForecastOrigin(
        series=panel.names[code],
        split=split,
        newest=times[place - 1],
        moment=moment,
        last=times[place + horizon - 1],
        since=_since(forecaster, times, place),
        until=times[end] + np.timedelta64(1, "us"),
        features=np.array(arrays.features[row - forecaster.lookback : row]),
    )


def _reach(forecaster: Forecaster) -> int:
    """Rows before an origin that a forecast may depend on; of irregular rows, `max_gap` comes on top."""
    return (forecaster.lookback if forecaster.spec.frequency == "irregular" else forecaster.reach) + 1


def _since(forecaster: Forecaster, times: np.ndarray, place: int) -> np.datetime64:
    """The first moment of the series' grid that a forecast at row `place` may depend on."""
    since: np.datetime64 = times[max(place - _reach(forecaster), 0)]
    if forecaster.spec.frequency == "irregular":
        since = since - parse_duration(str(forecaster.spec.missing.max_gap)).to_timedelta64()
    return since


def check_training_end(
    forecaster: Forecaster, table: Table, panel: PanelStore, train: SplitArrays, name: str
) -> list[str]:
    """Where the newest rows of a series' training arrays are not made of the training span alone."""
    code = panel.names.index(name)
    key = np.array([code, code + 1], train.series.dtype)
    low, high = (int(row) for row in np.searchsorted(train.series, key))
    rows = slice(max(low, high - forecaster.lookback), high)
    times, features = np.array(train.times[rows]), np.array(train.features[rows])
    first, last = series_rows(panel, code)
    if low == high:
        return []
    grid = panel.array("times")[first:last]
    since = _since(forecaster, grid, int(np.searchsorted(grid, times[0])))
    span = table.read_rows([name], since, panel.cuts.validation).reset_index(drop=True)
    if span.empty:
        return []
    made = build_panel(span, forecaster.spec, forecaster.categories)
    there = np.isin(times, made.times)
    found = forecaster.normalizer.normalize_features(made)[np.searchsorted(made.times, times[there])]
    if (column := _first_other(features[there], found)) is not None:
        return [f"train, series {name!r}: input {_name(forecaster, column)} is not made of the training span alone"]
    if not np.isnan(features[~there, : made.layout.n_targets]).all():
        return [f"train, series {name!r}: the gap that its training span ends with is filled from beyond"]
    return []


def probe_origin(forecaster: Forecaster, table: Table, origin: ForecastOrigin) -> tuple[list[str], list[str]]:
    """What moved when the future was changed, and where the arrays are not what a forecast sees: empty, if all is well.

    The future is changed and removed, and both once more where a gap is made just before the origin, so that it is
    seen how the gap is filled.
    """
    rows = table.read_rows([origin.series], origin.since, origin.until).reset_index(drop=True)
    moved: list[str] = []
    other: list[str] = []
    for gap, history in (("", rows), (", after a gap", _with_gap(rows, forecaster.spec, origin))):
        futures = {"changed": _changed(history, forecaster.spec, origin, forecaster.normalizer.log)}
        if _ends_measured(history, forecaster.spec, origin):  # a gap is filled only where it ends: not before nothing
            futures["removed"] = _removed(history, forecaster.spec, origin)
        truth = _seen(forecaster, history, origin)
        seen = {what: _seen(forecaster, future, origin) for what, future in futures.items()}
        for what, found in seen.items():
            moved += [f"{origin}{gap}: {one} where the future is {what}" for one in _moves(forecaster, truth, found)]
        if not gap and (column := _first_other(origin.features, seen["changed"][0])) is not None:
            other.append(f"{origin}: input {_name(forecaster, column)} of the arrays is not what a forecast sees")
    return moved, other


def _seen(
    forecaster: Forecaster, rows: pd.DataFrame, origin: ForecastOrigin
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Inputs (look-back, features), what is known ahead (horizon, known), and the forecast (horizon, targets)."""
    panel = build_panel(rows, forecaster.spec, forecaster.categories)
    windows = _window(forecaster, panel, origin)
    past, known, _ = windows.inputs(torch.zeros(1, dtype=torch.int64))
    return past[0].numpy(), known[0].numpy(), forecaster.forecast_windows(windows)[0]


def _window(forecaster: Forecaster, panel: Panel, origin: ForecastOrigin) -> Windows:
    return forecaster.windows(panel, np.searchsorted(panel.times, np.array([origin.moment])))


def _moves(forecaster: Forecaster, truth: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> Iterator[str]:
    if (column := _first_other(truth[0], found[0])) is not None:
        yield f"input {_name(forecaster, column)} before it moves"
    if (column := _first_other(truth[1], found[1])) is not None:
        yield f"known input {column + 1} within the horizon moves"
    if _first_other(truth[2], found[2]) is not None:
        yield "the forecast moves"


def _first_other(one: np.ndarray, other: np.ndarray) -> int | None:
    """The first column that is not equal to the last bit; NaN is equal to NaN."""
    if one.shape != other.shape:
        return 0
    apart = ((one != other) & ~(np.isnan(one) & np.isnan(other))).any(axis=0)
    return int(apart.argmax()) if apart.any() else None


def _name(forecaster: Forecaster, column: int) -> str:
    return repr(Layout.of(forecaster.spec, forecaster.categories).columns[column])


def _with_gap(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin) -> pd.DataFrame:
    """Without the newest observations. Targets stay where they are interpolated: no window may end in such a gap."""
    columns = [*spec.observed, *(spec.target if spec.missing.method in ("forward", "seasonal") else ())]
    newest = rows.index[rows[TIME] < pd.Timestamp(origin.moment, tz="UTC")][-1:]
    made = rows.copy()
    made.loc[newest, columns] = np.nan
    return made


def _ends_measured(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin) -> bool:
    """Whether the newest row before the origin has every target, and the table has that row."""
    before = rows[rows[TIME] < pd.Timestamp(origin.moment, tz="UTC")]
    newest = before[TIME].iloc[-1] if len(before) else None
    return newest == pd.Timestamp(origin.newest, tz="UTC") and bool(before[list(spec.target)].iloc[-1].notna().all())


def _changed(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin, log: bool) -> pd.DataFrame:
    """Every value from the origin on is another, and missing ones are there; known columns after the horizon."""
    return _with_future(rows, spec, origin, lambda values: _moved(values, log))


def _removed(rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin) -> pd.DataFrame:
    """Nothing is there from the origin on."""
    return _with_future(rows, spec, origin, lambda values: values.where(np.zeros(len(values), bool)))


def _with_future(
    rows: pd.DataFrame, spec: DataSpec, origin: ForecastOrigin, change: Callable[[pd.Series], pd.Series]
) -> pd.DataFrame:
    times, made = rows[TIME], rows.copy()
    future = times >= pd.Timestamp(origin.moment, tz="UTC")
    beyond = times > pd.Timestamp(origin.last, tz="UTC")
    for name in (*spec.target, *spec.observed, *spec.known):
        touched = beyond if name in spec.known else future
        made[name] = rows[name].mask(touched, change(rows[name]))
    return made


def _moved(values: pd.Series, log: bool) -> pd.Series:
    """Far from what they are; above 0 where a logarithm is taken, since all are."""
    if not pd.api.types.is_numeric_dtype(values):
        levels = sorted(values.dropna().unique())
        turned = {level: levels[number - 1] for number, level in enumerate(levels)}
        return values.map(turned).fillna(levels[0] if levels else "other")
    size = values.abs().max()
    filled = values.fillna(size if size > 0 else 1.0)
    return filled * 7 if log else filled * 7 + 5 * (size if size > 0 else 1.0)
