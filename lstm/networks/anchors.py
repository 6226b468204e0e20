"""Window normalisation: what a window is centred on, and what is added back to its forecast.

`last` is the subtract-the-last-value trick of NLinear (Zeng et al. 2023, arXiv:2205.13504); `mean` and
`standard` are reversible instance normalisation without its affine part (Kim et al. 2022, RevIN);
`seasonal` and `gate` blend the last value with the values one or more seasons back.
"""

import math

import torch
from torch import Tensor, nn

from lstm.config import ModelConfig


class Anchor(nn.Module):
    """Center and scale the targets' past, and tell what to add to each step of the forecast."""

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
            self.gate = nn.Parameter(torch.zeros(config.horizon, config.output_size or 1))

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
            season = self._phases(past, 1)[:, 0].repeat(1, math.ceil(self.horizon / self.season), 1)
            base = base + torch.sigmoid(self.gate) * (season[:, : self.horizon] - last)
        return center, scale, base

    def _phases(self, past: Tensor, back: int) -> Tensor:
        """(B, back, season, O): the last `back` whole seasons, newest first, each in order of time."""
        batch, _, outputs = past.shape
        return past[:, -back * self.season :].reshape(batch, back, self.season, outputs).flip(1)

    def _seasonal(self, past: Tensor) -> Tensor:
        phases = self._phases(past, self.weights.shape[0])
        blend = torch.einsum("km,bkso->bmso", self.weights, phases)
        return blend.flatten(1, 2)[:, : self.horizon]  # (B, seasons * season, O) -> (B, horizon, O)
