"""What reads the look-back, behind one interface: the recurrent (or attentive) core.

    state, memory = cell(x)              # x (B, steps, width) -> (B, state_size), and what decoding starts from
    cell.answer(queries, memory)         # (B, M, width) -> (B, M, state_size), each query by itself
    cell.step(x, memory)                 # (B, width) -> (B, state_size) and the next memory

The state is what the whole look-back ends in: every observation, the newest included, has been seen.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm.config.model import ModelConfig

_DECODING = ("parallel", "recursive")  # heads that ask the cell
Memory = Any  # of one cell for itself: a tensor, or tuples of them, the batch first


class Recurrent(nn.Module):
    """A stacked LSTM or GRU, dropout between its layers."""

    def __init__(self, kind: str, width: int, config: ModelConfig) -> None:
        """Build the stack."""
        super().__init__()
        build: Any = nn.GRU if kind == "gru" else nn.LSTM
        widths = [width] + [config.hidden_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(build(size, config.hidden_size, batch_first=True) for size in widths)
        self.norms = nn.ModuleList(_norm(config, config.hidden_size) for _ in widths)
        self.residual, self.dropout = config.residual, _Dropout(config)
        self.state_size = config.hidden_size

    def forward(self, x: Tensor) -> tuple[Tensor, Memory]:
        """(B, steps, width) -> (B, hidden), the last step's output; the memory is each layer's state."""
        out, memory = self._run(x, [None] * len(self.layers))
        return out[:, -1], memory

    def answer(self, queries: Tensor, memory: Memory) -> Tensor:
        """One step from the memory for each query: (B, M, width) -> (B, M, hidden)."""
        batch, count, _ = queries.shape
        started = [_repeated(state, count) for state in memory]
        out, _ = self._run(queries.reshape(batch * count, 1, -1), started)
        return out.reshape(batch, count, -1)

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """(B, width) -> (B, hidden) and the next memory."""
        out, memory = self._run(x[:, None], memory)
        return out[:, 0], memory

    def _run(self, x: Tensor, memory: list[Any]) -> tuple[Tensor, list[Any]]:
        ends = []
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            below = self.dropout(x) if number else x
            out, end = layer(below, memory[number])
            out = norm(out)
            x = out + x if self.residual and number else out
            ends.append(end)
        return x, ends


class Bidirectional(nn.Module):
    """LSTMs that read the look-back both ways. What lies ahead is decoded by one that goes one way, from its end."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        """Build both directions of each layer, and the decoder."""
        super().__init__()
        size = config.hidden_size
        widths = [width] + [2 * size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(one, size, batch_first=True, bidirectional=True) for one in widths)
        self.norms = nn.ModuleList(_norm(config, 2 * size) for _ in widths)
        self.decodes = config.head in _DECODING
        if self.decodes:
            self.bridge = nn.Linear(2 * size, size)
            self.decoder = Recurrent("lstm", width, config.replace(num_layers=1, hidden_size=size))
            self.out = nn.Linear(size, 2 * size)
        self.residual, self.dropout = config.residual, _Dropout(config)
        self.size, self.state_size = size, 2 * size

    def forward(self, x: Tensor) -> tuple[Tensor, Memory]:
        """(B, steps, width) -> (B, 2 hidden): the last step's output; backwards, the first step's."""
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            below = self.dropout(x) if number else x
            out = norm(layer(below)[0])
            x = out + x if self.residual and number else out
        state = torch.cat([x[:, -1, : self.size], x[:, 0, self.size :]], dim=1)
        if not self.decodes:
            return state, None
        hidden = torch.tanh(self.bridge(state))[None]
        return state, [(hidden, torch.zeros_like(hidden))]

    def answer(self, queries: Tensor, memory: Memory) -> Tensor:
        """(B, M, width) -> (B, M, 2 hidden)."""
        answer: Tensor = self.out(self.decoder.answer(queries, memory))
        return answer

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """(B, width) -> (B, 2 hidden) and the next memory."""
        out, memory = self.decoder.step(x, memory)
        return self.out(out), memory


class Attentive(nn.Module):
    """A pre-norm Transformer (Vaswani et al. 2017): the last position of the encoder is the state."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        """Build encoder and decoder; the number of heads is the largest of 8, 4, 2, 1 that divides `hidden_size`."""
        super().__init__()
        size = config.hidden_size
        heads = next(n for n in (8, 4, 2, 1) if size % n == 0)
        kinds: Any = {"dropout": config.dropout, "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(size, heads, 4 * size, **kinds)
        self.embed = nn.Linear(width, size)
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        if config.head in _DECODING:
            self.decoder = nn.TransformerDecoderLayer(size, heads, 4 * size, **kinds)
        self.norm = _norm(config, size)
        self.register_buffer("position", _sinusoids(config.sequence_length // config.patch_length, size), False)
        self.state_size = size

    def forward(self, x: Tensor) -> tuple[Tensor, Memory]:
        """(B, steps, width) -> (B, hidden); the memory is the encoder's output, and what has been decoded."""
        out = self.norm(self.encoder(self.embed(x) + self.position))
        return out[:, -1], (out, out[:, :0])

    def answer(self, queries: Tensor, memory: Memory) -> Tensor:
        """Queries look at the look-back, and each at itself alone: (B, M, width) -> (B, M, hidden)."""
        place = torch.arange(queries.shape[1], device=queries.device)
        alone = place[:, None] != place  # ONNX Runtime has no eye of booleans
        answer: Tensor = self.decoder(self.embed(queries), memory[0], tgt_mask=alone)
        return answer

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """(B, width) -> (B, hidden); a step looks at the look-back and at the steps before it."""
        seen = torch.cat([memory[1], self.embed(x)[:, None]], dim=1)
        return self.decoder(seen, memory[0])[:, -1], (memory[0], seen)  # nothing is later than the last step


def make_cell(width: int, config: ModelConfig) -> Recurrent | Bidirectional | Attentive:
    """The core that `config.cell` names, for steps of `width` numbers."""
    if config.cell == "transformer":
        return Attentive(width, config)
    return Bidirectional(width, config) if config.cell == "bilstm" else Recurrent(config.cell, width, config)


class _Dropout(nn.Module):
    """Between layers. Variational: one mask for all steps (Gal & Ghahramani 2016)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.share, self.variational = config.dropout, config.variational_dropout

    def forward(self, x: Tensor) -> Tensor:
        if not self.variational:
            return functional.dropout(x, self.share, self.training)
        return x * functional.dropout(torch.ones_like(x[:, :1]), self.share, self.training)


class _BatchNorm(nn.Module):
    """Batch normalisation of (B, steps, size) over all steps of all windows."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(size)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.flatten(0, 1)).view_as(x)
        return normed


def _norm(config: ModelConfig, size: int) -> nn.Module:
    if config.layer_norm:
        return nn.LayerNorm(size)
    return _BatchNorm(size) if config.batch_norm else nn.Identity()


def _repeated(state: Any, count: int) -> Any:
    """A layer's state (1, B, size), or a pair of them, `count` times for each row of the batch."""
    if isinstance(state, tuple):
        return tuple(_repeated(part, count) for part in state)
    return state.repeat_interleave(count, dim=1)


def _sinusoids(steps: int, size: int) -> Tensor:
    angle = torch.arange(steps)[:, None] * torch.exp(-math.log(10000.0) * (torch.arange(size) // 2 * 2) / size)
    return torch.where(torch.arange(size) % 2 == 0, angle.sin(), angle.cos())
