"""Losses on what was really measured: NaN in the actual values weighs nothing."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from lstm.config import ModelConfig

LossFunction = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def make_loss(config: ModelConfig, device: torch.device) -> LossFunction:
    """The loss of `config` as a function of forecast (B, H, O, levels) and actual (B, H, O).

    It returns the summed loss and the number of values measured, both as scalars on `device`, so that
    batches add up to an exact mean. `pinball` (Koenker & Bassett 1978) is averaged over the levels.
    """
    levels = torch.tensor(config.quantiles or (0.5,), device=device)
    pointwise = _POINTWISE[config.trained_loss]

    def loss(forecast: Tensor, actual: Tensor) -> tuple[Tensor, Tensor]:
        measured = ~torch.isnan(actual)
        error = (torch.nan_to_num(actual) * measured)[..., None] - forecast * measured[..., None]
        return pointwise(error.float(), levels).mean(dim=-1).sum(), measured.sum()

    return loss


def _huber(error: Tensor, _: Tensor) -> Tensor:
    return functional.huber_loss(error, torch.zeros_like(error), reduction="none")


_POINTWISE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mse": lambda error, _: error.square(),
    "mae": lambda error, _: error.abs(),
    "huber": _huber,
    "pinball": lambda error, levels: torch.maximum(levels * error, (levels - 1) * error),
}
