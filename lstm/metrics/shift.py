"""Distance between two distributions: the population stability index (PSI) and the Kolmogorov–Smirnov distance.

All samples are arrays (values,) without NaN.
"""

import numpy as np

KS_MARGIN = 0.05  # distance beyond that of any stretch of training; less is sampling noise
_BINS = 10
_FEW_VALUES = 10  # up to this many distinct reference values, each is a bin of its own
_SMALLEST_SHARE = 1e-4  # of an empty bin: log(0) would make every new value an infinite shift
_MAX_STRETCHES = 12


def distribution_shift(reference: np.ndarray, other: np.ndarray, numeric: bool = True) -> dict[str, float]:
    """Return the shift of `other` from `reference`; empty if either has no values.

    Args:
        reference, other: (values,), without NaN.
        numeric: False: the values are codes of categories.

    Returns:
        `psi`: see `population_stability`. `ks`: see `ks_distance`; not of categories.
    """
    if not len(reference) or not len(other):
        return {}
    edges = reference_edges(reference) if numeric else np.unique([*reference, *other])
    sizes = {"psi": population_stability(reference, other, edges)}
    return {**sizes, "ks": ks_distance(reference, other)} if numeric else sizes


def population_stability(
    reference: np.ndarray, other: np.ndarray, edges: np.ndarray | None = None, pseudo_count: float = 0.0
) -> float:
    """Return the population stability index: Σ (q − p) · ln(q / p) over bins, at least 0.

    p and q are the shares of `reference` and `other` in each bin. Under 0.1 is no shift, from 0.25 on a large one
    (Siddiqi 2006, Credit Risk Scorecards): a convention for samples of some hundred values or more.

    Args:
        reference, other: (values,), without NaN, at least one each.
        edges: upper ends of the bins, rising; by default `reference_edges`.
        pseudo_count: values added to each bin, so that none is empty. 0: an empty bin has a share of 1e-4.
    """
    edges = reference_edges(reference) if edges is None else edges
    p, q = (_shares(values, edges, pseudo_count) for values in (reference, other))
    return float(np.sum((q - p) * np.log(q / p)))


def _shares(values: np.ndarray, edges: np.ndarray, pseudo_count: float) -> np.ndarray:
    counts = np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) + pseudo_count
    shares: np.ndarray = counts / counts.sum()
    return shares if pseudo_count else np.maximum(shares, _SMALLEST_SHARE)


def reference_edges(reference: np.ndarray) -> np.ndarray:
    """Return the distinct reference values if there are at most ten, else the deciles."""
    values = np.unique(reference)
    return values if len(values) <= _FEW_VALUES else decile_edges(reference)


def decile_edges(reference: np.ndarray) -> np.ndarray:
    """Return the distinct deciles, (at most 9,), rising."""
    return np.unique(np.quantile(reference, np.arange(1, _BINS) / _BINS))


def ks_distance(reference: np.ndarray, other: np.ndarray) -> float:
    """Return the two-sample Kolmogorov–Smirnov statistic, 0 to 1.

    It is the largest difference of the two empirical distribution functions.
    """
    from scipy.stats import ks_2samp  # slow to import

    with np.errstate(all="ignore"):  # the unused p-value is undefined for single values
        return float(ks_2samp(reference, other, method="asymp").statistic)


def stretch_starts(times: np.ndarray, length: np.timedelta64) -> np.ndarray:
    """Return the starts of stretches of this length in a training span, at most 12, evenly spread, none overlapping.

    Args:
        times: (rows,) datetime64[us], in any order.
        length: of a stretch.

    Returns:
        (stretches,) datetime64[us]; empty if fewer than two fit.
    """
    if not len(times):
        return np.zeros(0, "M8[us]")
    begin, span = times.min(), np.ptp(times)
    count = int(span / length) if length > np.timedelta64(0) else 0
    if count < 2:
        return np.zeros(0, times.dtype)
    offsets = np.linspace(0, (span - length).astype(np.int64), min(count, _MAX_STRETCHES)).astype("m8[us]")
    starts: np.ndarray = begin + offsets
    return starts
