"""Losses on what was really measured: NaN in the actual values weighs nothing."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lstm.config.model import LIKELIHOODS, ModelConfig
from lstm.networks.outputs import negative_log_likelihood, point

LossFunction = Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
_SMALLEST = 0.01  # naive error that mase divides by, on the normalised scale


def make_loss(config: ModelConfig, device: torch.device) -> LossFunction:
    """The loss of `config` as a function of out (B, H, O, numbers), actual (B, H, O), and the targets' past (B, L, O).

    It returns the summed loss and the number of values measured, both as scalars on `device`, so that
    batches add up to an exact mean. `pinball` (Koenker & Bassett 1978) is averaged over the levels; `mase` is the
    absolute error over that of the seasonal naive within the look-back (Hyndman & Koehler 2006); `gaussian` and
    `student_t` are negative log-likelihoods.
    """
    levels = torch.tensor(config.levels, device=device)

    def loss(out: Tensor, actual: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        measured = ~torch.isnan(actual)
        out, filled = out.float(), torch.where(measured, actual, out[..., point(config)].detach().float())
        if config.trained_loss in LIKELIHOODS:
            values = negative_log_likelihood(out, filled, config)
        elif config.trained_loss == "mase":
            values = (filled - out[..., 0]).abs() / naive_error(past, config.season or 1)
        else:
            values = _POINTWISE[config.trained_loss](filled[..., None] - out, levels).mean(dim=-1)
        return (values * measured).sum(), measured.sum()

    return loss


def naive_error(past: Tensor, season: int) -> Tensor:
    """Mean absolute difference from one season before, within the look-back: (B, L, O) -> (B, 1, O)."""
    apart = season if season < past.shape[1] else 1
    if past.shape[1] < 2:
        return torch.ones_like(past[:, :1])
    return (past[:, apart:] - past[:, :-apart]).abs().mean(dim=1, keepdim=True).clamp_min(_SMALLEST)


def _huber(error: Tensor, _: Tensor) -> Tensor:
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none")


_POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda error, _: error.square(),
    "mae": lambda error, _: error.abs(),
    "huber": _huber,
    "pinball": lambda error, levels: torch.maximum(levels * error, (levels - 1) * error),
}
