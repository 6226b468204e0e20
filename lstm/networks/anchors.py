"""Window normalisation: what a window is centred on, and what is added back to its forecast.

`last` is the subtract-the-last-value trick of NLinear (Zeng et al. 2023, arXiv:2205.13504); `mean` and
`standard` are reversible instance normalisation without its affine part (Kim et al. 2022, RevIN);
`seasonal` and `gate` blend the last value with values one or more seasons back.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig


class Anchor(nn.Module):
    """Center and scale the targets' past, and tell what to add to each step of the forecast."""

    _rows: Tensor

    def __init__(self, config: ModelConfig) -> None:
        """Make the anchor of `config`; `output_size` must be set."""
        super().__init__()
        self.kind, self.season, self.horizon = config.anchor, config.season or 1, config.horizon
        if self.kind == "seasonal":
            back = config.sequence_length // self.season
            weights = torch.zeros(back, math.ceil(config.horizon / self.season))
            weights[:7] = 0.05
            weights[0] += 0.3
            self.weights = nn.Parameter(weights)  # (seasons back, season of the horizon)
        if self.kind == "gate":
            lags = config.lags or (self.season,)
            self.register_buffer("_rows", lagged_rows(config, lags), persistent=False)
            self.gate = nn.Parameter(torch.zeros(1 + len(lags), config.horizon, config.output_size or 1))

    def forward(self, past: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Center (B, 1, O), scale (B, 1, O) and base (B, horizon, O) for targets' past (B, L, O)."""
        last = past[:, -1:]
        center = torch.zeros_like(last) if self.kind == "none" else last
        scale = torch.ones_like(last)
        if self.kind in ("mean", "standard"):
            center = past.mean(dim=1, keepdim=True)
        if self.kind == "standard":
            scale = past.std(dim=1, keepdim=True, correction=0).clamp_min(1e-3)
        base = center.expand(-1, self.horizon, -1)
        if self.kind == "seasonal":
            base = base + self._seasonal(past - last)
        if self.kind == "gate":
            shares = torch.softmax(self.gate, dim=0)[1:]  # (lags, horizon, O); the rest is the last value's
            base = base + torch.einsum("kho,bhko->bho", shares, (past - last)[:, self._rows])
        return center, scale, base

    def _phases(self, past: Tensor, back: int) -> Tensor:
        """(B, back, season, O): the last `back` whole seasons, newest first, each in order of time."""
        batch, _, outputs = past.shape
        return past[:, -back * self.season :].reshape(batch, back, self.season, outputs).flip(1)

    def _seasonal(self, past: Tensor) -> Tensor:
        phases = self._phases(past, self.weights.shape[0])
        blend = torch.einsum("km,bkso->bmso", self.weights, phases)
        return blend.flatten(1, 2)[:, : self.horizon]  # (B, seasons * season, O) -> (B, horizon, O)


def lagged_rows(config: ModelConfig, lags: Sequence[int]) -> Tensor:
    """Which row of the look-back lies `lag` steps, or the least multiple of them, before a step: (horizon, lags)."""
    step = torch.arange(config.horizon)[:, None]
    lag = torch.tensor(lags, dtype=torch.int64)[None]
    return config.sequence_length + step - lag * (step // lag + 1)
