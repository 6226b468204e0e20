"""Ridge regression as a baseline: what a linear model makes of the same windows and covariates.

Every step ahead is a regression of its own (direct, not iterated), a set of them for each target, over all series
together. They read the target's past and give its change, both from the last value on: the level doesn't matter.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.data.windows import Windows
from lstm.errors import DataError

ALPHAS = (1.0, 10.0, 100.0, 1000.0, 10_000.0)
MAX_KNOWN_INPUTS = 400  # inputs that are known ahead; of longer horizons some steps are read
_MOST_WINDOWS = 10_000  # that are fitted on, and that the penalty is chosen on
_MOST_VALUES = 10_000_000  # of all inputs together: of very many columns fewer windows are fitted on
_UNSEASONAL = 48  # values of the past that are read where there is no season
_CHUNK = 4096  # windows that are forecast in one go


@dataclass(frozen=True)
class _Reader:
    """What the regressions read of windows."""

    lags: int  # values of the past
    steps: np.ndarray  # (read steps ahead,) int64, from 0: those whose known columns are read

    @classmethod
    def of(cls, windows: Windows, season: int) -> Self:
        lags = min(windows.sequence_length, 2 * season if season > 1 else _UNSEASONAL)
        horizon, n_known = windows.horizon, windows.n_known
        count = min(horizon, max(1, MAX_KNOWN_INPUTS // n_known)) if n_known else horizon
        return cls(lags, np.unique(np.linspace(0, horizon - 1, count).astype(np.int64)))

    def inputs(self, windows: Windows, origins: np.ndarray, target: int) -> np.ndarray:
        """(windows, columns) float64: the past from the last value on, the newest observations, what is known ahead."""
        features = windows.features.numpy()
        own, known = windows.targets.shape[1], features.shape[1] - windows.n_known
        past = features[origins[:, None] + np.arange(-self.lags, 0), target].astype(np.float64)
        ahead = features[:, known:][origins[:, None] + self.steps].reshape(len(origins), -1)
        return np.hstack([past - past[:, -1:], features[origins - 1, own:known], ahead])

    def sample(self, windows: Windows, target: int) -> tuple[np.ndarray, np.ndarray]:
        """Inputs (windows, columns) and change since the last value (windows, horizon) of an even sample."""
        origins = windows.origins.numpy()
        columns = self.inputs(windows, origins[:1], target).shape[1]
        origins = origins[sample_evenly(len(origins), min(_MOST_WINDOWS, _MOST_VALUES // columns))]
        ahead = windows.targets.numpy()[origins[:, None] + np.arange(windows.horizon), target]
        return self.inputs(windows, origins, target), ahead - _last(windows, origins, target)


@dataclass(frozen=True)
class _Regression:
    """Minimises the sum of squared errors + alpha · the sum of squared weights; the intercept goes free."""

    alpha: float
    weights: np.ndarray  # (columns, horizon)
    intercept: np.ndarray  # (horizon,)

    @classmethod
    def fits(cls, inputs: np.ndarray, outputs: np.ndarray, alphas: Sequence[float]) -> list[Self]:
        """One for each penalty, all from one sum of products: scikit-learn's Ridge makes it anew each time."""
        center, mean = inputs.mean(axis=0), outputs.mean(axis=0)
        centered = inputs - center
        products, cross = centered.T @ centered, centered.T @ (outputs - mean)
        solved = [np.linalg.solve(products + alpha * np.eye(len(products)), cross) for alpha in alphas]
        return [cls(alpha, weights, mean - center @ weights) for alpha, weights in zip(alphas, solved, strict=True)]

    def predict(self, inputs: np.ndarray) -> np.ndarray:
        """(windows, horizon) from (windows, columns)."""
        return inputs @ self.weights + self.intercept


@dataclass(frozen=True)
class RidgeBaseline:
    """A fitted regression of each target."""

    reader: _Reader
    models: tuple[_Regression, ...]  # one a target

    @classmethod
    def fit(cls, training: Windows, validation: Windows, season: int, alphas: Sequence[float] = ALPHAS) -> Self:
        """Fit on an even sample of training windows; the penalty is the one with the least validation error.

        Args:
            training: windows without a measurement of a step are left out.
            validation: of the same columns, horizon and look-back.
            season: steps of a season, two of which are read; 1: there is none.
            alphas: penalties to choose from.

        Raises:
            DataError: no training window has every step measured.
        """
        reader = _Reader.of(training, season)
        targets = range(training.targets.shape[1])
        return cls(reader, tuple(_best(reader, training, validation, target, alphas) for target in targets))

    def forecast(self, windows: Windows) -> np.ndarray:
        """Normalised forecast, (windows, horizon, targets) float64."""
        origins = windows.origins.numpy()
        made = np.empty((len(origins), windows.horizon, len(self.models)))
        for target, model in enumerate(self.models):
            for start in range(0, len(origins), _CHUNK):
                chunk = origins[start : start + _CHUNK]
                change = model.predict(self.reader.inputs(windows, chunk, target))
                made[start : start + _CHUNK, :, target] = change + _last(windows, chunk, target)
        return made


def _best(reader: _Reader, training: Windows, validation: Windows, target: int, alphas: Sequence[float]) -> _Regression:
    inputs, change = reader.sample(training, target)
    whole = ~np.isnan(change).any(axis=1)
    if not whole.any():
        raise DataError(f"ridge: no training window that was looked at has every step of target {target + 1} measured.")
    models = _Regression.fits(inputs[whole], change[whole], alphas)
    seen, came = reader.sample(validation, target)
    errors = [np.nansum(np.square(model.predict(seen) - came)) for model in models]
    return models[int(np.argmin(errors))]


def _last(windows: Windows, origins: np.ndarray, target: int) -> np.ndarray:
    """The newest value that a window sees, (windows, 1) float64: gaps filled."""
    return windows.features.numpy()[origins - 1, target, None].astype(np.float64)


def sample_evenly(count: int, most: int) -> np.ndarray:
    """At most `most` of the numbers below `count`, rising: one drawn from each of so many equal stretches.

    Drawn, since even steps might be in step with a season. The same each time.
    """
    if count <= most:
        return np.arange(count)
    borders = np.arange(most + 1) * count // most
    return borders[:-1] + np.random.default_rng(0).integers(np.diff(borders))
