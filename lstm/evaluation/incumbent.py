"""Two forecasters on the same windows, each through its own schema, normaliser and look-back."""

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
    """Losses and RMSE of candidate and incumbent on the windows of `scored` that both can forecast.

    They may be normalised differently, by the logarithm or not.

    Args:
        candidate: made from `scored`'s panel.
        incumbent: of any earlier training.
        table: canonical, what the panel was made of, or the part of it that the windows see.
        scored: the windows.
        names: the panel's series, in order.

    Raises:
        DataError: the incumbent forecasts something else, or lacks a column, a series or history here.
    """
    _check_comparable(candidate, incumbent, table)
    # A series that is new since the incumbent's training is left out: the others can still be compared.
    known = [name for name in table[SERIES].unique() if incumbent.normalizer.knows(name)]
    panel = build_panel(table[table[SERIES].isin(known)], incumbent.spec, incumbent.categories)
    rows = pd.MultiIndex.from_arrays([np.asarray(panel.names)[panel.series], panel.times])
    wanted = pd.MultiIndex.from_arrays([np.asarray(names)[scored.series], scored.times])
    origins = rows.get_indexer(wanted)
    both = np.isin(origins, window_origins(panel.segment, incumbent.lookback, incumbent.horizon))
    if not both.any():
        raise DataError(f"no window holds the {incumbent.lookback} rows of history that it needs.")
    windows = incumbent.windows(panel, origins[both])
    scale = incumbent.normalizer.target_scale(panel.names)[panel.series[origins[both]]][:, None]
    actual = scored.denormalize(scored.actual)[both]
    theirs = scale.denormalize(incumbent.forecast_windows(windows)) - actual
    ours = scored.denormalize(candidate.forecast_windows(scored.windows))[both] - actual
    unit, times = error_units(scored.naive_error[both]), scored.times[both]
    return Comparison(
        rmse=_rmse(ours, actual),
        incumbent_rmse=_rmse(theirs, actual),
        losses=losses_by_origin(_masked(ours, actual) / unit, times),
        incumbent_losses=losses_by_origin(_masked(theirs, actual) / unit, times),
        overlap=origin_overlap(times, scored.series[both], candidate.horizon),
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
    """What errors are divided by, so that large series don't drown small ones: (windows, 1, targets), above 0.

    A series without a naive error of its own takes the mean of the others.
    """
    usable = naive_error > 0
    sums, counts = np.where(usable, naive_error, 0).sum(axis=(0, 1)), usable.sum(axis=(0, 1))
    return np.where(usable, naive_error, np.divide(sums, counts, out=np.ones_like(sums), where=counts > 0))


def _masked(error: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """The error, NaN where nothing was measured and infinite where something was, but no number was forecast."""
    return np.where(np.isnan(actual), np.nan, np.where(np.isfinite(error), error, np.inf))


def _rmse(error: np.ndarray, actual: np.ndarray) -> float:
    """Of all that was measured: a forecast that is NaN there makes it NaN, as does nothing measured."""
    measured = ~np.isnan(actual)
    return float(np.sqrt(np.mean(np.square(error)[measured]))) if measured.any() else float("nan")
