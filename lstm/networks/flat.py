"""One flat parameter for all weights of a network: on the CPU the optimizer's calls cost more than its arithmetic."""

from itertools import accumulate

import torch
from torch import nn


def flatten_parameters(network: nn.Module) -> nn.Parameter:
    """Return one parameter (n_weights,); the network's parameters and gradients become views of its parts.

    Gradients accumulate in place: set them to zero, never to None.
    """
    parameters = list(network.parameters())
    flat = nn.Parameter(torch.cat([parameter.detach().flatten() for parameter in parameters]))
    flat.grad = torch.zeros_like(flat)
    ends = list(accumulate(parameter.numel() for parameter in parameters))
    for parameter, start, end in zip(parameters, [0, *ends], ends, strict=False):
        parameter.data = flat.data[start:end].view_as(parameter)
        parameter.grad = flat.grad[start:end].view_as(parameter)
    return flat
