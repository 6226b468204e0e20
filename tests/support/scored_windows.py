"""Windows of three series with random forecasts, and their scores."""

import numpy as np
import torch

from lstm.calendars.frequency import Frequency
from lstm.data.scaling import TargetScale
from lstm.data.windows import Windows
from lstm.evaluation.scoring import ScoredWindows
from lstm.metrics.metrics import band_levels

HORIZON, NAMES = 6, ("a", "b", "c")
BERLIN = Frequency.parse("1h", "Europe/Berlin")


def make_windows(days=12, log=False, frequency=BERLIN, names=NAMES):
    """Three series with two targets, over the end of summer time; a tenth was not measured."""
    random = np.random.default_rng(7)
    count = days * 24
    shape = (3 * count, HORIZON, 2)
    actual = random.normal(0, 1, shape)
    actual[random.random(shape) < 0.1] = np.nan
    series = np.repeat(np.arange(3), count)
    center, scale = (random.uniform(1, 3, (3, 1, 2))[series] for _ in range(2))
    times = np.datetime64("2024-10-25T00", "us") + np.tile(np.arange(count), 3) * np.timedelta64(1, "h")
    nothing = torch.zeros(1, 2)
    windows = Windows(nothing, nothing, torch.zeros(3 * count, dtype=torch.int64), 1, HORIZON)
    naive = random.uniform(0.5, 2, (3, 1, 2))[series]
    scale = scale / 4 if log else scale  # so that exp stays within some orders of magnitude
    return ScoredWindows(windows, actual, TargetScale(center, scale, log), naive, series, times, names, frequency)


def make_forecast(split, noise=1.0, seed=0):
    return np.nan_to_num(split.actual) + np.random.default_rng(seed).normal(0, noise, split.actual.shape)


def make_bands(split, forecast, levels):
    """As wide as the level, in raw units."""
    for level in levels:
        yield level, (split.denormalize(forecast - level / 50), split.denormalize(forecast + level / 50))


def score(noise=1.0, crps=False, seed=0, days=12, folds=4, **changes):
    split = make_windows(days, **changes)
    forecast = make_forecast(split, noise, seed)
    levels = band_levels([80, 95]) if crps else (80, 95)
    return split.score(forecast, make_bands(split, forecast, levels), (80, 95), folds)
