"""Combining the forecasts of several networks into one."""

from collections.abc import Sequence
from typing import get_args

import numpy as np

from lstm.config.model import EnsembleMethod, ModelConfig
from lstm.data.windows import Windows
from lstm.forecasting.prediction import Prediction
from lstm.networks import outputs
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import forecast

_MAX_ERROR_RATIO = 1.1  # of a member's validation error to the lowest
_MIN_GAIN = 1e-9  # relative decrease of the squared error; less is rounding


def predict_point(network: ForecastNetwork, windows: Windows) -> np.ndarray:
    """Return the point forecast of a network, its median if it has quantiles.

    Returns:
        (windows, horizon, targets) float64, normalised.
    """
    out = forecast(network, windows)
    return out[..., outputs.point_index(network.config)].numpy().astype(np.float64)


def predict_network(network: ForecastNetwork, windows: Windows) -> Prediction:
    """Return the point forecast of a network, with its quantiles if it has learned more than the median."""
    out, levels = forecast(network, windows), shared_quantile_levels([network.config])
    point = out[..., outputs.point_index(network.config)].numpy().astype(np.float64)
    if not levels:
        return Prediction(point)
    return Prediction(point, outputs.quantiles(out.numpy(), network.config).astype(np.float64), levels)


def shared_quantile_levels(configs: Sequence[ModelConfig]) -> tuple[float, ...]:
    """Return the quantile levels if all networks have the same ones and not the median alone, else ()."""
    levels = {config.levels for config in configs}
    return next(iter(levels)) if len(levels) == 1 and len(configs[0].levels) > 1 else ()


def select_members(errors: Sequence[float], planned: Sequence[bool], size: int) -> list[int]:
    """Select the networks to combine.

    Planned members come first, since validation errors rank networks too unreliably to replace them; then the others
    with the lowest errors, up to `size`. A network whose error is over 1.1 times the lowest is left out.

    Args:
        errors: validation error of each network.
        planned: whether each network is a planned member of the ensemble.
        size: largest number of members.

    Returns:
        Positions of the selected networks, by rising error; at least one.
    """
    order = sorted(range(len(errors)), key=lambda number: (not planned[number], errors[number]))
    selected = [number for number in order[:size] if errors[number] <= _MAX_ERROR_RATIO * min(errors)]
    return sorted(selected or [int(np.argmin(errors))], key=lambda number: errors[number])


def member_weights(method: str, errors: Sequence[float]) -> tuple[float, ...]:
    """Return weights that sum to 1: by `inverse_error` proportional to 1 / validation error, otherwise equal."""
    raw = 1 / np.maximum(errors, 1e-12) if method == "inverse_error" else np.ones(len(errors))
    return tuple(float(weight) for weight in raw / raw.sum())


def ensemble_weights(method: str, forecasts: Sequence[np.ndarray], actual: np.ndarray) -> tuple[float, ...]:
    """Return the weight of each member, summing to 1; `greedy` and `inverse_error` learn them from validation.

    Args:
        method: `mean`, `median`, `inverse_error` or `greedy`.
        forecasts: validation forecast of each member, (windows, horizon, targets).
        actual: the same shape; NaN where not measured.
    """
    if method == "greedy":
        return greedy_weights(forecasts, actual)
    return member_weights(method, [_rmse(forecast, actual) for forecast in forecasts])


def greedy_weights(forecasts: Sequence[np.ndarray], actual: np.ndarray, rounds: int = 50) -> tuple[float, ...]:
    """Select members forward with replacement (Caruana et al. 2004, "Ensemble selection from libraries of models").

    Start with the k best members, with the k whose plain mean has the lowest squared error. In each round add the
    member with which the mean of all selected has the lowest squared error (the earlier of equals), even if that is no
    gain: a member that is best as the second may be replaced by a better third. Of all these means the best is
    returned, so on validation it is never worse than the best member.

    Args:
        forecasts: validation forecast of each member, (windows, horizon, targets).
        actual: the same shape; NaN where not measured.
        rounds: members to add after the first ones.

    Returns:
        How often each member was selected, as a share: weights that sum to 1, 0 for members never selected.
    """
    measured = ~np.isnan(actual)
    errors = np.stack([(forecast - actual)[measured] for forecast in forecasts])  # (members, values)
    product = errors @ errors.T / max(errors.shape[1], 1)  # weights w have the squared error w' product w

    def squared_error(counts: np.ndarray) -> float:
        weights = counts / counts.sum()
        return float(weights @ product @ weights)

    members = np.eye(len(forecasts))
    best_first = np.cumsum(members[np.argsort(product.diagonal(), kind="stable")], axis=0)
    best = counts = min(best_first, key=squared_error)
    for _ in range(rounds):
        counts = min(counts + members, key=squared_error)
        if squared_error(counts) < (1 - _MIN_GAIN) * squared_error(best):
            best = counts
    return tuple(float(weight) for weight in best / best.sum())


def score_methods(forecasts: Sequence[np.ndarray], actual: np.ndarray) -> dict[str, float]:
    """Return the RMSE of each combination method, on the windows that its weights are learned from.

    Args:
        forecasts: of each member, (windows, horizon, targets).
        actual: the same shape; NaN where not measured.
    """
    return {
        method: _rmse(combine_arrays(forecasts, method, ensemble_weights(method, forecasts, actual)), actual)
        for method in get_args(EnsembleMethod)
    }


def combine_arrays(forecasts: Sequence[np.ndarray], method: str, weights: Sequence[float]) -> np.ndarray:
    """Return the elementwise combination of arrays of one shape: their `median`, otherwise their weighted mean."""
    stacked = np.stack(forecasts)
    if method == "median":
        return np.median(stacked, axis=0)
    return np.tensordot(np.asarray(weights), stacked, axes=1)


def combine_predictions(predictions: Sequence[Prediction], method: str, weights: Sequence[float]) -> Prediction:
    """Combine point forecasts, and quantiles in the same way if all members have those of the same levels."""
    point = combine_arrays([prediction.point for prediction in predictions], method, weights)
    quantiles = [prediction.quantiles for prediction in predictions if prediction.quantiles is not None]
    if len(quantiles) < len(predictions) or len({prediction.levels for prediction in predictions}) > 1:
        return Prediction(point)
    return Prediction(point, combine_arrays(quantiles, method, weights), predictions[0].levels)


def _rmse(forecast: np.ndarray, actual: np.ndarray) -> float:
    return float(np.sqrt(np.nanmean(np.square(forecast - actual))))
