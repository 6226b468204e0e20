"""What the numbers that a network puts out for each step mean: a point, quantiles, or a distribution.

| loss      | numbers a step              | point forecast |
|-----------|-----------------------------|----------------|
| pinball   | one a level, never crossing | the median     |
| gaussian  | mean, standard deviation    | the mean       |
| student_t | location, scale, freedom    | the location   |
| any other | the value                   | the value      |
"""

import math
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lstm.config.model import ModelConfig

_SMALLEST = 1e-4  # of a standard deviation, on the normalised scale


def count(config: ModelConfig) -> int:
    """Numbers a step and target."""
    return {"pinball": len(config.levels), "gaussian": 2, "student_t": 3}.get(config.trained_loss, 1)


def point(config: ModelConfig) -> int:
    """Which of them is the point forecast."""
    return config.levels.index(0.5) if config.trained_loss == "pinball" else 0


def shaped(raw: Tensor, config: ModelConfig) -> Tensor:
    """Numbers that go together, (…, numbers): quantiles rise, spreads are positive, freedom is over 2."""
    if config.trained_loss == "pinball":
        steps = functional.softplus(raw[..., 1:]).unbind(-1)
        # No cumsum: CUDA has no deterministic one.
        return torch.stack(list(accumulate([raw[..., 0], *steps])), dim=-1)
    if config.trained_loss in ("gaussian", "student_t"):
        spread = functional.softplus(raw[..., 1:2]) + _SMALLEST
        return torch.cat([raw[..., :1], spread, 2 + functional.softplus(raw[..., 2:])], dim=-1)
    return raw


def placed(out: Tensor, base: Tensor, scale: Tensor, config: ModelConfig) -> Tensor:
    """From the window's own scale to that of the inputs: places are shifted and stretched, spreads stretched."""
    if config.trained_loss in ("gaussian", "student_t"):
        place, spread = base[..., None] + scale[..., None] * out[..., :1], scale[..., None] * out[..., 1:2]
        return torch.cat([place, spread, out[..., 2:]], dim=-1)
    return base[..., None] + scale[..., None] * out


def quantiles(out: np.ndarray, config: ModelConfig) -> np.ndarray:
    """The quantiles at `config.levels`, (…, levels), of what a network put out, (…, numbers)."""
    if config.trained_loss == "pinball":
        return out
    from scipy import stats

    levels = np.array(config.levels)
    place, spread = out[..., :1], out[..., 1:2]
    if config.trained_loss == "gaussian":
        return np.asarray(place + spread * stats.norm.ppf(levels), dtype=out.dtype)
    return np.asarray(place + spread * stats.t.ppf(levels, out[..., 2:3]), dtype=out.dtype)


def negative_log_likelihood(out: Tensor, actual: Tensor, config: ModelConfig) -> Tensor:
    """Of `actual` (…) under the normal or Student's t distribution that `out` (…, numbers) describes."""
    place, spread = out[..., 0], out[..., 1]
    z = (actual - place) / spread
    if config.trained_loss == "gaussian":
        return 0.5 * z.square() + spread.log() + 0.5 * math.log(2 * math.pi)
    freedom = out[..., 2]
    constant = torch.lgamma(freedom / 2) - torch.lgamma((freedom + 1) / 2) + 0.5 * (freedom * math.pi).log()
    return constant + spread.log() + (freedom + 1) / 2 * torch.log1p(z.square() / freedom)
