"""Tests of a series for trend, season, stationarity and linearity, on an excerpt of some thousand rows."""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from lstm.data.panel_store import PanelStore
from lstm.profiling.coverage import series_rows

EXCERPT_ROWS = 3000
_MAX_ROWS = 1_000_000  # the newest of the training span, in which an excerpt is looked for
_MIN_ROWS = 20  # for any test
_SEASON_WINDOW = 11  # of STL, as in FPP3 (feasts)
_ROUNDING = 1e-10  # share of the variance: smaller residuals are float32 rounding

SERIES_MEASURES = ("rows", "trend_strength", "season_strength", "kpss_p", "adf_p", "line_r2", "line_p")


def training_excerpt(panel: PanelStore, code: int, most: int = EXCERPT_ROWS) -> np.ndarray:
    """Return the first target in an unbroken run of the training span: (rows,) float64, normalised, gaps filled.

    It is the newest `most` rows of the newest run that has so many, else the longest run.
    """
    low, high = series_rows(panel, code)
    times = panel.array("times")[low:high]
    start, end = np.searchsorted(times, np.array([panel.cuts.start, panel.cuts.validation]))
    rows = slice(low + max(start, end - _MAX_ROWS), low + end)
    values, segment = panel.array("features")[rows, 0].astype(np.float64), panel.array("segment")[rows]
    if not len(values):
        return values
    begins = np.flatnonzero(np.diff(segment, prepend=-1))
    lengths = np.diff(begins, append=len(values)) * ~np.isnan(values[begins])
    best = len(begins) - 1 - int(np.minimum(lengths, most)[::-1].argmax())
    stop = begins[best] + lengths[best]
    return values[max(begins[best], stop - most) : stop]


def run_series_tests(values: np.ndarray, season: int) -> dict[str, float]:
    """Return measures of one unbroken series; NaN with too few rows, or for a constant.

    Args:
        values: (rows,) float64, finite.
        season: steps of a season; 1: no season.

    Returns:
        `rows`: their number.
        `trend_strength`, `season_strength`: 0 to 1, see `stl_strengths`.
        `kpss_p`: probability under stationarity around a level, of Kwiatkowski et al. (1992); bounded to 0.01 … 0.1.
        `adf_p`: probability under a unit root, of the augmented Dickey–Fuller test with Schwert's lag.
        `line_r2`: share of the variance that a straight line over time explains, 0 to 1.
        `line_p`: probability of the line's residuals if they are white noise, of the Ljung–Box test; 1 if they are
        only rounding.
    """
    measures = {**dict.fromkeys(SERIES_MEASURES, math.nan), "rows": float(len(values))}
    if len(values) < _MIN_ROWS or np.ptp(values) == 0:
        return measures
    from statsmodels.tsa.stattools import adfuller, kpss  # before `_quiet`: the import sets warning filters

    with _quiet():
        # Schwert's number of lags: searching the best one takes twenty times as long.
        measures["adf_p"] = float(adfuller(values, autolag=None)[1])
        measures["kpss_p"] = float(kpss(values, nlags="auto")[1])
        measures["trend_strength"], measures["season_strength"] = stl_strengths(values, season)
        measures["line_r2"], measures["line_p"] = _line(values, season)
    return measures


def stl_strengths(values: np.ndarray, season: int) -> tuple[float, float]:
    """Return the strengths of trend and season by STL (Hyndman and Athanasopoulos, FPP3, section 4.3), 0 to 1 each.

    `max(0, 1 − Var(R) / Var(T + R))` and `max(0, 1 − Var(R) / Var(S + R))`, with trend T, season S, remainder R. NaN
    if `season` is 1, or longer than half of the series.
    """
    if not 2 <= season <= len(values) // 2:
        return math.nan, math.nan
    from statsmodels.tsa.seasonal import STL

    # Local fits at every tenth row, the rest interpolated, as in R's stl: fitting every row takes seconds.
    lengths = STL(values, period=season, seasonal=_SEASON_WINDOW).config
    jumps = {f"{name}_jump": math.ceil(lengths[name] / 10) for name in ("seasonal", "trend", "low_pass")}
    parts = STL(values, period=season, seasonal=_SEASON_WINDOW, **jumps).fit()
    return _strength(parts.resid, parts.trend), _strength(parts.resid, parts.seasonal)


def _strength(remainder: np.ndarray, part: np.ndarray) -> float:
    total = np.var(part + remainder)
    return float(max(0.0, 1 - np.var(remainder) / total)) if total else 0.0


def _line(values: np.ndarray, season: int) -> tuple[float, float]:
    """Return R² of a line and the Ljung–Box probability of its residuals.

    Lags as in FPP3 (5.4): 10, or two seasons, and at most a fifth of the rows.
    """
    from scipy.stats import linregress
    from statsmodels.stats.diagnostic import acorr_ljungbox

    steps = np.arange(len(values), dtype=np.float64)
    line = linregress(steps, values)
    r2 = float(line.rvalue**2)
    if 1 - r2 < _ROUNDING:
        return r2, 1.0
    residuals = values - (line.intercept + line.slope * steps)
    lags = min(2 * season if season > 1 else 10, len(values) // 5)
    return r2, float(acorr_ljungbox(residuals, lags=[lags])["lb_pvalue"].iloc[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress warnings of statsmodels: probabilities outside its tables, and deprecations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
