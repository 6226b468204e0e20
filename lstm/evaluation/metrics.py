"""How far a forecast is from what came. NaN in the actual values is left out of every mean.

All functions take arrays of shape (windows, horizon, targets), float64, in the units of the target.
Formulas: Hyndman & Koehler 2006 (MASE, sMAPE), Koenker & Bassett 1978 (pinball).
"""

import numpy as np

from lstm.data.scaling import TargetScale

Scores = dict[str, float]
Bands = dict[int, tuple[np.ndarray, np.ndarray]]  # percent -> (lower, upper)


def point_scores(actual: np.ndarray, forecast: np.ndarray, naive_error: np.ndarray | float) -> Scores:
    """Point metrics over everything measured.

    Args:
        actual: what came; NaN: not measured.
        forecast: same shape.
        naive_error: in-sample mean absolute error of the seasonal naive, what MASE divides by; a
            number, or (windows, 1, targets).

    Returns:
        `rmse`, `mae` in units; `mape`, `smape` in percent, actual values of (nearly) zero left out of
        mape; `r2`; `mase`. A metric without a defined value is NaN.
    """
    measured = ~np.isnan(actual)
    if not measured.any():
        return dict.fromkeys(("rmse", "mae", "mape", "smape", "r2", "mase"), float("nan"))
    y, error = actual[measured], (forecast - actual)[measured]
    size = np.abs(y)
    scaled = (np.abs(forecast - actual) / np.where(np.asarray(naive_error) > 0, naive_error, np.nan))[measured]
    not_zero = size > 1e-6 * size.max() if size.max() > 0 else np.zeros_like(size, bool)
    spread = np.square(y - y.mean()).sum()
    both = size + np.abs(y + error)
    return {
        "rmse": float(np.sqrt(np.square(error).mean())),
        "mae": float(np.abs(error).mean()),
        "mape": 100 * _mean(np.abs(error[not_zero]) / size[not_zero]),
        "smape": 200 * _mean(np.divide(np.abs(error), both, out=np.zeros_like(both), where=both > 0)),
        "r2": float(1 - np.square(error).sum() / spread) if spread > 0 else float("nan"),
        "mase": _mean(scaled[~np.isnan(scaled)]),
    }


def interval_scores(actual: np.ndarray, forecast: np.ndarray, bands: Bands) -> Scores:
    """`coverage_<percent>` (share of actual values inside, 0 to 1) of each band, and `pinball`.

    `pinball` is the mean quantile loss, in units, over the median and both edges of every band.
    """
    measured = ~np.isnan(actual)
    y = actual[measured]
    scores, losses = {}, [_pinball(y, forecast[measured], 0.5)]
    for level, (lower, upper) in sorted(bands.items()):
        low, high = lower[measured], upper[measured]
        scores[f"coverage_{level}"] = _mean((low <= y) & (y <= high))
        tail = (1 - level / 100) / 2
        losses += [_pinball(y, low, tail), _pinball(y, high, 1 - tail)]
    return {**scores, "pinball": float(np.mean(losses))}


def skill(ours: float, reference: float) -> float:
    """1 − ours / reference: the share of the reference's error that is gone; NaN against a perfect one."""
    return 1 - ours / reference if reference > 0 else float("nan")


_BLOCK_ROWS = 1_000_000  # rows that are looked at in one go


def naive_errors(
    series: np.ndarray,
    segment: np.ndarray,
    targets: np.ndarray,
    season: int,
    count: int,
    scale: TargetScale | None = None,
) -> np.ndarray:
    """In-sample mean absolute error of the seasonal naive, for MASE.

    Args:
        series: (rows,) int, which series a row is of, below `count`.
        segment: (rows,) int, equal within an unbroken run.
        targets: (rows, targets), NaN where not measured.
        season: steps that the naive forecast looks back.
        count: number of series.
        scale: (count, targets), what `targets` are normalised by; None: they are in raw units.

    Returns:
        (count, targets), in raw units; NaN for a series without a pair of rows a season apart.
    """
    sums, pairs = np.zeros((count, targets.shape[1])), np.zeros((count, targets.shape[1]))
    for start in range(0, len(targets) - season, _BLOCK_ROWS):
        stop = min(start + _BLOCK_ROWS, len(targets) - season)
        now, before = slice(start + season, stop + season), slice(start, stop)
        apart = (segment[now] != segment[before]) | (series[now] != series[before])
        values = targets[start : stop + season].astype(np.float64)
        if scale is not None:
            values = scale[series[start : stop + season]].raw(values)
        difference = np.abs(values[season:] - values[:-season])
        difference[apart] = np.nan
        for target, column in enumerate(difference.T):
            there = ~np.isnan(column)
            sums[:, target] += np.bincount(series[now][there], column[there], minlength=count)
            pairs[:, target] += np.bincount(series[now][there], minlength=count)
    return np.divide(sums, pairs, out=np.full_like(sums, np.nan), where=pairs > 0)


def _pinball(actual: np.ndarray, quantile: np.ndarray, level: float) -> float:
    error = actual - quantile
    return _mean(np.maximum(level * error, (level - 1) * error))


def _mean(values: np.ndarray) -> float:
    return float(np.mean(values)) if values.size else float("nan")
