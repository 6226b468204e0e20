"""Block bootstrap: confidence intervals of metrics, from resamples of whole blocks of time.

Neighbouring windows have correlated errors, so blocks of consecutive origin times are drawn with replacement instead of
single windows: the circular block bootstrap (Politis & Romano 1992, "A circular block-resampling procedure for
stationary data", after the moving blocks of Künsch 1989). The newest time is followed by the oldest, so every time is
drawn equally often. All series and steps of a time stay together. Each resample's metric is computed from its sums, as
the metric itself is.

In simulations with optimal forecasts of an AR(1), 1 to 24 steps ahead, 90 to 96 % of the 95 % intervals contained the
true RMSE: the more persistent the errors, the fewer.
"""

import numpy as np
from scipy.sparse import csr_array
from scipy.special import ndtr, stdtrit

RESAMPLES = 1000
MIN_BLOCKS = 5  # fewer blocks say nothing about the spread
_LEVEL = 0.95


def block_length(times: np.ndarray, series: np.ndarray, horizon: int) -> int:
    """Return the number of sorted unique origin times in a block; 0 if the times are too few for `MIN_BLOCKS`.

    A block is three horizons long, as windows closer than the horizon share targets and errors persist beyond it. Over
    short spans it is a sixth of the span, but at least the horizon; and at least n^(1/3) of n times.

    Args:
        times: (windows,) datetime64 of the first step ahead.
        series: (windows,) int; windows of a series are contiguous, in order of time.
        horizon: steps ahead.
    """
    unique = np.unique(times)
    within_series = np.diff(times)[np.diff(series) == 0]
    if len(unique) < 2 or not len(within_series):
        return 0
    # If the times of the series interleave, several unique times lie between two windows of one series.
    times_per_step = max(1.0, float(np.median(within_series) / np.median(np.diff(unique))))
    shortest = int(np.ceil(horizon * times_per_step))
    length = max(shortest, min(3 * shortest, len(unique) // 6), int(np.ceil(len(unique) ** (1 / 3))))
    return length if len(unique) >= MIN_BLOCKS * length else 0


def resample_sums(values: np.ndarray, length: int, seed: int, count: int = RESAMPLES) -> np.ndarray:
    """Return the sums of `values` over resamples of whole blocks.

    Args:
        values: (times, columns) float64, in order of time.
        length: times per block.
        seed: equal seeds draw equal resamples.
        count: number of resamples.

    Returns:
        (count, columns) float64.
    """
    times = len(values)
    circle = np.concatenate([np.zeros((1, values.shape[1])), values, values[: length - 1]]).cumsum(axis=0)
    block_sums = circle[length:] - circle[:-length]  # (times, columns): of the block that starts at each time
    blocks = round(times / length)
    starts = np.random.default_rng(seed).integers(times, size=count * blocks)
    draws = csr_array((np.ones(len(starts)), starts, np.arange(count + 1) * blocks), shape=(count, times))
    return draws @ block_sums


def percentile_interval(values: np.ndarray, blocks: float) -> tuple[float, float]:
    """Return the expanded percentile interval of 95 % (Hesterberg 2015).

    See "What Teachers Should Know About the Bootstrap". With few blocks the spread of the resamples is too small, so
    the percentiles lie as far out as Student's t with `blocks` − 1 degrees of freedom asks for.

    Args:
        values: (resamples,) of a metric.
        blocks: number of blocks that the data make.

    Returns:
        Low and high end; NaN if any resample has no value.
    """
    quantile = np.sqrt(blocks / (blocks - 1)) * stdtrit(blocks - 1, (1 - _LEVEL) / 2)
    low, high = np.quantile(values, [ndtr(quantile), ndtr(-quantile)])
    return float(low), float(high)
