"""The recurrent (or attentive) core behind one interface: (B, steps, width) -> (B, state).

The state is what the whole look-back ends in: every observation, the newest included, has been seen.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from lstm.config import ModelConfig


class Recurrent(nn.Module):
    """A stacked LSTM or GRU, or an LSTM that reads the look-back both ways."""

    def __init__(self, kind: str, width: int, config: ModelConfig) -> None:
        """Build the stack; dropout lies between layers."""
        super().__init__()
        both = kind == "bilstm"
        build: Any = nn.GRU if kind == "gru" else nn.LSTM
        between = config.dropout if config.num_layers > 1 else 0.0
        self.stack = build(
            width, config.hidden_size, config.num_layers, batch_first=True, dropout=between, bidirectional=both
        )
        self.state_size = config.hidden_size * (2 if both else 1)
        self.forward_size = config.hidden_size if both else 0

    def forward(self, x: Tensor) -> Tensor:
        """(B, steps, width) -> (B, state): the last step's output; backwards, the first step's."""
        out, _ = self.stack(x)
        if not self.forward_size:
            return out[:, -1]
        return torch.cat([out[:, -1, : self.forward_size], out[:, 0, self.forward_size :]], dim=1)


class Attentive(nn.Module):
    """A pre-norm Transformer encoder over the look-back (Vaswani et al. 2017), its last position the state."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        """Build the encoder; the number of heads is the largest of 8, 4, 2, 1 that divides `hidden_size`."""
        super().__init__()
        size = config.hidden_size
        heads = next(n for n in (8, 4, 2, 1) if size % n == 0)
        layer = nn.TransformerEncoderLayer(size, heads, 4 * size, config.dropout, batch_first=True, norm_first=True)
        self.embed = nn.Linear(width, size)
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        self.register_buffer("position", _sinusoids(config.sequence_length // config.patch_length, size), False)
        self.state_size = size

    def forward(self, x: Tensor) -> Tensor:
        """(B, steps, width) -> (B, state)."""
        out: Tensor = self.encoder(self.embed(x) + self.position)
        return out[:, -1]


def make_cell(width: int, config: ModelConfig) -> Recurrent | Attentive:
    """The core that `config.cell` names, for steps of `width` numbers."""
    return Attentive(width, config) if config.cell == "transformer" else Recurrent(config.cell, width, config)


def _sinusoids(steps: int, size: int) -> Tensor:
    angle = torch.arange(steps)[:, None] * torch.exp(-math.log(10000.0) * (torch.arange(size) // 2 * 2) / size)
    return torch.where(torch.arange(size) % 2 == 0, angle.sin(), angle.cos())
