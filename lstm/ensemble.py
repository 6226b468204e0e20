"""How the forecasts of several networks become one."""

from collections.abc import Sequence

import numpy as np

from lstm.data.windows import Windows
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import forecast


def point_forecast(network: ForecastNetwork, windows: Windows) -> np.ndarray:
    """One network's point forecast (its median where it has quantiles): (windows, horizon, targets) float64."""
    out = forecast(network, windows)
    levels = network.config.quantiles or (0.5,)
    return out[..., levels.index(0.5)].numpy().astype(np.float64)


def member_weights(method: str, errors: Sequence[float]) -> tuple[float, ...]:
    """Weights, summing to 1, of members with these validation errors: `inverse_error`, else equal."""
    raw = 1 / np.maximum(errors, 1e-12) if method == "inverse_error" else np.ones(len(errors))
    return tuple(float(weight) for weight in raw / raw.sum())


def combine(forecasts: Sequence[np.ndarray], method: str, weights: Sequence[float]) -> np.ndarray:
    """Combine members' forecasts of equal shape: `median`, or the weighted mean of `mean` and `inverse_error`."""
    stacked = np.stack(forecasts)
    if method == "median":
        return np.median(stacked, axis=0)
    return np.tensordot(np.asarray(weights), stacked, axes=1)
