"""Noise on training windows, so that few of them go further. Validation and test windows stay as they are."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def augmented(past: Tensor, methods: Sequence[str], generator: torch.Generator) -> Tensor:
    """A changed copy of the past, (B, L, features): each method in turn (Um et al. 2017).

    `jitter` adds normal noise of 0.03; `scaling` multiplies each window's features by a normal factor
    around 1 of 0.1. Both assume normalised inputs.
    """
    for method in methods:
        past = _METHODS[method](past, generator)
    return past


def _jitter(past: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(past.shape, generator=generator).to(past.device)
    return past + 0.03 * noise


def _scaling(past: Tensor, generator: torch.Generator) -> Tensor:
    factor = torch.randn((past.shape[0], 1, past.shape[2]), generator=generator).to(past.device)
    return past * (1 + 0.1 * factor)


_METHODS: dict[str, Callable[[Tensor, torch.Generator], Tensor]] = {"jitter": _jitter, "scaling": _scaling}
