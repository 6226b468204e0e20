"""Measured, filled and missing steps of a panel, and its outliers. Memory-mapped arrays are read in blocks."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lstm.data.panel_store import PanelStore

FENCE = 3.0  # × interquartile range outside the quartiles: "far out" (Tukey 1977, Exploratory Data Analysis, 2E)
_BLOCK_ROWS = 1_000_000
_SAMPLE_ROWS = 100_000  # of a longer series, from which quartiles are computed


@dataclass(frozen=True)
class Coverage:
    """Counts of steps of the grid, (series,) int64 each, in the order of the panel's names."""

    steps: np.ndarray  # from the series' first row to its last
    missing: np.ndarray  # steps at which a target was not measured
    filled: np.ndarray  # missing steps that the gap rule filled
    gaps: np.ndarray  # runs of missing steps
    longest_gap: np.ndarray  # in steps
    gap_lengths: dict[int, int]  # number of gaps by their length in steps
    run_lengths: dict[int, int]  # number of unbroken runs after filling, by length

    @property
    def median_run(self) -> float:
        """Median length of the unbroken runs, in steps; 0 without runs."""
        if not self.run_lengths:
            return 0.0
        weights = list(self.run_lengths.values())
        return float(np.quantile(list(self.run_lengths), 0.5, weights=weights, method="inverted_cdf"))


def measure_coverage(panel: PanelStore, block: int = _BLOCK_ROWS) -> Coverage:
    """Count steps, gaps and unbroken runs, `block` rows at a time."""
    count = len(panel.names)
    steps, missing, filled, gaps, longest = (np.zeros(count, np.int64) for _ in range(5))
    gap_lengths, run_lengths, gap_counter, run_counter = Counter[int](), Counter[int](), _RunCounter(), _RunCounter()
    for series, segment, measured, complete in _blocks(panel, block):
        steps += np.bincount(series, minlength=count)
        missing += np.bincount(series[~measured], minlength=count)
        filled += np.bincount(series[~measured & complete], minlength=count)
        owners, lengths = gap_counter.ended(~measured, series)
        gaps += np.bincount(owners, minlength=count)
        np.maximum.at(longest, owners, lengths)
        _count(gap_lengths, lengths)
        _count(run_lengths, run_counter.ended(complete, segment)[1])
    return Coverage(steps, missing, filled, gaps, longest, dict(gap_lengths), dict(run_lengths))


def count_outliers(panel: PanelStore) -> np.ndarray:
    """Count measured values more than 3 × the interquartile range outside the quartiles: (series,) float64.

    Counts are summed over the targets. Seasons are ignored, so a spike within the usual range is no outlier. With
    `normalize.log` logarithms are compared. NaN if the interquartile range of every target is 0.
    """
    targets, codes = panel.array("targets"), range(len(panel.names))
    bounds = np.searchsorted(panel.array("series"), np.arange(len(panel.names) + 1, dtype=np.int32))
    counts = np.array(
        [
            [_count_far_out(targets[bounds[code] : bounds[code + 1], target]) for code in codes]
            for target in range(targets.shape[1])
        ]
    )
    return np.where(np.isnan(counts).all(axis=0), np.nan, np.nansum(counts, axis=0))


def _count_far_out(values: np.ndarray) -> float:
    """Count outliers in blocks, since the values may not fit into memory."""
    sample = values
    if len(values) > _SAMPLE_ROWS:  # random, since even steps might only hit some hours of the day
        sample = values[np.sort(np.random.default_rng(0).integers(len(values), size=_SAMPLE_ROWS))]
    sample = sample[~np.isnan(sample)].astype(np.float64)
    low, high = np.quantile(sample, [0.25, 0.75]) if len(sample) else (0.0, 0.0)
    if low == high:
        return np.nan
    margin = FENCE * (high - low)
    blocks = (values[start : start + _BLOCK_ROWS] for start in range(0, len(values), _BLOCK_ROWS))
    return float(sum(int(((block < low - margin) | (block > high + margin)).sum()) for block in blocks))


def series_rows(panel: PanelStore, code: int) -> tuple[int, int]:
    """Return the first row of a series in the panel's arrays, and the one after its last."""
    # With keys of another type, numpy would convert the whole array.
    low, high = np.searchsorted(panel.array("series"), np.array([code, code + 1], np.int32))
    return int(low), int(high)


def _blocks(panel: PanelStore, block: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Yield series, segment, whether every target was measured, and whether every one has a value.

    The last block is empty.
    """
    arrays = (panel.array(name) for name in ("series", "segment", "targets", "features"))
    series, segment, targets, features = arrays
    width = targets.shape[1]
    for start in range(0, len(series) + block, block):
        rows = slice(start, start + block)
        measured, complete = (~np.isnan(values[rows, :width]).any(axis=1) for values in (targets, features))
        yield series[rows], segment[rows], measured, complete


def _count(counter: Counter[int], lengths: np.ndarray) -> None:
    values, times = np.unique(lengths, return_counts=True)
    counter.update(dict(zip(values.tolist(), times.tolist(), strict=True)))


class _RunCounter:
    """Finds runs of flagged rows with the same key; a run may continue in the next block."""

    def __init__(self) -> None:
        self._key, self._length = -1, 0  # of the run at the end of the last block

    def ended(self, flagged: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return keys and lengths of the runs that have ended; an empty block ends the last one."""
        rows = np.flatnonzero(flagged)
        begins = np.flatnonzero((np.diff(rows, prepend=-2) > 1) | (np.diff(keys[rows], prepend=-2) != 0))
        owners, lengths = keys[rows[begins]], np.diff(begins, append=len(rows))
        if self._length:
            if len(rows) and rows[0] == 0 and owners[0] == self._key:
                lengths[0] += self._length
            else:
                owners, lengths = np.r_[self._key, owners], np.r_[self._length, lengths]
            self._length = 0
        if len(rows) and rows[-1] == len(flagged) - 1:
            self._key, self._length = int(owners[-1]), int(lengths[-1])
            owners, lengths = owners[:-1], lengths[:-1]
        return owners, lengths
