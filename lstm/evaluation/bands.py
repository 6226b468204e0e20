"""Interval bands for the windows of a split, either static (split conformal) or adaptive."""

from collections.abc import Iterator, Sequence

import numpy as np

from lstm.evaluation.scoring import ScoredWindows
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import Band


def split_bands(
    intervals: Conformal, windows: ScoredWindows, prediction: Prediction | np.ndarray, levels: Sequence[int]
) -> Iterator[tuple[int, Band]]:
    """Yield level and band, see `Conformal.iter_bands`."""
    return intervals.iter_bands(prediction, levels, windows.scale)


def adaptive_bands(
    intervals: Conformal, windows: ScoredWindows, prediction: Prediction | np.ndarray, levels: Sequence[int]
) -> Iterator[tuple[int, Band]]:
    """Yield level and band as of each window's origin, see `Conformal.iter_adaptive_bands`."""
    return intervals.iter_adaptive_bands(windows.origins, windows.actual, prediction, levels, windows.scale)
