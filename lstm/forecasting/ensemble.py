"""How the forecasts of several networks become one."""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from lstm.config.model import EnsembleMethod, ModelConfig
from lstm.data.windows import Windows
from lstm.forecasting.prediction import Prediction
from lstm.networks import outputs
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import forecast

_MAX_ERROR_RATIO = 1.1
_MIN_GAIN = 1e-9  # share of a squared error that is no rounding


def predict_point(network: ForecastNetwork, windows: Windows) -> np.ndarray:
    """One network's point forecast (its median where it has quantiles): (windows, horizon, targets) float64."""
    out = forecast(network, windows)
    return out[..., outputs.point_index(network.config)].numpy().astype(np.float64)


def predict_network(network: ForecastNetwork, windows: Windows) -> Prediction:
    """One network's point forecast, and its quantiles where it has learned more than the median."""
    out, levels = forecast(network, windows), shared_quantile_levels([network.config])
    point = out[..., outputs.point_index(network.config)].numpy().astype(np.float64)
    if not levels:
        return Prediction(point)
    return Prediction(point, outputs.quantiles(out.numpy(), network.config).astype(np.float64), levels)


def shared_quantile_levels(configs: Sequence[ModelConfig]) -> tuple[float, ...]:
    """Levels of the quantiles that networks have in common; none where one has only the median, or other levels."""
    levels = {config.levels for config in configs}
    return next(iter(levels)) if len(levels) == 1 and len(configs[0].levels) > 1 else ()


def select_members(errors: Sequence[float], planned: Sequence[bool], size: int) -> list[int]:
    """Which networks to combine, as positions, the best first.

    The planned members come before all others, since validation ranks networks too weakly to replace them; then the
    best of the others, up to `size`. Whoever is clearly worse than the best (by more than a tenth) is left out.

    Args:
        errors: of each network on validation.
        planned: whether it is one of the ensemble's planned members.
        size: of the ensemble at most.
    """
    order = sorted(range(len(errors)), key=lambda number: (not planned[number], errors[number]))
    taken = [number for number in order[:size] if errors[number] <= _MAX_ERROR_RATIO * min(errors)]
    return sorted(taken or [int(np.argmin(errors))], key=lambda number: errors[number])


def member_weights(method: str, errors: Sequence[float]) -> tuple[float, ...]:
    """Weights, summing to 1, of members with these validation errors: `inverse_error`, else equal."""
    raw = 1 / np.maximum(errors, 1e-12) if method == "inverse_error" else np.ones(len(errors))
    return tuple(float(weight) for weight in raw / raw.sum())


def ensemble_weights(method: str, forecasts: Sequence[np.ndarray], actual: np.ndarray) -> tuple[float, ...]:
    """What each member counts in the combination, summing to 1: by `greedy` and `inverse_error` from validation.

    Args:
        method: mean, median, inverse_error or greedy.
        forecasts: each member's for validation, (windows, horizon, targets).
        actual: what came, NaN where not measured.
    """
    if method == "greedy":
        return greedy_weights(forecasts, actual)
    return member_weights(method, [_rmse(one, actual) for one in forecasts])


def greedy_weights(forecasts: Sequence[np.ndarray], actual: np.ndarray, rounds: int = 50) -> tuple[float, ...]:
    """Forward selection with replacement (Caruana et al. 2004, "Ensemble selection from libraries of models").

    Begins with the best members, as many as have the lowest error together. Then takes, again and again, the member
    with which the plain mean of all that were taken has the lowest squared error, of equal ones the earlier, even where
    that is no gain: what the best one has at two, another may better as a third. Of all these means the best counts,
    so that on validation it is never worse than the best member.

    Args:
        forecasts: each member's for validation, (windows, horizon, targets).
        actual: what came, NaN where not measured.
        rounds: members to take after the first ones.

    Returns:
        How often each was taken, as a share of all: weights that sum to 1, 0 for who was never taken.
    """
    measured = ~np.isnan(actual)
    errors = np.stack([(one - actual)[measured] for one in forecasts])  # (members, values)
    product = errors @ errors.T / max(errors.shape[1], 1)  # the squared error of weights w is w' product w

    def squared(taken: np.ndarray) -> float:
        share = taken / taken.sum()
        return float(share @ product @ share)

    each = np.eye(len(forecasts))
    first = np.cumsum(each[np.argsort(product.diagonal(), kind="stable")], axis=0)
    best = taken = min(first, key=squared)
    for _ in range(rounds):
        taken = min(taken + each, key=squared)
        if squared(taken) < (1 - _MIN_GAIN) * squared(best):
            best = taken
    return tuple(float(share) for share in best / best.sum())


def score_methods(forecasts: Sequence[np.ndarray], actual: np.ndarray) -> dict[str, float]:
    """RMSE of every method's combination on the windows of `ensemble_weights`, for a comparison of the methods."""
    return {
        method: _rmse(combine_arrays(forecasts, method, ensemble_weights(method, forecasts, actual)), actual)
        for method in get_args(EnsembleMethod)
    }


def combine_arrays(forecasts: Sequence[np.ndarray], method: str, weights: Sequence[float]) -> np.ndarray:
    """Combine members' forecasts of equal shape: `median`, or the weighted mean of all other methods."""
    stacked = np.stack(forecasts)
    if method == "median":
        return np.median(stacked, axis=0)
    return np.tensordot(np.asarray(weights), stacked, axes=1)


def combine_predictions(predictions: Sequence[Prediction], method: str, weights: Sequence[float]) -> Prediction:
    """Combine points and quantiles alike; the quantiles only where all members have those of the same levels."""
    point = combine_arrays([one.point for one in predictions], method, weights)
    quantiles = [one.quantiles for one in predictions if one.quantiles is not None]
    if len(quantiles) < len(predictions) or len({one.levels for one in predictions}) > 1:
        return Prediction(point)
    return Prediction(point, combine_arrays(quantiles, method, weights), predictions[0].levels)


def _rmse(forecast: np.ndarray, actual: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(forecast - actual))))
