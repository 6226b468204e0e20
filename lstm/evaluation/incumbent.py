"""Comparison of two forecasters on the same windows, each with its own schema, normalizer and lookback."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstm.data.origins import window_origins
from lstm.data.panel import build_panel
from lstm.data.rows import SERIES
from lstm.errors import DataError
from lstm.evaluation.comparison import Comparison, losses_by_origin, origin_overlap
from lstm.evaluation.scoring import ScoredWindows
from lstm.forecasting.forecaster import Forecaster


def compare_forecasters(
    candidate: Forecaster, incumbent: Forecaster, table: pd.DataFrame, scored: ScoredWindows, names: Sequence[str]
) -> Comparison:
    """Return losses and RMSE of candidate and incumbent on the windows of `scored` that both can forecast.

    Errors are compared in raw units, so the two may be normalised differently.

    Args:
        candidate: trained on the panel of `scored`.
        incumbent: of an earlier training.
        table: canonical; the rows that the panel was built from, or those of them that the windows need.
        scored: the windows.
        names: series of the panel, in its order.

    Raises:
        DataError: the incumbent has another target, frequency or horizon, or the table lacks a column, a series or
            the history that it needs.
    """
    _check_comparable(candidate, incumbent, table)
    # Series that are new since the incumbent's training are left out; the others can still be compared.
    known = [name for name in table[SERIES].unique() if incumbent.normalizer.knows(name)]
    panel = build_panel(table[table[SERIES].isin(known)], incumbent.spec, incumbent.categories)
    rows = pd.MultiIndex.from_arrays([np.asarray(panel.names)[panel.series], panel.times])
    scored_rows = pd.MultiIndex.from_arrays([np.asarray(names)[scored.series], scored.times])
    origins = rows.get_indexer(scored_rows)
    common = np.isin(origins, window_origins(panel.segment, incumbent.lookback, incumbent.horizon))
    if not common.any():
        raise DataError(f"no window has the {incumbent.lookback} rows of history that it needs.")
    windows = incumbent.windows(panel, origins[common])
    scale = incumbent.normalizer.target_scale(panel.names)[panel.series[origins[common]]][:, None]
    actual = scored.denormalize(scored.actual)[common]
    incumbent_error = scale.denormalize(incumbent.forecast_windows(windows)) - actual
    error = scored.denormalize(candidate.forecast_windows(scored.windows))[common] - actual
    unit, times = error_units(scored.naive_error[common]), scored.times[common]
    return Comparison(
        rmse=_rmse(error, actual),
        incumbent_rmse=_rmse(incumbent_error, actual),
        losses=losses_by_origin(_mask_unmeasured(error, actual) / unit, times),
        incumbent_losses=losses_by_origin(_mask_unmeasured(incumbent_error, actual) / unit, times),
        overlap=origin_overlap(times, scored.series[common], candidate.horizon),
    )


def _check_comparable(candidate: Forecaster, incumbent: Forecaster, table: pd.DataFrame) -> None:
    new, old = candidate.spec, incumbent.spec
    if (new.target, new.frequency, candidate.horizon) != (old.target, old.frequency, incumbent.horizon):
        raise DataError("it forecasts another target, frequency or horizon")
    missing = {*old.observed, *old.known, *old.static} - set(table.columns)
    if missing:
        raise DataError(f"it needs column {sorted(missing)[0]!r}")
    if not any(incumbent.normalizer.knows(name) for name in table[SERIES].unique()):
        raise DataError("it knows none of the series")


def error_units(naive_error: np.ndarray) -> np.ndarray:
    """Return the denominator of scaled errors, so that large series don't dominate small ones.

    Args:
        naive_error: (windows, 1, targets), see `naive_errors`; 0 or NaN where undefined.

    Returns:
        (windows, 1, targets) float64, above 0: the naive error, or the mean of the others where it is undefined.
    """
    usable = naive_error > 0
    sums, counts = np.where(usable, naive_error, 0).sum(axis=(0, 1)), usable.sum(axis=(0, 1))
    return np.where(usable, naive_error, np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0))


def _mask_unmeasured(error: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """Return the error: NaN where nothing was measured, else infinite where the forecast is not finite."""
    return np.where(np.isnan(actual), np.nan, np.where(np.isfinite(error), error, np.inf))


def _rmse(error: np.ndarray, actual: np.ndarray) -> float:
    """Return the RMSE over all measured values; NaN if a forecast of one is NaN, or if nothing was measured."""
    measured = ~np.isnan(actual)
    return float(np.sqrt(np.mean(np.square(error)[measured]))) if measured.any() else float("nan")
