"""Forecasters of untrained networks, and changes of what is stored of them."""

import numpy as np

from lstm import Forecaster
from lstm.config.data import NormalizeSpec
from lstm.config.model import ModelConfig
from lstm.data.normalize import Statistics
from lstm.data.panel import Panel, build_panel
from lstm.data.scaling import ALL, PanelNormalizer
from lstm.data.table import canonical
from lstm.forecasting.conformal import Conformal
from lstm.networks.network import ForecastNetwork


def normalizer_of(panel: Panel, spec: NormalizeSpec | None = None) -> PanelNormalizer:
    """Fitted on all rows of a panel, which has no static column."""
    spec = spec or NormalizeSpec()
    values = panel.values[:, list(panel.layout.scaled)]
    if spec.log:
        values[:, : panel.layout.n_targets] = np.log(values[:, : panel.layout.n_targets])
    parts = [values] if spec.per == "all" else [values[panel.series == code] for code in range(len(panel.names))]
    found = [Statistics.of(part, quartiles=True) for part in parts]
    arrays = {name: np.stack([getattr(one, name) for one in found]) for name in ("mean", "std", "low", "high")}
    quartiles = np.stack([one.quartiles for one in found if one.quartiles is not None], axis=1)
    names = (ALL,) if spec.per == "all" else panel.names
    return PanelNormalizer.fit(Statistics(**arrays, quartiles=quartiles, names=names), spec, panel.layout.n_targets)


def make_forecaster(spec, frame, per="series", targets=1, levels=None, normalize=None, **changes):
    panel = build_panel(canonical(frame, spec), spec, levels)
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
        levels=levels or {},
        normalizer=normalizer_of(panel, normalize or NormalizeSpec(per=per)),
        members=members,
        weights=(0.5, 0.5),
        method="mean",
        intervals=Conformal.fit(errors, np.zeros_like(errors)),
        lineage={"run_id": "none"},
    )
