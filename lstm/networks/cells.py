"""Cells: LSTM, GRU, bidirectional LSTM and Transformer, which read the lookback, behind one interface.

    encoding, state = cell(x)       # x (B, steps, width) -> (B, encoding_size), and the state that decoding starts from
    cell.decode(queries, state)     # (B, M, width) -> (B, M, encoding_size), each query independent of the others
    cell.step(x, state)             # (B, width) -> (B, encoding_size), and the next state

The encoding depends on the whole lookback, the newest step included.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lstm.config.model import ModelConfig

_DECODING_HEADS = ("parallel", "recursive")  # heads that call `decode` or `step`
State = Any  # differs by cell: tensors, or nested tuples and lists of them


class Recurrent(nn.Module):
    """A stacked LSTM or GRU with dropout between its layers."""

    def __init__(self, cell: str, width: int, config: ModelConfig) -> None:
        """Build the stack."""
        super().__init__()
        build: Any = nn.GRU if cell == "gru" else nn.LSTM
        widths = [width] + [config.hidden_size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(build(size, config.hidden_size, batch_first=True) for size in widths)
        self.norms = nn.ModuleList(_norm(config, config.hidden_size) for _ in widths)
        self.residual, self.dropout = config.residual, _Dropout(config)
        self.encoding_size = config.hidden_size

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        """Return the last step's output, (B, hidden), and each layer's state for x, (B, steps, width)."""
        out, state = self._run(x, [None] * len(self.layers))
        return out[:, -1], state

    def decode(self, queries: Tensor, state: State) -> Tensor:
        """Take one step from the state for each query: (B, M, width) -> (B, M, hidden)."""
        batch, n_queries, _ = queries.shape
        states = [_repeat(layer_state, n_queries) for layer_state in state]
        out, _ = self._run(queries.reshape(batch * n_queries, 1, -1), states)
        return out.reshape(batch, n_queries, -1)

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step: (B, width) -> (B, hidden), and the next state."""
        out, state = self._run(x[:, None], state)
        return out[:, 0], state

    def _run(self, x: Tensor, states: list[Any]) -> tuple[Tensor, list[Any]]:
        next_states = []
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            layer_input = self.dropout(x) if number else x
            out, next_state = layer(layer_input, states[number])
            out = norm(out)
            x = out + x if self.residual and number else out
            next_states.append(next_state)
        return x, next_states


class Bidirectional(nn.Module):
    """A stacked bidirectional LSTM over the lookback, and a forward LSTM that decodes from its encoding."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        """Build both directions of each layer, and the decoder if the head needs one."""
        super().__init__()
        size = config.hidden_size
        widths = [width] + [2 * size] * (config.num_layers - 1)
        self.layers = nn.ModuleList(nn.LSTM(inputs, size, batch_first=True, bidirectional=True) for inputs in widths)
        self.norms = nn.ModuleList(_norm(config, 2 * size) for _ in widths)
        self.decodes = config.head in _DECODING_HEADS
        if self.decodes:
            self.bridge = nn.Linear(2 * size, size)
            self.decoder = Recurrent("lstm", width, config.model_copy(update={"num_layers": 1}))
            self.out = nn.Linear(size, 2 * size)
        self.residual, self.dropout = config.residual, _Dropout(config)
        self.size, self.encoding_size = size, 2 * size

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        """Return the forward output at the last step and the backward output at the first: (B, 2 hidden)."""
        for number, (layer, norm) in enumerate(zip(self.layers, self.norms, strict=True)):
            layer_input = self.dropout(x) if number else x
            out = norm(layer(layer_input)[0])
            x = out + x if self.residual and number else out
        encoding = torch.cat([x[:, -1, : self.size], x[:, 0, self.size :]], dim=1)
        if not self.decodes:
            return encoding, None
        hidden = torch.tanh(self.bridge(encoding))[None]
        return encoding, [(hidden, torch.zeros_like(hidden))]

    def decode(self, queries: Tensor, state: State) -> Tensor:
        """Take one step of the decoder for each query: (B, M, width) -> (B, M, 2 hidden)."""
        decoded: Tensor = self.out(self.decoder.decode(queries, state))
        return decoded

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Take one step of the decoder: (B, width) -> (B, 2 hidden), and the next state."""
        out, state = self.decoder.step(x, state)
        return self.out(out), state


class Transformer(nn.Module):
    """A pre-norm Transformer (Vaswani et al. 2017): the encoding is the encoder's last position."""

    def __init__(self, width: int, config: ModelConfig) -> None:
        """Build encoder and decoder with the most attention heads of 8, 4, 2, 1 that divide `hidden_size`."""
        super().__init__()
        size = config.hidden_size
        n_heads = next(n for n in (8, 4, 2, 1) if size % n == 0)
        options: Any = {"dropout": config.dropout, "batch_first": True, "norm_first": True}
        layer = nn.TransformerEncoderLayer(size, n_heads, 4 * size, **options)
        self.embed = nn.Linear(width, size)
        self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        if config.head in _DECODING_HEADS:
            self.decoder = nn.TransformerDecoderLayer(size, n_heads, 4 * size, **options)
        self.norm = _norm(config, size)
        self.register_buffer("position", _sinusoids(config.sequence_length // config.patch_length, size), False)
        self.encoding_size = size

    def forward(self, x: Tensor) -> tuple[Tensor, State]:
        """Return the encoding, (B, hidden), and the state: the encoder's output and the steps decoded so far."""
        out = self.norm(self.encoder(self.embed(x) + self.position))
        return out[:, -1], (out, out[:, :0])

    def decode(self, queries: Tensor, state: State) -> Tensor:
        """Let each query attend to the lookback and to itself: (B, M, width) -> (B, M, hidden)."""
        position = torch.arange(queries.shape[1], device=queries.device)
        others = position[:, None] != position  # not ~torch.eye: ONNX Runtime has none of booleans
        decoded: Tensor = self.decoder(self.embed(queries), state[0], tgt_mask=others)
        return decoded

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """Let a step attend to the lookback and to the steps before it: (B, width) -> (B, hidden)."""
        steps = torch.cat([state[1], self.embed(x)[:, None]], dim=1)
        return self.decoder(steps, state[0])[:, -1], (state[0], steps)  # the last step needs no causal mask


def make_cell(width: int, config: ModelConfig) -> Recurrent | Bidirectional | Transformer:
    """Return the cell that `config.cell` names, for inputs of `width` values a step."""
    if config.cell == "transformer":
        return Transformer(width, config)
    return Bidirectional(width, config) if config.cell == "bilstm" else Recurrent(config.cell, width, config)


class _Dropout(nn.Module):
    """Dropout between layers. Variational: one mask for all steps (Gal & Ghahramani 2016)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rate, self.variational = config.dropout, config.variational_dropout

    def forward(self, x: Tensor) -> Tensor:
        if not self.variational:
            return functional.dropout(x, self.rate, self.training)
        return x * functional.dropout(torch.ones_like(x[:, :1]), self.rate, self.training)


class _BatchNorm(nn.Module):
    """Batch normalization of (B, steps, size) over all steps of all windows."""

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


def _repeat(layer_state: Any, times: int) -> Any:
    """Repeat each row of a layer's state, (1, B, size) or a pair of them."""
    if isinstance(layer_state, tuple):
        return tuple(_repeat(part, times) for part in layer_state)
    return layer_state.repeat_interleave(times, dim=1)


def _sinusoids(steps: int, size: int) -> Tensor:
    angle = torch.arange(steps)[:, None] * torch.exp(-math.log(10000.0) * (torch.arange(size) // 2 * 2) / size)
    return torch.where(torch.arange(size) % 2 == 0, angle.sin(), angle.cos())
