"""Samples of what a panel holds in training, validation and test, for checks that must not read all of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.config.data import DataSpec
from lstm.data.arrays import SplitArrays
from lstm.data.panel_store import PanelStore
from lstm.evaluation.ridge import sample_evenly

_MOST_ROWS = 100_000  # of a split
_MOST_VALUES = 5_000_000  # of a split: of very many columns fewer rows are looked at


@dataclass(frozen=True)
class Span:
    """Rows of one split, in order of series and time, without those that are look-back only."""

    values: np.ndarray  # (rows, columns) float32, normalised; of targets NaN where not measured
    series: np.ndarray  # (rows,) int
    times: np.ndarray  # (rows,) datetime64[us], UTC
    complete: bool = True  # whether these are all rows of the split


@dataclass(frozen=True)
class Spans:
    """What is known up to now, of each split: targets, observed columns, and what follows from these."""

    columns: tuple[str, ...]  # of the values
    n_measured: int  # the first so many are targets and observed numbers, which are normalised
    n_targets: int  # the first so many are targets
    series_names: tuple[str, ...]  # of the series
    train: Span
    validation: Span
    test: Span

    @classmethod
    def of(cls, panel: PanelStore, spec: DataSpec, arrays: Mapping[str, SplitArrays]) -> Self:
        """Even samples of `train`, `validation` and `test`, at most 100,000 rows and 5 million values each."""
        columns = panel.columns[: len(panel.columns) - panel.n_known]
        observed = sum(name in spec.numeric for name in spec.observed)
        starts = {split: span[0] for split, span in panel.cuts.spans.items()}
        sampled = {split: _sampled(arrays[split], len(columns), start) for split, start in starts.items()}
        targets = panel.normalizer.n_targets
        return cls(columns, targets + observed, targets, panel.names, **sampled)


def _sampled(arrays: SplitArrays, columns: int, start: np.datetime64) -> Span:
    count = len(arrays.series)
    rows = sample_evenly(count, min(_MOST_ROWS, _MOST_VALUES // columns))
    whole = len(rows) == count
    rows = rows[arrays.times[rows] >= start]
    values = np.array(arrays.features[rows, :columns])
    values[:, : arrays.targets.shape[1]] = arrays.targets[rows]  # as measured: filled gaps are no data
    return Span(values, np.array(arrays.series[rows]), np.array(arrays.times[rows]), whole)
