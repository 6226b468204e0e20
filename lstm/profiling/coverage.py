"""What of a panel was measured, filled or left open: one pass over its memory-mapped arrays, block by block."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lstm.data.panel_store import PanelStore

FENCE = 3.0  # × interquartile range outside the quartiles: "far out" (Tukey 1977, Exploratory Data Analysis, 2E)
_ROWS = 1_000_000  # looked at in one go
_SAMPLE_ROWS = 100_000  # of a longer series, quartiles come from a sample of so many rows


@dataclass(frozen=True)
class Coverage:
    """Steps of each series' grid, (series,) int64 each, in the order of the panel's names."""

    steps: np.ndarray  # from the series' first row to its last
    missing: np.ndarray  # steps at which a target was not measured
    filled: np.ndarray  # missing steps that the gap rule filled
    gaps: np.ndarray  # runs of missing steps
    longest_gap: np.ndarray  # in steps
    gap_lengths: dict[int, int]  # steps of a gap: how many gaps are so long
    run_lengths: dict[int, int]  # steps of an unbroken run after filling: how many runs are so long

    @property
    def median_run(self) -> float:
        """Steps: half of the unbroken runs are at most so long; 0 where there is none."""
        if not self.run_lengths:
            return 0.0
        weights = list(self.run_lengths.values())
        return float(np.quantile(list(self.run_lengths), 0.5, weights=weights, method="inverted_cdf"))


def coverage(panel: PanelStore, block: int = _ROWS) -> Coverage:
    """Count steps, gaps and unbroken runs, `block` rows at a time."""
    count = len(panel.names)
    steps, missing, filled, gaps, longest = (np.zeros(count, np.int64) for _ in range(5))
    of_gaps, of_runs, open_gap, open_run = Counter[int](), Counter[int](), _Runs(), _Runs()
    for series, segment, measured, whole in _blocks(panel, block):
        steps += np.bincount(series, minlength=count)
        missing += np.bincount(series[~measured], minlength=count)
        filled += np.bincount(series[~measured & whole], minlength=count)
        owners, lengths = open_gap.ended(~measured, series)
        gaps += np.bincount(owners, minlength=count)
        np.maximum.at(longest, owners, lengths)
        _count(of_gaps, lengths)
        _count(of_runs, open_run.ended(whole, segment)[1])
    return Coverage(steps, missing, filled, gaps, longest, dict(of_gaps), dict(of_runs))


def outliers(panel: PanelStore) -> np.ndarray:
    """Measured values of each series more than 3 × the interquartile range outside the quartiles: (series,) float64.

    Summed over the targets, whatever the season: it finds values out of all range, not a spike within. Where
    `normalize.log` is set it looks at logarithms. NaN where the middle half of the values of every target is one value.
    """
    targets, names = panel.array("targets"), range(len(panel.names))
    bounds = np.searchsorted(panel.array("series"), np.arange(len(panel.names) + 1, dtype=np.int32))
    found = [
        [_far_out(targets[bounds[code] : bounds[code + 1], one]) for code in names] for one in range(targets.shape[1])
    ]
    counts = np.array(found, np.float64)
    return np.where(np.isnan(counts).all(axis=0), np.nan, np.nansum(counts, axis=0))


def _far_out(values: np.ndarray) -> float:
    """How many are far out; `values` may be larger than should be in memory."""
    sample = values
    if len(values) > _SAMPLE_ROWS:  # drawn, since even steps might see but some hours of the day
        sample = values[np.sort(np.random.default_rng(0).integers(len(values), size=_SAMPLE_ROWS))]
    sample = sample[~np.isnan(sample)].astype(np.float64)
    low, high = np.quantile(sample, [0.25, 0.75]) if len(sample) else (0.0, 0.0)
    if low == high:
        return np.nan
    margin = FENCE * (high - low)
    blocks = (values[start : start + _ROWS] for start in range(0, len(values), _ROWS))
    return float(sum(int(((block < low - margin) | (block > high + margin)).sum()) for block in blocks))


def series_rows(panel: PanelStore, code: int) -> tuple[int, int]:
    """The first row of a series in the panel's arrays, and the first one after it."""
    # Keys of the array's own type: numpy would copy all of it to another one.
    low, high = np.searchsorted(panel.array("series"), np.array([code, code + 1], np.int32))
    return int(low), int(high)


def _blocks(panel: PanelStore, block: int) -> Iterator[tuple[np.ndarray, ...]]:
    """Series, segment, whether each target was measured, and whether each has a value; the last block is empty."""
    arrays = (panel.array(name) for name in ("series", "segment", "targets", "features"))
    series, segment, targets, features = arrays
    width = targets.shape[1]
    for start in range(0, len(series) + block, block):
        rows = slice(start, start + block)
        measured, whole = (~np.isnan(values[rows, :width]).any(axis=1) for values in (targets, features))
        yield series[rows], segment[rows], measured, whole


def _count(counter: Counter[int], lengths: np.ndarray) -> None:
    values, times = np.unique(lengths, return_counts=True)
    counter.update(dict(zip(values.tolist(), times.tolist(), strict=True)))


class _Runs:
    """Runs of rows that are flagged and share a key, also where one goes on in the next block."""

    def __init__(self) -> None:
        self._key, self._length = -1, 0  # of the run that the block before ended with

    def ended(self, flagged: np.ndarray, keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Keys and lengths of the runs that are known to have ended; an empty block ends the last one."""
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
