"""Windows that conformal intervals are calibrated on."""

from types import SimpleNamespace

import numpy as np

from lstm.data.scaling import TargetScale
from lstm.forecasting.adaptive import Origins

SCALE = TargetScale(np.zeros((1, 1)), np.ones((1, 1)))
LEARNED = (0.1, 0.5, 0.9)
START = np.datetime64("2024-01-01", "us")


def make_windows(rows, series=None, hours=None, actual=None):
    """Return the attributes of a split that `adaptive_bands` reads; its scale is 1."""
    rows = np.asarray(rows)
    hours = rows if hours is None else np.asarray(hours)
    series = np.zeros(len(rows), int) if series is None else np.asarray(series)
    return SimpleNamespace(
        origins=Origins(rows, series, START + hours * np.timedelta64(1, "h")),
        actual=actual,
        scale=SCALE,
    )
