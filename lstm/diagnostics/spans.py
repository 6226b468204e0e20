"""Samples of a panel's rows in training, validation and test, for checks with bounded memory."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.config.data import DataSpec
from lstm.data.arrays import SplitArrays
from lstm.data.panel_store import PanelStore
from lstm.evaluation.ridge import sample_evenly

_MAX_ROWS = 100_000  # of a split
_MAX_VALUES = 5_000_000  # of a split: with very many columns fewer rows are sampled


@dataclass(frozen=True)
class Span:
    """Rows of one split in order of series and time, without rows that are only lookback."""

    values: np.ndarray  # (rows, columns) float32, normalised; NaN where a target was not measured
    series: np.ndarray  # (rows,) int
    times: np.ndarray  # (rows,) datetime64[us], UTC
    complete: bool = True  # whether these are all rows of the split


@dataclass(frozen=True)
class Spans:
    """Targets, observed columns and what is derived from them, of each split."""

    columns: tuple[str, ...]  # of the values
    n_measured: int  # leading columns that are normalised: targets and observed numbers
    n_targets: int  # leading columns that are targets
    series_names: tuple[str, ...]
    train: Span
    validation: Span
    test: Span

    @classmethod
    def of(cls, panel: PanelStore, spec: DataSpec, arrays: Mapping[str, SplitArrays]) -> Self:
        """Take even samples of `train`, `validation` and `test`, at most 100,000 rows and 5 million values each."""
        columns = panel.columns[: len(panel.columns) - panel.n_known]
        n_observed = sum(name in spec.numeric for name in spec.observed)
        starts = {split: span[0] for split, span in panel.cuts.spans.items()}
        samples = {split: _sample(arrays[split], len(columns), start) for split, start in starts.items()}
        n_targets = panel.normalizer.n_targets
        return cls(columns, n_targets + n_observed, n_targets, panel.names, **samples)


def _sample(arrays: SplitArrays, columns: int, start: np.datetime64) -> Span:
    count = len(arrays.series)
    rows = sample_evenly(count, min(_MAX_ROWS, _MAX_VALUES // columns))
    complete = len(rows) == count
    rows = rows[arrays.times[rows] >= start]
    values = np.array(arrays.features[rows, :columns])
    values[:, : arrays.targets.shape[1]] = arrays.targets[rows]  # as measured, without filled gaps
    return Span(values, np.array(arrays.series[rows]), np.array(arrays.times[rows]), complete)
