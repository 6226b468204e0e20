"""The forecasting network: look-back in, all steps of the horizon out at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstm.config import ModelConfig
from lstm.networks.anchors import Anchor
from lstm.networks.cells import make_cell


class ForecastNetwork(nn.Module):
    """Anchor, patches, cell, and a direct head that decodes the state which saw every observation.

    With known covariates the head adds, for each step ahead, what is known of that very step.
    """

    def __init__(self, config: ModelConfig, target_columns: Sequence[int] = (), n_known: int = 0) -> None:
        """Build the layers with weights drawn from `config.seed`; the global generator is left alone.

        Args:
            config: with `input_size` and `output_size` set.
            target_columns: which inputs hold the targets' own past, in the targets' order; needed by
                every anchor but `none`.
            n_known: how many of the last inputs are known for the horizon too.
        """
        super().__init__()
        assert config.input_size and config.output_size
        self.config, self.n_known = config, n_known
        self.target_columns = list(target_columns)
        self.outputs, self.levels = config.output_size, len(config.quantiles or (0.5,))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            self._build(config)

    def _build(self, config: ModelConfig) -> None:
        width = (config.input_size or 0) * config.patch_length
        self.anchor = Anchor(config)
        self.patches = (
            nn.Sequential(nn.Linear(width, config.hidden_size), nn.ReLU()) if config.patch_length > 1 else None
        )
        self.cell = make_cell(config.hidden_size if self.patches else width, config)
        size = self.cell.state_size
        self.norm = _state_norm(config, size)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(size, config.horizon * self.outputs * self.levels)
        if self.n_known:
            self.state_step = nn.Linear(size, config.hidden_size)
            self.known_step = nn.Linear(self.n_known, config.hidden_size, bias=False)
            self.step = nn.Parameter(torch.randn(config.horizon, config.hidden_size) * 0.02)
            self.known_head = nn.Linear(config.hidden_size, self.outputs * self.levels)

    def forward(self, past: Tensor, known: Tensor) -> Tensor:
        """Forecast.

        Args:
            past: (B, sequence_length, input_size).
            known: (B, horizon, n_known), the last inputs' values at the steps ahead.

        Returns:
            (B, horizon, output_size, levels); levels = 1, or the number of quantiles, rising along the axis.
        """
        batch, length, _ = past.shape
        center, scale, base = self._anchored(past)
        if self.config.anchor != "none":
            past = past.clone()
            past[..., self.target_columns] = (past[..., self.target_columns] - center) / scale
        if self.patches is not None:
            # (B, L, F) -> (B, L / P, P * F)
            past = self.patches(past.reshape(batch, length // self.config.patch_length, -1))
        state = self.dropout(self.norm(self.cell(past)))  # (B, state)
        out = self.head(state).view(batch, self.config.horizon, self.outputs, self.levels)
        if self.n_known:
            ahead = torch.relu(self.state_step(state)[:, None] + self.known_step(known) + self.step)
            out = out + self.known_head(ahead).view_as(out)
        if self.levels > 1:
            out = _without_crossing(out)
        return base[..., None] + scale[..., None] * out

    def _anchored(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if self.config.anchor == "none":
            zero = past.new_zeros(1, 1, 1)
            return zero, zero + 1, zero
        center, scale, base = self.anchor(past[..., self.target_columns])
        return center, scale, base


def _state_norm(config: ModelConfig, size: int) -> nn.Module:
    if config.layer_norm:
        return nn.LayerNorm(size)
    return nn.BatchNorm1d(size) if config.batch_norm else nn.Identity()


def _without_crossing(out: Tensor) -> Tensor:
    """Quantiles in order: the lowest as it is, each further one a non-negative step above."""
    steps = nn.functional.softplus(out[..., 1:])
    return torch.cat([out[..., :1], out[..., :1] + steps.cumsum(dim=-1)], dim=-1)
