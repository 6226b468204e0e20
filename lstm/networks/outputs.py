"""Outputs of a network for each step and target: a point, quantiles, or parameters of a distribution.

| loss      | params a step                       | point forecast |
|-----------|-------------------------------------|----------------|
| pinball   | one a level, never crossing         | the median     |
| gaussian  | mean, standard deviation            | the mean       |
| student_t | location, scale, degrees of freedom | the location   |
| any other | the value                           | the value      |
"""

import math
from itertools import accumulate

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lstm.config.model import LIKELIHOODS, ModelConfig

_MIN_SCALE = 1e-4  # on the normalized scale


def n_params(config: ModelConfig) -> int:
    """Return the number of output values for each step and target."""
    return {"pinball": len(config.levels), "gaussian": 2, "student_t": 3}.get(config.trained_loss, 1)


def point_index(config: ModelConfig) -> int:
    """Return the index of the point forecast among the params."""
    return config.levels.index(0.5) if config.trained_loss == "pinball" else 0


def constrain(raw: Tensor, config: ModelConfig) -> Tensor:
    """Map raw outputs (…, n_params) to valid params: rising quantiles, scale > 0, degrees of freedom > 2."""
    if config.trained_loss == "pinball":
        steps = functional.softplus(raw[..., 1:]).unbind(-1)
        # No cumsum: CUDA has no deterministic one.
        return torch.stack(list(accumulate([raw[..., 0], *steps])), dim=-1)
    if config.trained_loss in LIKELIHOODS:
        scale = functional.softplus(raw[..., 1:2]) + _MIN_SCALE
        return torch.cat([raw[..., :1], scale, 2 + functional.softplus(raw[..., 2:])], dim=-1)
    return raw


def rescale(params: Tensor, base: Tensor, scale: Tensor, config: ModelConfig) -> Tensor:
    """Map params (B, H, O, n_params) from the anchored scale of a window to that of its inputs.

    `base` (B, H, O) is added to values and locations; `scale` (B, 1, O) multiplies them and the scales of
    distributions. Degrees of freedom stay.
    """
    if config.trained_loss in LIKELIHOODS:
        loc, spread = base[..., None] + scale[..., None] * params[..., :1], scale[..., None] * params[..., 1:2]
        return torch.cat([loc, spread, params[..., 2:]], dim=-1)
    return base[..., None] + scale[..., None] * params


def quantiles(params: np.ndarray, config: ModelConfig) -> np.ndarray:
    """Return the quantiles at `config.levels`, (…, levels), of a network's output, (…, n_params)."""
    if config.trained_loss == "pinball":
        return params
    from scipy import stats

    levels = np.array(config.levels)
    loc, scale = params[..., :1], params[..., 1:2]
    if config.trained_loss == "gaussian":
        return np.asarray(loc + scale * stats.norm.ppf(levels), dtype=params.dtype)
    return np.asarray(loc + scale * stats.t.ppf(levels, params[..., 2:3]), dtype=params.dtype)


def negative_log_likelihood(params: Tensor, actual: Tensor, config: ModelConfig) -> Tensor:
    """Return -log density of `actual` (…) under the normal or Student's t distribution with `params` (…, n_params)."""
    loc, scale = params[..., 0], params[..., 1]
    z = (actual - loc) / scale
    if config.trained_loss == "gaussian":
        return 0.5 * z.square() + scale.log() + 0.5 * math.log(2 * math.pi)
    df = params[..., 2]
    constant = torch.lgamma(df / 2) - torch.lgamma((df + 1) / 2) + 0.5 * (df * math.pi).log()
    return constant + scale.log() + (df + 1) / 2 * torch.log1p(z.square() / df)
