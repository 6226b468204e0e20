"""How the forecasts of several networks become one."""

from collections.abc import Sequence

import numpy as np

from lstm.data.windows import Windows
from lstm.networks import outputs
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import forecast

_CLEARLY_WORSE = 1.1


def point_forecast(network: ForecastNetwork, windows: Windows) -> np.ndarray:
    """One network's point forecast (its median where it has quantiles): (windows, horizon, targets) float64."""
    out = forecast(network, windows)
    return out[..., outputs.point(network.config)].numpy().astype(np.float64)


def chosen(errors: Sequence[float], planned: Sequence[bool], size: int) -> list[int]:
    """Which networks to combine, as positions, the best first.

    The planned members come before all others, since validation ranks networks too weakly to replace them; then the
    best of the others, up to `size`. Whoever is clearly worse than the best (by more than a tenth) is left out.

    Args:
        errors: of each network on validation.
        planned: whether it is one of the ensemble's planned members.
        size: of the ensemble at most.
    """
    order = sorted(range(len(errors)), key=lambda number: (not planned[number], errors[number]))
    taken = [number for number in order[:size] if errors[number] <= _CLEARLY_WORSE * min(errors)]
    return sorted(taken or [int(np.argmin(errors))], key=lambda number: errors[number])


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
