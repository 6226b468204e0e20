"""Lengths of a panel's unbroken runs, the windows that fit into them, and how strong the season is."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.data.panel_store import PanelStore
from lstm.metrics.metrics import naive_errors

_MAX_ROWS = 2_000_000  # that the season is measured on
_N_LAGS = 6  # of persistence


@dataclass(frozen=True)
class RunLengths:
    """Number of rows of each unbroken run before each cut, (runs,) int64 each."""

    start: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    end: np.ndarray
    persistence_ratio: float = float("inf")  # MAE of persistence / the seasonal naive's

    @classmethod
    def of(cls, panel: PanelStore, season: int, horizon: int) -> Self:
        """Count the rows of a panel, and compare persistence with the seasonal naive."""
        segment, times, cuts = panel.array("segment"), panel.array("times"), panel.cuts
        first = np.flatnonzero(np.r_[True, segment[1:] != segment[:-1]][: len(segment)])
        moments = (cuts.start, cuts.validation, cuts.test, cuts.end)
        start, validation, test, end = (np.add.reduceat(times < moment, first, dtype=np.int64) for moment in moments)
        return cls(start, validation, test, end, _persistence_ratio(panel, season, horizon))

    def windows(self, sequence_length: int, horizon: int) -> tuple[int, int, int]:
        """Return the number of windows of training, validation and test.

        Training windows read no row before the training span.
        """
        return (
            _count_windows(self.start + sequence_length, self.validation - horizon),
            _count_windows(np.maximum(self.validation, sequence_length), self.test - horizon),
            _count_windows(np.maximum(self.test, sequence_length), self.end - horizon),
        )


def _persistence_ratio(panel: PanelStore, season: int, horizon: int) -> float:
    """Return the mean absolute error of persistence over the seasonal naive's, on the training rows.

    Horizons end at one season: farther ahead, changes of the level would weigh more than the season.
    """
    rows = slice(0, _MAX_ROWS)
    times, series, segment = (panel.array(name)[rows] for name in ("times", "series", "segment"))
    training = (times >= panel.cuts.start) & (times < panel.cuts.validation)
    targets = np.where(training[:, None], panel.array("targets")[rows], np.nan)

    def errors(lags: list[int]) -> np.ndarray:
        return np.mean([naive_errors(series, segment, targets, lag, len(panel.names)) for lag in lags], axis=0)

    steps = np.unique(np.linspace(1, min(horizon, season), _N_LAGS).round().astype(int)).tolist()
    persistence, naive = errors(steps), errors([season])
    both = np.isfinite(persistence) & np.isfinite(naive)  # series long enough for both
    return float(persistence[both].sum() / naive[both].sum()) if naive[both].sum() > 0 else float("inf")


def _count_windows(first: np.ndarray, last: np.ndarray) -> int:
    return int(np.maximum(last - first + 1, 0).sum())
