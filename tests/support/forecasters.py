"""Forecasters with untrained networks, and edits of saved forecasters."""

import hashlib
import json

import numpy as np
import torch

from lstm import Forecaster
from lstm.config.model import ModelConfig
from lstm.config.preparation import NormalizeSpec
from lstm.data.normalize import Statistics
from lstm.data.panel import Panel, build_panel
from lstm.data.panel_store import PanelStore
from lstm.data.scaling import ALL_SERIES, PanelNormalizer
from lstm.data.table import canonicalize
from lstm.forecasting.conformal import Conformal
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint
from lstm.networks.network import ForecastNetwork


def fit_normalizer(panel: Panel, spec: NormalizeSpec | None = None) -> PanelNormalizer:
    """Fit a normalizer on all rows of a panel without static columns."""
    spec = spec or NormalizeSpec()
    values = panel.values[:, list(panel.layout.scaled)]
    if spec.log:
        values[:, : panel.layout.n_targets] = np.log(values[:, : panel.layout.n_targets])
    parts = [values] if spec.per == "all" else [values[panel.series == code] for code in range(len(panel.names))]
    statistics = [Statistics.of(part, quartiles=True) for part in parts]
    arrays = {name: np.stack([getattr(part, name) for part in statistics]) for name in ("mean", "std", "low", "high")}
    quartiles = np.stack([part.quartiles for part in statistics if part.quartiles is not None], axis=1)
    names = (ALL_SERIES,) if spec.per == "all" else panel.names
    return PanelNormalizer.fit(Statistics(**arrays, quartiles=quartiles, names=names), spec, panel.layout.n_targets)


def make_forecaster(spec, frame, per="series", targets=1, categories=None, normalize=None, **changes):
    """Return an ensemble of two untrained networks for the columns of `frame`; `changes` go to `ModelConfig`."""
    panel = build_panel(canonicalize(frame, spec), spec, categories)
    config = {"hidden_size": 8, "sequence_length": 24, "horizon": 6, "input_size": panel.values.shape[1]}
    members = tuple(
        ForecastNetwork(
            ModelConfig(**{**config, "output_size": targets, "anchor": "last", "seed": seed, **changes}),
            range(targets),
            panel.layout.n_known,
        ).eval()
        for seed in (1, 2)
    )
    errors = np.random.default_rng(0).normal(0, 0.3, (200, 6, targets))
    return Forecaster(
        name="shops",
        spec=spec,
        categories=categories or {},
        normalizer=fit_normalizer(panel, normalize or NormalizeSpec(per=per)),
        members=members,
        weights=(0.5, 0.5),
        method="mean",
        intervals=Conformal.fit(errors, np.zeros_like(errors)),
        lineage={"run_id": "none"},
    )


def untrained_forecaster(config, panel, seed=0, **changes):
    """Return a forecaster of one untrained network for a prepared panel."""
    store = PanelStore.load(panel.folder)
    sizes = {"input_size": len(store.columns), "output_size": 1, "horizon": 6, "hidden_size": 4, "seed": seed}
    network = ForecastNetwork(ModelConfig(sequence_length=24, **{**sizes, **changes}), range(1), store.n_known).eval()
    errors = np.random.default_rng(0).normal(size=(50, 6, 1))
    return Forecaster(
        name="shops",
        spec=config.data,
        categories=store.categories,
        normalizer=store.normalizer,
        members=(network,),
        weights=(1.0,),
        method="mean",
        intervals=Conformal.fit(errors, np.zeros_like(errors)),
        lineage={},
    )


def shift_forecasts(forecaster, by):
    """Add `by` (normalized) to every forecast, in place."""
    with torch.no_grad():
        forecaster.members[0].head.out.bias += by
    return forecaster


def rewrite_description(folder, change):
    """Rewrite forecaster.json with `change` (bytes, or a function of its content) and update its checksum."""
    tensors, meta = load_checkpoint(folder / "model.safetensors")
    state = json.loads((folder / "forecaster.json").read_text())
    content = change if isinstance(change, bytes) else json.dumps(change(state)).encode()
    (folder / "forecaster.json").write_bytes(content)
    meta["description_sha256"] = hashlib.sha256(content).hexdigest()
    save_checkpoint(folder / "model.safetensors", tensors, meta)


def change_entry(*place, value):
    """Return a change of the description that sets the entry at `place` to `value`."""

    def change(state):
        inner = state
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] = value
        return state

    return change
