"""Ridge regression baseline: a linear model of the same windows and covariates.

Each step ahead and target has a regression of its own (direct, not iterated), fitted on all series together. Inputs and
outputs of the target are differences from its last value, so that the level doesn't matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.data.windows import Windows
from lstm.errors import DataError

ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
MAX_KNOWN_INPUTS = 400  # inputs from columns known ahead; of longer horizons an even sample of steps is used
_MAX_WINDOWS = 10_000  # for fitting, and for choosing the penalty
_MAX_VALUES = 10_000_000  # values of the input matrix; with very many columns fewer windows are used
_LAGS_WITHOUT_SEASON = 48
_CHUNK = 4096  # windows forecast at once


@dataclass(frozen=True)
class _Inputs:
    """Which values of a window the regressions read."""

    lags: int  # past values of the target
    steps: np.ndarray  # (steps,) int64, from 0: steps ahead whose known columns are read

    @classmethod
    def of(cls, windows: Windows, season: int) -> Self:
        lags = min(windows.sequence_length, 2 * season if season > 1 else _LAGS_WITHOUT_SEASON)
        horizon, n_known = windows.horizon, windows.n_known
        count = min(horizon, max(1, MAX_KNOWN_INPUTS // n_known)) if n_known else horizon
        return cls(lags, np.unique(np.linspace(0, horizon - 1, count).astype(np.int64)))

    def matrix(self, windows: Windows, origins: np.ndarray, target: int) -> np.ndarray:
        """Return the input matrix: past target values, newest observed columns, columns known ahead.

        Returns:
            (windows, columns) float64, normalised; target values relative to the last one.
        """
        features = windows.features.numpy()
        first_covariate, first_known = windows.targets.shape[1], features.shape[1] - windows.n_known
        past = features[origins[:, None] + np.arange(-self.lags, 0), target].astype(np.float64)
        ahead = features[:, first_known:][origins[:, None] + self.steps].reshape(len(origins), -1)
        return np.hstack([past - past[:, -1:], features[origins - 1, first_covariate:first_known], ahead])

    def sample(self, windows: Windows, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Return inputs, (windows, columns), and changes from the last value, (windows, horizon), of an even sample."""
        origins = windows.origins.numpy()
        columns = self.matrix(windows, origins[:1], target).shape[1]
        origins = origins[sample_evenly(len(origins), min(_MAX_WINDOWS, _MAX_VALUES // columns))]
        ahead = windows.targets.numpy()[origins[:, None] + np.arange(windows.horizon), target]
        return self.matrix(windows, origins, target), ahead - _last_value(windows, origins, target)


@dataclass(frozen=True)
class _Regression:
    """Minimizes the sum of squared errors + alpha · the sum of squared weights; the intercept is not penalised."""

    alpha: float
    weights: np.ndarray  # (columns, horizon)
    intercept: np.ndarray  # (horizon,)

    @classmethod
    def fit_all(cls, inputs: np.ndarray, outputs: np.ndarray, alphas: Sequence[float]) -> list[Self]:
        """Fit one regression per penalty from one Gram matrix, which scikit-learn's Ridge computes again for each."""
        center, mean = inputs.mean(axis=0), outputs.mean(axis=0)
        centered = inputs - center
        gram, cross = centered.T @ centered, centered.T @ (outputs - mean)
        solved = [np.linalg.solve(gram + alpha * np.eye(len(gram)), cross) for alpha in alphas]
        return [cls(alpha, weights, mean - center @ weights) for alpha, weights in zip(alphas, solved, strict=True)]

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """Return changes from the last value, (windows, horizon), from inputs (windows, columns)."""
        return inputs @ self.weights + self.intercept


@dataclass(frozen=True)
class RidgeBaseline:
    """A fitted ridge regression per target."""

    inputs: _Inputs
    models: tuple[_Regression, ...]  # one per target

    @classmethod
    def fit(cls, training: Windows, validation: Windows, season: int, alphas: Sequence[float] = ALPHAS) -> Self:
        """Fit on an even sample of training windows, with the penalty of the lowest validation error.

        Args:
            training: windows in which a step was not measured are left out.
            validation: of the same columns, horizon and lookback.
            season: steps of a season, two of which are read; 1: no season.
            alphas: penalties to choose from.

        Raises:
            DataError: no training window has every step measured.
        """
        inputs = _Inputs.of(training, season)
        targets = range(training.targets.shape[1])
        return cls(inputs, tuple(_fit_target(inputs, training, validation, target, alphas) for target in targets))

    def forecast(self, windows: Windows) -> np.ndarray:
        """Return the forecast: (windows, horizon, targets) float64, normalised."""
        origins = windows.origins.numpy()
        forecast = np.empty((len(origins), windows.horizon, len(self.models)))
        for target, model in enumerate(self.models):
            for start in range(0, len(origins), _CHUNK):
                chunk = origins[start : start + _CHUNK]
                change = model.predict(self.inputs.matrix(windows, chunk, target))
                forecast[start : start + _CHUNK, :, target] = change + _last_value(windows, chunk, target)
        return forecast


def _fit_target(
    inputs: _Inputs, training: Windows, validation: Windows, target: int, alphas: Sequence[float]
) -> _Regression:
    matrix, change = inputs.sample(training, target)
    complete = ~np.isnan(change).any(axis=1)
    if not complete.any():
        raise DataError(f"ridge: no sampled training window has every step of target {target + 1} measured.")
    models = _Regression.fit_all(matrix[complete], change[complete], alphas)
    validation_matrix, validation_change = inputs.sample(validation, target)
    errors = [np.nansum(np.square(model.predict(validation_matrix) - validation_change)) for model in models]
    return models[int(np.argmin(errors))]


def _last_value(windows: Windows, origins: np.ndarray, target: int) -> np.ndarray:
    """Return the newest target value before each origin, (windows, 1) float64, normalised, gaps filled."""
    return windows.features.numpy()[origins - 1, target, None].astype(np.float64)


def sample_evenly(count: int, most: int) -> np.ndarray:
    """Return at most `most` of the numbers below `count`, rising: a random one of each of `most` equal stretches.

    Random, since a fixed stride might coincide with a season; the seed is fixed.
    """
    if count <= most:
        return np.arange(count)
    bounds = np.arange(most + 1) * count // most
    return bounds[:-1] + np.random.default_rng(0).integers(np.diff(bounds))
