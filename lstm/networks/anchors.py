"""Anchors: window normalization, what a window is centred on and what is added back to its forecast.

`last` is the subtract-the-last-value trick of NLinear (Zeng et al. 2023, arXiv:2205.13504); `mean` and
`standard` are reversible instance normalization without its affine part (Kim et al. 2022, RevIN);
`seasonal` and `gate` blend the last value with values one or more seasons back.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig


class Anchor(nn.Module):
    """Center and scale of the targets' past, and the base that is added to each step of the forecast."""

    _rows: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Build the anchor of `config`, whose `output_size` must be set."""
        super().__init__()
        self.name, self.season, self.horizon = config.anchor, config.season or 1, config.horizon
        if self.name == "seasonal":
            n_seasons = config.sequence_length // self.season
            weights = torch.zeros(n_seasons, math.ceil(config.horizon / self.season))
            weights[:7] = 0.05
            weights[0] += 0.3
            self.weights = nn.Parameter(weights)  # (seasons ago, season of the horizon)
        if self.name == "gate":
            lags = config.lags or (self.season,)
            self.register_buffer("_rows", lagged_rows(config, lags), persistent=False)
            self.gate = nn.Parameter(torch.zeros(1 + len(lags), config.horizon, config.output_size or 1))

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return center (B, 1, O), scale (B, 1, O) and base (B, horizon, O) for the targets' past (B, L, O)."""
        last = past[:, -1:]
        center = torch.zeros_like(last) if self.name == "none" else last
        scale = torch.ones_like(last)
        if self.name in ("mean", "standard"):
            center = past.mean(dim=1, keepdim=True)
        if self.name == "standard":
            scale = past.std(dim=1, keepdim=True, correction=0).clamp_min(1e-3)
        base = center.expand(-1, self.horizon, -1)
        if self.name == "seasonal":
            base = base + self._seasonal_blend(past - last)
        if self.name == "gate":
            weights = torch.softmax(self.gate, dim=0)[1:]  # (lags, horizon, O); the first is the last value's
            base = base + torch.einsum("kho,bhko->bho", weights, (past - last)[:, self._rows])
        return center, scale, base

    def _seasons(self, past: Tensor, count: int) -> Tensor:
        """Return the last `count` whole seasons, newest first, each in order of time: (B, count, season, O)."""
        batch, _, outputs = past.shape
        return past[:, -count * self.season :].reshape(batch, count, self.season, outputs).flip(1)

    def _seasonal_blend(self, past: Tensor) -> Tensor:
        seasons = self._seasons(past, self.weights.shape[0])
        blend = torch.einsum("km,bkso->bmso", self.weights, seasons)
        return blend.flatten(1, 2)[:, : self.horizon]  # (B, seasons * season, O) -> (B, horizon, O)


def lagged_rows(config: ModelConfig, lags: Sequence[int]) -> Tensor:
    """Return the row of the lookback that each step's lag refers to: (horizon, lags) int64.

    A lag that would reach into the horizon is multiplied until it lies in the lookback.
    """
    step = torch.arange(config.horizon)[:, None]
    lag = torch.tensor(lags, dtype=torch.int64)[None]
    return config.sequence_length + step - lag * (step // lag + 1)
