"""How long the unbroken runs of a panel are, how many windows they hold, and whether their season shows."""

from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.data.panel_store import PanelStore
from lstm.metrics.metrics import naive_errors

_ROWS = 2_000_000  # that are looked at for the season
_STEPS = 6  # of the horizon


@dataclass(frozen=True)
class Runs:
    """Of each unbroken run, how many of its rows lie before each cut: (runs,) int64 all."""

    start: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    end: np.ndarray
    change: float = float("inf")  # mean absolute error of persistence over the seasonal naive's, in training

    @classmethod
    def of(cls, panel: PanelStore, season: int, horizon: int) -> Self:
        """Count the rows of a panel, and hold persistence against the seasonal naive."""
        segment, times, cuts = panel.array("segment"), panel.array("times"), panel.cuts
        first = np.flatnonzero(np.r_[True, segment[1:] != segment[:-1]][: len(segment)])
        moments = (cuts.start, cuts.validation, cuts.test, cuts.end)
        start, validation, test, end = (np.add.reduceat(times < moment, first, dtype=np.int64) for moment in moments)
        return cls(start, validation, test, end, _change(panel, season, horizon))

    def windows(self, sequence_length: int, horizon: int) -> tuple[int, int, int]:
        """Windows of training, validation and test. Training windows see no row before the training span."""
        return (
            _fitting(self.start + sequence_length, self.validation - horizon),
            _fitting(np.maximum(self.validation, sequence_length), self.test - horizon),
            _fitting(np.maximum(self.test, sequence_length), self.end - horizon),
        )


def _change(panel: PanelStore, season: int, horizon: int) -> float:
    """Mean absolute error of persistence over the seasonal naive's, on the training rows, one season ahead at most.

    Farther ahead the drift of the level would weigh more than the season.
    """
    rows = slice(0, _ROWS)
    times, series, segment = (panel.array(name)[rows] for name in ("times", "series", "segment"))
    training = (times >= panel.cuts.start) & (times < panel.cuts.validation)
    targets = np.where(training[:, None], panel.array("targets")[rows], np.nan)

    def errors(lags: list[int]) -> np.ndarray:
        return np.mean([naive_errors(series, segment, targets, lag, len(panel.names)) for lag in lags], axis=0)

    steps = np.unique(np.linspace(1, min(horizon, season), _STEPS).round().astype(int)).tolist()
    own, naive = errors(steps), errors([season])
    both = np.isfinite(own) & np.isfinite(naive)  # of series long enough for either
    return float(own[both].sum() / naive[both].sum()) if naive[both].sum() > 0 else float("inf")


def _fitting(first: np.ndarray, last: np.ndarray) -> int:
    return int(np.maximum(last - first + 1, 0).sum())
