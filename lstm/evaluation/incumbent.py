"""Two forecasters on the same windows, each through its own schema, normaliser and look-back."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lstm.data.origins import window_origins
from lstm.data.panel import build_panel
from lstm.data.rows import SERIES
from lstm.errors import DataError
from lstm.evaluation.scoring import ScoredWindows
from lstm.forecaster import Forecaster


def compare(
    candidate: Forecaster, incumbent: Forecaster, table: pd.DataFrame, scored: ScoredWindows, names: Sequence[str]
) -> tuple[float, float]:
    """RMSE in raw units of candidate and incumbent on the windows of `scored` that both can forecast.

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
    panel = build_panel(table[table[SERIES].isin(known)], incumbent.spec, incumbent.levels)
    rows = pd.MultiIndex.from_arrays([np.asarray(panel.names)[panel.series], panel.times])
    wanted = pd.MultiIndex.from_arrays([np.asarray(names)[scored.series], scored.times])
    origins = rows.get_indexer(wanted)
    both = np.isin(origins, window_origins(panel.segment, incumbent.lookback, incumbent.horizon))
    if not both.any():
        raise DataError(f"no window holds the {incumbent.lookback} rows of history that it needs.")
    windows = incumbent.windows(panel, origins[both])
    scale = incumbent.normalizer.target_scale(panel.names)[panel.series[origins[both]]][:, None]
    actual = scored.raw(scored.actual)[both]
    theirs = scale.raw(incumbent.forecast_windows(windows))
    ours = scored.raw(candidate.forecast_windows(scored.windows))[both]
    return _rmse(actual, ours), _rmse(actual, theirs)


def _check_comparable(candidate: Forecaster, incumbent: Forecaster, table: pd.DataFrame) -> None:
    new, old = candidate.spec, incumbent.spec
    if (new.target, new.frequency, candidate.horizon) != (old.target, old.frequency, incumbent.horizon):
        raise DataError("it forecasts another target, frequency or horizon")
    missing = {*old.observed, *old.known, *old.static} - set(table.columns)
    if missing:
        raise DataError(f"it needs column {sorted(missing)[0]!r}")
    if not any(incumbent.normalizer.knows(name) for name in table[SERIES].unique()):
        raise DataError("it knows none of the series")


def _rmse(actual: np.ndarray, forecast: np.ndarray) -> float:
    """Of all that was measured: a forecast that is NaN there makes it NaN, as does nothing measured."""
    measured = ~np.isnan(actual)
    return float(np.sqrt(np.mean(np.square(forecast - actual)[measured]))) if measured.any() else float("nan")
