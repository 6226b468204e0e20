"""All parameters of a network as one, for the optimiser: on the CPU its calls cost more than its arithmetic."""

from itertools import accumulate

import torch
from torch import nn


def flattened(network: nn.Module) -> nn.Parameter:
    """One parameter, (numbers of the network,), whose parts the network's parameters and gradients become views of.

    Gradients add up in place: they have to be set to zero, never to None.
    """
    parameters = list(network.parameters())
    whole = nn.Parameter(torch.cat([one.detach().flatten() for one in parameters]))
    whole.grad = torch.zeros_like(whole)
    ends = list(accumulate(one.numel() for one in parameters))
    for one, start, end in zip(parameters, [0, *ends], ends, strict=False):
        one.data = whole.data[start:end].view_as(one)
        one.grad = whole.grad[start:end].view_as(one)
    return whole
