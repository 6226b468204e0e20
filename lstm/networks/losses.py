"""Losses over measured values: NaN in the actual values has no weight."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lstm.config.model import LIKELIHOODS, ModelConfig
from lstm.networks.outputs import negative_log_likelihood, point_index

LossFunction = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
_MIN_NAIVE_ERROR = 0.01  # that mase divides by, on the normalized scale


def make_loss(config: ModelConfig, device: torch.device) -> LossFunction:
    """Return the loss of `config`: f(out (B, H, O, n_params), actual (B, H, O), the targets' past (B, L, O)).

    The function returns the summed loss and the number of values measured, both as scalars on `device`, so that
    batches add up to an exact mean. `pinball` (Koenker & Bassett 1978) is averaged over the levels; `mase` is the
    absolute error over that of the seasonal naive within the lookback (Hyndman & Koehler 2006); `gaussian` and
    `student_t` are negative log-likelihoods.
    """
    levels = torch.tensor(config.levels, device=device)

    def loss(out: Tensor, actual: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        measured = ~torch.isnan(actual)
        out, filled = out.float(), torch.where(measured, actual, out[..., point_index(config)].detach().float())
        if config.trained_loss in LIKELIHOODS:
            values = negative_log_likelihood(out, filled, config)
        elif config.trained_loss == "mase":
            values = (filled - out[..., 0]).abs() / naive_error(past, config.season or 1)
        else:
            values = _POINTWISE[config.trained_loss](filled[..., None] - out, levels).mean(dim=-1)
        return (values * measured).sum(), measured.sum()

    return loss


def naive_error(past: Tensor, season: int) -> Tensor:
    """Return the mean absolute difference from one season before, within the lookback: (B, L, O) -> (B, 1, O).

    If the lookback is no longer than a season, the difference of neighbours is taken.
    """
    lag = season if season < past.shape[1] else 1
    if past.shape[1] < 2:
        return torch.ones_like(past[:, :1])
    return (past[:, lag:] - past[:, :-lag]).abs().mean(dim=1, keepdim=True).clamp_min(_MIN_NAIVE_ERROR)


def _huber(error: Tensor, _: Tensor) -> Tensor:
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none")


_POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda error, _: error.square(),
    "mae": lambda error, _: error.abs(),
    "huber": _huber,
    "pinball": lambda error, levels: torch.maximum(levels * error, (levels - 1) * error),
}
