"""What a version's live inputs and errors are compared with: its training rows and the days of its backtest."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from lstm.data.origins import window_origins
from lstm.data.panel import Panel
from lstm.data.splits import Cuts
from lstm.diagnostics.spans import Span
from lstm.evaluation.incumbent import error_units
from lstm.evaluation.ridge import sample_evenly
from lstm.evaluation.scoring import ScoredWindows
from lstm.forecasting.forecaster import Forecaster
from lstm.metrics.metrics import naive_errors
from lstm.monitoring.drift import daily_rmse
from lstm.monitoring.live_scores import squared_errors

_MAX_ROWS = 20_000  # that distributions are computed from
_MAX_WINDOWS = 20_000  # of the test that are forecast again


@dataclass(frozen=True)
class DriftReference:
    """Training inputs and backtest errors of one version."""

    columns: tuple[str, ...]  # of the inputs: targets, then observed and known numbers
    inputs: Span  # of training, (rows, columns), normalised, NaN where not measured
    naive_error: np.ndarray  # (series, targets) of the panel, raw: the denominator of MASE
    daily_rmse: np.ndarray  # (days,), oldest first: of the backtest's errors in units of the naive error

    @classmethod
    def of(
        cls, forecaster: Forecaster, panel: Panel, cuts: Cuts, season: int, stride: int, day: np.timedelta64
    ) -> Self:
        """Forecast the version's test windows again.

        Args:
            forecaster: the version; it knows all series of the panel.
            panel: raw; it holds the version's training and test.
            cuts: of its training.
            season: steps of a season.
            stride: steps between two live forecasts of a series; test windows are thinned likewise.
            day: as in `lstm.monitoring.drift.daily_rmse`.
        """
        train = (panel.times >= cuts.start) & (panel.times < cuts.validation)
        series, segment, actual = panel.series[train], panel.segment[train], panel.actual[train]
        naive = naive_errors(series, segment, actual, season, len(panel.names))
        windows, forecast = _test_windows(forecaster, panel, cuts, naive, stride)
        times, squared = squared_errors(windows, forecast, error_units(windows.naive_error))
        _, days = daily_rmse(times, squared, cuts.end, day)
        columns, inputs = normalized_inputs(forecaster, panel, cuts.start, cuts.validation)
        return cls(columns, inputs, naive, days)


def normalized_inputs(
    forecaster: Forecaster, panel: Panel, since: np.datetime64, until: np.datetime64
) -> tuple[tuple[str, ...], Span]:
    """Return names and normalised values of the numeric inputs in [since, until): targets, observed and known columns.

    Calendar features, categories and static columns are left out. Targets are as measured. Of more than 20,000 rows an
    even sample is taken.
    """
    rows = np.flatnonzero((panel.times >= since) & (panel.times < until))
    rows = rows[sample_evenly(len(rows), _MAX_ROWS)]
    layout, normalizer = panel.layout, forecaster.normalizer
    series = normalizer.series_rows(panel.names)[panel.series[rows]]
    values = [normalizer.normalize_targets(panel)[rows].astype(np.float64)]
    columns = list(layout.columns[: layout.n_targets])
    for number, column in enumerate(layout.scaled):
        if number >= layout.n_targets and column not in layout.static:
            center, scale = normalizer.center[series, number], normalizer.scale[series, number]
            values.append(((panel.values[rows, column] - center) / scale)[:, None])
            columns.append(layout.columns[column])
    return tuple(columns), Span(np.hstack(values), panel.series[rows], panel.times[rows])


def _test_windows(
    forecaster: Forecaster, panel: Panel, cuts: Cuts, naive_error: np.ndarray, stride: int
) -> tuple[ScoredWindows, np.ndarray]:
    """Return the test windows in raw units, and the version's forecasts of them."""
    allowed = (panel.times >= cuts.test) & np.r_[True, panel.causal[:-1]]
    origins = window_origins(panel.segment, forecaster.lookback, forecaster.horizon, allowed=allowed)
    origins = origins[panel.times[origins + forecaster.horizon - 1] < cuts.end]
    origins = origins[:: max(stride, -(-len(origins) // _MAX_WINDOWS))]
    windows = forecaster.windows(panel, origins)
    series = panel.series[origins]
    spec = forecaster.spec
    scored = ScoredWindows(
        windows=windows,
        actual=windows.actual(torch.arange(len(windows))).numpy().astype(np.float64),
        scale=forecaster.normalizer.target_scale(panel.names)[series][:, None],
        naive_error=naive_error[series][:, None],
        series=series,
        times=panel.times[origins],
        frequency=spec.grid,
    )
    if not len(windows):
        return scored, np.zeros_like(scored.actual)
    return scored, scored.denormalize(forecaster.forecast_windows(windows))
