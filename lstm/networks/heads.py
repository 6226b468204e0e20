"""How the steps ahead are decoded, behind one interface:

    head(state, memory, ahead, identity, actual)   # -> (B, horizon, numbers)

`state` (B, state_size) and `memory` come from the cell; `ahead` (B, horizon, features) is what is known of each step
ahead: known covariates at the very step, and lagged targets; `identity` (B, hidden) tells channels and series apart.
"""

import math

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig
from lstm.networks.cells import Attentive, Bidirectional, Memory, Recurrent
from lstm.networks.outputs import shaped

Cell = Recurrent | Bidirectional | Attentive


class Direct(nn.Module):
    """One linear map from the state to all steps. What is known of a step adds to that step."""

    def __init__(self, config: ModelConfig, cell: Cell, features: int, numbers: int) -> None:
        """Build it for `features` known of each step ahead, and `numbers` to be put out a step."""
        super().__init__()
        size, hidden = cell.state_size, config.hidden_size
        self.shape, self.features = (config.horizon, numbers), features
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(size, config.horizon * numbers)
        if features:
            self.state_step = nn.Linear(size, hidden)
            self.known_step = nn.Linear(features, hidden, bias=False)
            self.position = nn.Parameter(torch.randn(config.horizon, hidden) * 0.02)
            self.known_out = nn.Linear(hidden, numbers)

    def forward(self, state: Tensor, _: Memory, ahead: Tensor, identity: Tensor, actual: Tensor | None) -> Tensor:
        """(B, horizon, numbers)."""
        state = self.dropout(state)
        out: Tensor = self.out(state).view(-1, *self.shape)
        if self.features:
            step = torch.relu(self.state_step(state)[:, None] + self.known_step(ahead) + self.position)
            out = out + self.known_out(step)
        return out


class Parallel(nn.Module):
    """All patches of the horizon at once, each by one cell step from the state (Lin et al. 2023, SegRNN)."""

    def __init__(self, config: ModelConfig, cell: Cell, features: int, numbers: int) -> None:
        """As `Direct`."""
        super().__init__()
        self.queries = _Queries(config, features, config.patch_length)
        self.cell = [cell]  # in a list: its weights belong to the network
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(cell.state_size, config.patch_length * numbers)
        self.shape = (config.horizon, numbers)

    def forward(self, _: Tensor, memory: Memory, ahead: Tensor, identity: Tensor, actual: Tensor | None) -> Tensor:
        """(B, horizon, numbers)."""
        answers = self.cell[0].answer(self.queries(ahead, identity), memory)
        return _steps(self.out(self.dropout(answers)), self.shape)


class BothWays(nn.Module):
    """An LSTM over the steps ahead in both directions: each step sees what is known before and after it."""

    def __init__(self, config: ModelConfig, cell: Cell, features: int, numbers: int) -> None:
        """As `Direct`."""
        super().__init__()
        hidden = config.hidden_size
        self.queries = _Queries(config, features, 1)
        self.start = nn.Linear(cell.state_size, 2 * hidden)
        self.stack = nn.LSTM(hidden, hidden, batch_first=True, bidirectional=True)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(2 * hidden, numbers)

    def forward(self, state: Tensor, _: Memory, ahead: Tensor, identity: Tensor, actual: Tensor | None) -> Tensor:
        """(B, horizon, numbers)."""
        hidden = torch.tanh(self.start(state)).view(state.shape[0], 2, -1).transpose(0, 1).contiguous()
        steps, _ends = self.stack(self.queries(ahead, identity), (hidden, torch.zeros_like(hidden)))
        out: Tensor = self.out(self.dropout(steps))
        return out


class Recursive(nn.Module):
    """Patch after patch, each fed with the forecast before it.

    In training it is fed with what really came, and with its own forecast for a share of the patches that rises from
    epoch to epoch: scheduled sampling (Bengio et al. 2015). `sampling` is that share.
    """

    def __init__(self, config: ModelConfig, cell: Cell, features: int, numbers: int, outputs: int, point: int) -> None:
        """As `Direct`; of `numbers`, `outputs` groups have their point forecast at place `point`."""
        super().__init__()
        self.config, self.queries = config, _Queries(config, features, config.patch_length)
        self.cell, self.patch = [cell], config.patch_length
        self.feed = nn.Linear(config.patch_length * outputs, config.hidden_size)
        self.dropout = nn.Dropout(config.dropout)
        self.out = nn.Linear(cell.state_size, config.patch_length * numbers)
        self.shape, self.outputs, self.point, self.sampling = (config.horizon, numbers), outputs, point, 0.0

    def forward(self, _: Tensor, memory: Memory, ahead: Tensor, identity: Tensor, actual: Tensor | None) -> Tensor:
        """(B, horizon, numbers); `actual`: (B, horizon, outputs) on the scale of what is put out, NaN: not measured."""
        queries = self.queries(ahead, identity)
        batch, count, _width = queries.shape
        truth = None if actual is None else _patches(actual, count, self.patch)
        fed, parts = queries.new_zeros(batch, self.feed.in_features), []
        for number in range(count):
            answer, memory = self.cell[0].step(queries[:, number] + self.feed(fed), memory)
            parts.append(self.out(self.dropout(answer)))
            own = shaped(parts[-1].view(batch, self.patch, self.outputs, -1), self.config)[..., self.point].flatten(1)
            fed = own if truth is None else self._sampled(own, truth[:, number])
        return _steps(torch.stack(parts, dim=1), self.shape)

    def _sampled(self, own: Tensor, truth: Tensor) -> Tensor:
        by_itself = torch.rand(len(own), 1, device=own.device) < self.sampling
        return torch.where(by_itself | torch.isnan(truth), own.detach(), truth)


def make_head(
    config: ModelConfig, cell: Cell, features: int, outputs: int, numbers: int, point: int
) -> Direct | Parallel | BothWays | Recursive:
    """The head that `config.head` names, putting out `numbers` for each of `outputs` targets a step."""
    if config.head == "recursive":
        return Recursive(config, cell, features, outputs * numbers, outputs, point)
    if config.head == "parallel":
        return Parallel(config, cell, features, outputs * numbers)
    kind = BothWays if config.head == "bidirectional" else Direct
    return kind(config, cell, features, outputs * numbers)


class _Queries(nn.Module):
    """What is asked of the decoder: position, identity, and what is known of the patch's steps."""

    def __init__(self, config: ModelConfig, features: int, patch: int) -> None:
        super().__init__()
        self.count, self.patch = math.ceil(config.horizon / patch), patch
        self.position = nn.Parameter(torch.randn(self.count, config.hidden_size) * 0.02)
        self.known = nn.Linear(features * patch, config.hidden_size) if features else None

    def forward(self, ahead: Tensor, identity: Tensor) -> Tensor:
        """(B, horizon, features), (B or 1, hidden) -> (B, M, hidden)."""
        queries = (self.position + identity[:, None]).expand(ahead.shape[0], -1, -1)
        return queries if self.known is None else queries + self.known(_patches(ahead, self.count, self.patch))


def _patches(x: Tensor, count: int, patch: int) -> Tensor:
    """(B, horizon, F) -> (B, count, patch * F); the last step is repeated to fill the last patch."""
    missing = count * patch - x.shape[1]
    if missing:
        x = torch.cat([x, x[:, -1:].expand(-1, missing, -1)], dim=1)
    return x.reshape(x.shape[0], count, -1)


def _steps(out: Tensor, shape: tuple[int, int]) -> Tensor:
    """(B, M, patch * numbers) -> (B, horizon, numbers)."""
    horizon, numbers = shape
    return out.reshape(out.shape[0], -1, numbers)[:, :horizon]
