"""What kind of series it is: trend, season, stationarity, or a plain line. On some thousand rows, never on all."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from lstm.data.panel_store import PanelStore
from lstm.profiling.coverage import series_rows

EXCERPT_ROWS = 3000
_SEEN_ROWS = 1_000_000  # the newest rows of the training span that an excerpt is looked for in
_FEWEST_ROWS = 20  # under so many, no test says anything
_SEASON_WINDOW = 11  # of STL, as FPP3 (feasts) sets it
_ROUNDING = 1e-10  # a remainder with less of the variance than that is the rounding of float32

DIAGNOSES = ("rows", "trend_strength", "season_strength", "kpss_p", "adf_p", "line_r2", "line_p")


def training_excerpt(panel: PanelStore, code: int, most: int = EXCERPT_ROWS) -> np.ndarray:
    """The first target in an unbroken stretch of the training span: (rows,) float64, normalised, gaps filled.

    The newest run that has `most` rows gives its newest ones; where there is none, the longest run is taken.
    """
    low, high = series_rows(panel, code)
    times = panel.array("times")[low:high]
    start, end = np.searchsorted(times, np.array([panel.cuts.start, panel.cuts.validation]))
    rows = slice(low + max(start, end - _SEEN_ROWS), low + end)
    values, segment = panel.array("features")[rows, 0].astype(np.float64), panel.array("segment")[rows]
    if not len(values):
        return values
    begins = np.flatnonzero(np.diff(segment, prepend=-1))
    lengths = np.diff(begins, append=len(values)) * ~np.isnan(values[begins])
    best = len(begins) - 1 - int(np.minimum(lengths, most)[::-1].argmax())
    stop = begins[best] + lengths[best]
    return values[max(begins[best], stop - most) : stop]


def diagnose(values: np.ndarray, season: int) -> dict[str, float]:
    """Measures of one unbroken series, NaN where they can't be had: too few rows, or a constant.

    Args:
        values: (rows,) float64, finite.
        season: steps of a season; 1: there is none.

    Returns:
        `rows`: how many it was.
        `trend_strength`, `season_strength`: 0 to 1, see `strengths`.
        `kpss_p`: probability under stationarity around a level, of Kwiatkowski et al. (1992); bounded to 0.01 … 0.1.
        `adf_p`: probability under a unit root, of the augmented Dickey–Fuller test with Schwert's lag.
        `line_r2`: share of the variance that a straight line over time explains, 0 to 1.
        `line_p`: probability that what the line leaves is white noise, of the Ljung–Box test; 1 where it leaves
        nothing but rounding.
    """
    found = {**dict.fromkeys(DIAGNOSES, math.nan), "rows": float(len(values))}
    if len(values) < _FEWEST_ROWS or np.ptp(values) == 0:
        return found
    from statsmodels.tsa.stattools import adfuller, kpss  # beforehand: at import statsmodels sets filters of its own

    with _quiet():
        # Schwert's number of lags as it is: the search for the best one takes twenty times as long.
        found["adf_p"] = float(adfuller(values, autolag=None)[1])
        found["kpss_p"] = float(kpss(values, nlags="auto")[1])
        found["trend_strength"], found["season_strength"] = strengths(values, season)
        found["line_r2"], found["line_p"] = _line(values, season)
    return found


def strengths(values: np.ndarray, season: int) -> tuple[float, float]:
    """Strength of trend and season by STL (Hyndman and Athanasopoulos, FPP3, section 4.3), 0 to 1 each.

    `max(0, 1 − Var(R) / Var(T + R))` and `max(0, 1 − Var(R) / Var(S + R))`, with trend T, season S, remainder R. NaN
    where `season` is 1, or longer than half of the series.
    """
    if not 2 <= season <= len(values) // 2:
        return math.nan, math.nan
    from statsmodels.tsa.seasonal import STL

    # Local fits at every tenth row, the rest interpolated: as R's stl does, where every row would take seconds.
    lengths = STL(values, period=season, seasonal=_SEASON_WINDOW).config
    jumps = {f"{name}_jump": math.ceil(lengths[name] / 10) for name in ("seasonal", "trend", "low_pass")}
    parts = STL(values, period=season, seasonal=_SEASON_WINDOW, **jumps).fit()
    return _strength(parts.resid, parts.trend), _strength(parts.resid, parts.seasonal)


def _strength(remainder: np.ndarray, part: np.ndarray) -> float:
    whole = np.var(part + remainder)
    return float(max(0.0, 1 - np.var(remainder) / whole)) if whole else 0.0


def _line(values: np.ndarray, season: int) -> tuple[float, float]:
    """R² of the line, and the Ljung–Box probability at FPP3's lags (5.4): 10, or two seasons; at most a fifth."""
    from scipy.stats import linregress
    from statsmodels.stats.diagnostic import acorr_ljungbox

    steps = np.arange(len(values), dtype=np.float64)
    line = linregress(steps, values)
    r2 = float(line.rvalue**2)
    if 1 - r2 < _ROUNDING:
        return r2, 1.0
    remainder = values - (line.intercept + line.slope * steps)
    lags = min(2 * season if season > 1 else 10, len(values) // 5)
    return r2, float(acorr_ljungbox(remainder, lags=[lags])["lb_pvalue"].iloc[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warning that a probability is at the end of its table, and those of changes to come."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
