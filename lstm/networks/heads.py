"""Heads, which decode the steps ahead from a cell's encoding, behind one interface:

    head(encoding, state, ahead, series_embedding, actual)   # -> (B, horizon, n_outputs)

`encoding` (B, encoding_size) and `state` come from the cell. `ahead` (B, horizon, features) is what is known of each
step ahead: known covariates and lagged targets. `series_embedding` (B or 1, hidden) is the learned vector of the series
and channel. `actual` (B, horizon, targets) is for scheduled sampling in training alone.
"""

import math

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig
from lstm.networks.cells import Bidirectional, Recurrent, State, Transformer
from lstm.networks.outputs import constrain

Cell = Recurrent | Bidirectional | Transformer


class Direct(nn.Module):
    """One linear map from the encoding to all steps, plus a term from what is known of each step."""

    def __init__(self, config: ModelConfig, cell: Cell, features: int, n_outputs: int) -> None:
        """Build the head for `features` known values and `n_outputs` output values a step ahead."""
        super().__init__()
        size, hidden = cell.encoding_size, config.hidden_size
        self.shape, self.features = (config.horizon, n_outputs), features
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(size, config.horizon * n_outputs)
        if features:
            self.state_step = nn.Linear(size, hidden)
            self.known_step = nn.Linear(features, hidden, bias=False)
            self.position = nn.Parameter(torch.randn(config.horizon, hidden) * 0.02)
            self.known_out = nn.Linear(hidden, n_outputs)

    def forward(
        self, encoding: Tensor, _: State, ahead: Tensor, series_embedding: Tensor, actual: Tensor | None
    ) -> Tensor:
        """Return the raw outputs, (B, horizon, n_outputs)."""
        encoding = self.dropout(encoding)
        out: Tensor = self.out(encoding).view(-1, *self.shape)
        if self.features:
            step = torch.relu(self.state_step(encoding)[:, None] + self.known_step(ahead) + self.position)
            out = out + self.known_out(step)
        return out


class Parallel(nn.Module):
    """All patches of the horizon at once, each by one cell step from the state (Lin et al. 2023, SegRNN)."""

    def __init__(self, config: ModelConfig, cell: Cell, features: int, n_outputs: int) -> None:
        """Build the head: arguments as of `Direct`."""
        super().__init__()
        self.queries = _Queries(config, features, config.patch_length)
        self.cell = [cell]  # in a list: its weights belong to the network
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(cell.encoding_size, config.patch_length * n_outputs)
        self.shape = (config.horizon, n_outputs)

    def forward(
        self, _: Tensor, state: State, ahead: Tensor, series_embedding: Tensor, actual: Tensor | None
    ) -> Tensor:
        """Return the raw outputs, (B, horizon, n_outputs)."""
        decoded = self.cell[0].decode(self.queries(ahead, series_embedding), state)
        return _as_steps(self.out(self.dropout(decoded)), self.shape)


class BidirectionalDecoder(nn.Module):
    """A bidirectional LSTM over the steps ahead: each step sees what is known before and after it."""

    def __init__(self, config: ModelConfig, cell: Cell, features: int, n_outputs: int) -> None:
        """Build the head: arguments as of `Direct`."""
        super().__init__()
        hidden = config.hidden_size
        self.queries = _Queries(config, features, 1)
        self.start = nn.Linear(cell.encoding_size, 2 * hidden)
        self.stack = nn.LSTM(hidden, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(2 * hidden, n_outputs)

    def forward(
        self, encoding: Tensor, _: State, ahead: Tensor, series_embedding: Tensor, actual: Tensor | None
    ) -> Tensor:
        """Return the raw outputs, (B, horizon, n_outputs)."""
        hidden = torch.tanh(self.start(encoding)).view(encoding.shape[0], 2, -1).transpose(0, 1).contiguous()
        steps, _state = self.stack(self.queries(ahead, series_embedding), (hidden, torch.zeros_like(hidden)))
        out: Tensor = self.out(self.dropout(steps))
        return out


class Recursive(nn.Module):
    """Patch after patch, each fed with the forecast of the patch before it.

    In training a patch is fed with the actual values, or with the network's own forecast at the probability `sampling`,
    which rises from epoch to epoch: scheduled sampling (Bengio et al. 2015).
    """

    def __init__(
        self, config: ModelConfig, cell: Cell, features: int, n_outputs: int, n_targets: int, point_index: int
    ) -> None:
        """Build the head: `n_outputs` values a step are `n_targets` groups with the point forecast at `point_index`."""
        super().__init__()
        self.config, self.queries = config, _Queries(config, features, config.patch_length)
        self.cell, self.patch = [cell], config.patch_length
        self.feed = nn.Linear(config.patch_length * n_targets, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(cell.encoding_size, config.patch_length * n_outputs)
        self.shape, self.n_targets, self.point_index = (config.horizon, n_outputs), n_targets, point_index
        self.sampling = 0.0

    def forward(
        self, _: Tensor, state: State, ahead: Tensor, series_embedding: Tensor, actual: Tensor | None
    ) -> Tensor:
        """Return the raw outputs, (B, horizon, n_outputs).

        `actual`: (B, horizon, n_targets) on the scale of the outputs; NaN where nothing was measured.
        """
        queries = self.queries(ahead, series_embedding)
        batch, n_patches, _width = queries.shape
        truth = None if actual is None else _as_patches(actual, n_patches, self.patch)
        fed, patches = queries.new_zeros(batch, self.feed.in_features), []
        for number in range(n_patches):
            decoded, state = self.cell[0].step(queries[:, number] + self.feed(fed), state)
            patches.append(self.out(self.dropout(decoded)))
            params = constrain(patches[-1].view(batch, self.patch, self.n_targets, -1), self.config)
            forecast = params[..., self.point_index].flatten(1)
            fed = forecast if truth is None else self._sample(forecast, truth[:, number])
        return _as_steps(torch.stack(patches, dim=1), self.shape)

    def _sample(self, forecast: Tensor, truth: Tensor) -> Tensor:
        use_forecast = torch.rand(len(forecast), 1, device=forecast.device) < self.sampling
        return torch.where(use_forecast | torch.isnan(truth), forecast.detach(), truth)


def make_head(
    config: ModelConfig, cell: Cell, features: int, n_targets: int, n_params: int, point_index: int
) -> Direct | Parallel | BidirectionalDecoder | Recursive:
    """Return the head that `config.head` names, with `n_params` output values for each target and step."""
    if config.head == "recursive":
        return Recursive(config, cell, features, n_targets * n_params, n_targets, point_index)
    if config.head == "parallel":
        return Parallel(config, cell, features, n_targets * n_params)
    head = BidirectionalDecoder if config.head == "bidirectional" else Direct
    return head(config, cell, features, n_targets * n_params)


class _Queries(nn.Module):
    """Inputs of the decoder: position, series embedding, and what is known of the patch's steps."""

    def __init__(self, config: ModelConfig, features: int, patch: int) -> None:
        super().__init__()
        self.n_patches, self.patch = math.ceil(config.horizon / patch), patch
        self.position = nn.Parameter(torch.randn(self.n_patches, config.hidden_size) * 0.02)
        self.known = nn.Linear(features * patch, config.hidden_size) if features else None

    def forward(self, ahead: Tensor, series_embedding: Tensor) -> Tensor:
        """Return the queries: (B, horizon, features), (B or 1, hidden) -> (B, M, hidden)."""
        queries = (self.position + series_embedding[:, None]).expand(ahead.shape[0], -1, -1)
        return queries if self.known is None else queries + self.known(_as_patches(ahead, self.n_patches, self.patch))


def _as_patches(x: Tensor, n_patches: int, patch: int) -> Tensor:
    """Reshape (B, horizon, F) to (B, n_patches, patch * F); the last step is repeated to fill the last patch."""
    missing = n_patches * patch - x.shape[1]
    if missing:
        x = torch.cat([x, x[:, -1:].expand(-1, missing, -1)], dim=1)
    return x.reshape(x.shape[0], n_patches, -1)


def _as_steps(out: Tensor, shape: tuple[int, int]) -> Tensor:
    """Reshape (B, M, patch * n_outputs) to (B, horizon, n_outputs)."""
    horizon, n_outputs = shape
    return out.reshape(out.shape[0], -1, n_outputs)[:, :horizon]
