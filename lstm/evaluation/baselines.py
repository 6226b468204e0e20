"""Baselines: simple forecasters on the same windows, with forecasts of the same shape as a network's.

They see the targets' past as a network does (the first features, gaps filled), on the normalised scale.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lstm.data.windows import Windows
from lstm.errors import DataError
from lstm.evaluation.classical import CLASSICAL, ClassicalBaseline, require_statsforecast
from lstm.evaluation.ridge import RidgeBaseline


class WindowForecaster(Protocol):
    """A model that forecasts windows."""

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the normalised forecast: (windows, horizon, targets) float64."""
        ...


@dataclass(frozen=True)
class Persistence:
    """The last value for every step ahead."""

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the normalised forecast: (windows, horizon, targets) float64."""
        return _past(windows, [-1]).repeat(windows.horizon, axis=1)


@dataclass(frozen=True)
class SeasonalNaive:
    """The value one season before, the last whole season repeated (Hyndman & Athanasopoulos, fpp3, 5.2)."""

    season: int  # steps

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the normalised forecast: (windows, horizon, targets) float64.

        Raises:
            DataError: the lookback is shorter than one season.
        """
        if windows.sequence_length < self.season:
            raise DataError(
                f"the seasonal naive needs `season <= lookback`, but got season={self.season}, "
                f"lookback={windows.sequence_length}."
            )
        last = _past(windows, range(-self.season, 0))  # (windows, season, targets)
        return np.tile(last, (1, math.ceil(windows.horizon / self.season), 1))[:, : windows.horizon]


@dataclass(frozen=True)
class Drift:
    """The last value and, for each step, the mean change over the lookback (Hyndman & Athanasopoulos, fpp3, 5.2)."""

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the normalised forecast: (windows, horizon, targets) float64."""
        length = windows.sequence_length
        first, last = np.split(_past(windows, [-length, -1]), 2, axis=1)  # (windows, 1, targets) each
        slope = (last - first) / max(length - 1, 1)
        return last + np.arange(1, windows.horizon + 1)[:, None] * slope


def check_baselines(names: Iterable[str]) -> None:
    """Check that the packages of these baselines are installed, before a search starts.

    Raises:
        ConfigError: one of them needs a package that is not installed.
    """
    for name in names:
        if name in CLASSICAL:
            require_statsforecast(name)


def fit_baselines(
    names: Iterable[str], training: Windows, validation: Windows, season: int
) -> tuple[dict[str, WindowForecaster], dict[str, str]]:
    """Fit baselines; leave out those that can't be fitted on these windows.

    Args:
        names: of `evaluate.baselines`.
        training: windows to fit on.
        validation: of the same columns, horizon and lookback; they choose ridge's penalty.
        season: steps of a season; 1: no season.

    Returns:
        The fitted baselines by name, and the reason for each one left out.

    Raises:
        ConfigError: one of them needs a package that is not installed.
    """
    makers: dict[str, Callable[[], WindowForecaster]] = {
        "persistence": Persistence,
        "seasonal_naive": lambda: SeasonalNaive(season),
        "drift": Drift,
        "ridge": lambda: RidgeBaseline.fit(training, validation, season),
        "auto_ets": lambda: ClassicalBaseline.fit("auto_ets", training, season),
        "auto_theta": lambda: ClassicalBaseline.fit("auto_theta", training, season),
    }
    fitted: dict[str, WindowForecaster] = {}
    left_out: dict[str, str] = {}
    for name in names:
        try:
            fitted[name] = makers[name]()
        except DataError as error:
            left_out[name] = str(error)
    return fitted, left_out


def _past(windows: Windows, steps: Iterable[int]) -> np.ndarray:
    """Return the targets at steps before the origin (-1: the last): (windows, steps, targets) float64, gaps filled."""
    rows = windows.origins.numpy()[:, None] + np.array(list(steps))
    return windows.features[:, : windows.targets.shape[1]].numpy()[rows].astype(np.float64)
