"""Small networks of every cell, head and anchor, and batches for them."""

import hashlib

import numpy as np
import torch

from lstm.config.model import ModelConfig
from lstm.data.origins import window_origins
from lstm.data.windows import Windows
from lstm.networks import outputs
from lstm.networks.network import ForecastNetwork

# Inputs: two targets, one observed covariate, one that is known ahead; horizon 5 is no multiple of any patch here.
BASE = {"hidden_size": 16, "sequence_length": 12, "horizon": 5, "season": 4, "input_size": 4, "output_size": 2}
TARGETS, OBSERVED = [0, 1], 2
N_SERIES = 3

_CELLS = ("lstm", "gru", "bilstm", "transformer")
_HEADS = ("direct", "parallel", "bidirectional", "recursive")
VARIANTS = {
    **{f"{cell}-{head}": {"cell": cell, "head": head, "num_layers": 1} for cell in _CELLS for head in _HEADS},
    "last-patches": {"anchor": "last", "patch_length": 4},
    "seasonal-patches": {"anchor": "seasonal", "patch_length": 2},
    "gate": {"anchor": "gate"},
    "gate-lags": {"anchor": "gate", "lags": (4, 7)},
    "mean-gru-patches": {"anchor": "mean", "cell": "gru", "patch_length": 3},
    "standard": {"anchor": "standard"},
    "channels": {"channel_independent": True},
    "channels-parallel-lags": {"channel_independent": True, "head": "parallel", "lags": (1, 4)},
    "channels-series-recursive": {"channel_independent": True, "series_embedding": True, "head": "recursive"},
    "series": {"series_embedding": True},
    "series-parallel": {"series_embedding": True, "head": "parallel", "anchor": "last"},
    "residual": {"residual": True, "num_layers": 3},
    "variational": {"variational_dropout": True},
    "layer-norm": {"layer_norm": True},
    "batch-norm": {"batch_norm": True},
    "quantiles": {"quantiles": (0.1, 0.5, 0.9)},
    "gaussian": {"loss": "gaussian"},
    "student": {"loss": "student_t", "anchor": "standard"},
    "mase": {"loss": "mase", "anchor": "last"},
    "strong": {"head": "parallel", "channel_independent": True, "anchor": "seasonal", "patch_length": 3},
    "recursive-quantiles": {
        "head": "recursive",
        "quantiles": (0.1, 0.5, 0.9),
        "anchor": "seasonal",
        "patch_length": 2,
        "num_layers": 1,
    },
    "recursive-student": {
        "head": "recursive",
        "loss": "student_t",
        "anchor": "gate",
        "channel_independent": True,
        "lags": (4,),
        "num_layers": 1,
    },
    "parallel-standard-patches": {"head": "parallel", "anchor": "standard", "patch_length": 3, "lags": (4,)},
    "bilstm-bidirectional-residual": {
        "cell": "bilstm",
        "head": "bidirectional",
        "residual": True,
        "layer_norm": True,
        "loss": "gaussian",
        "anchor": "last",
    },
    "transformer-recursive-patches": {
        "cell": "transformer",
        "head": "recursive",
        "anchor": "mean",
        "patch_length": 4,
        "num_layers": 1,
    },
}


def network_of(**changes):
    """Return a network in evaluation mode: `BASE` with `changes`."""
    config = ModelConfig(**{**BASE, **changes})
    return ForecastNetwork(config, TARGETS, n_known=1, n_series=N_SERIES if config.series_embedding else 0).eval()


def batch(size=3, seed=0):
    """Return a random batch: past (size, 12, 4), known (size, 5, 1) and series numbers (size,)."""
    generator = torch.Generator().manual_seed(seed)
    past, known = torch.randn(size, 12, 4, generator=generator), torch.randn(size, 5, 1, generator=generator)
    return past, known, torch.arange(size) % N_SERIES + 1


def actual_of(size=3, seed=9):
    """Return random true values (size, horizon, targets)."""
    return torch.randn(size, 5, 2, generator=torch.Generator().manual_seed(seed))


def point_of(network, out):
    """Return the point forecast in a network's output."""
    return out[..., outputs.point_index(network.config)]


def weights(network):
    """Return all weights as one vector."""
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


def mixed_windows(rows=120):
    """Return windows of three series with two targets, an observed and a known covariate."""
    features = torch.randn(rows, 4, generator=torch.Generator().manual_seed(5)).cumsum(dim=0) / 5
    series = torch.arange(rows) // (rows // 3) + 1
    return Windows(features, features[:, :2].contiguous(), torch.arange(12, rows - 5), 12, 5, 1, series)


def wave_windows(rows=300, noise=0.0, seed=0):
    """Return windows of 12 rows and 3 steps ahead over a sine with noise."""
    t = np.arange(rows)
    values = np.sin(t / 4) + np.random.default_rng(seed).normal(0, noise, rows) if noise else np.sin(t / 4)
    features = torch.tensor(values, dtype=torch.float32)[:, None]
    return Windows(features, features, torch.from_numpy(window_origins(np.zeros(rows, int), 12, 3)), 12, 3)


def wave_network(**changes):
    """Return a network for `wave_windows`, with `changes`."""
    values = {"hidden_size": 12, "sequence_length": 12, "horizon": 3, "input_size": 1, "output_size": 1, "epochs": 3}
    return ForecastNetwork(ModelConfig(**{"device": "cpu", **values, **changes}), [0])


def digests():
    """Return the sha256 of each variant's forecast, to compare processes."""
    with torch.inference_mode():
        outs = {name: network_of(**changes)(*batch()) for name, changes in VARIANTS.items()}
    return {name: hashlib.sha256(out.numpy().tobytes()).hexdigest() for name, out in outs.items()}
