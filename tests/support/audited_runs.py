"""Runs for the leakage audit and the diagnosis: from raw rows to an untrained forecaster."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm import Forecaster
from lstm.config.data import DataSpec
from lstm.config.model import ModelConfig
from lstm.config.preparation import NormalizeSpec, SplitSpec
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table, ingest_table
from lstm.data.panel_store import PanelStore, write_panel, write_splits
from lstm.data.splits import compute_cuts
from lstm.diagnostics.leakage import audit_leakage
from lstm.networks.network import ForecastNetwork
from tests.support.tables import DATA, make_hourly

LOOKBACK, HORIZON = 24, 6


@dataclass(frozen=True)
class Run:
    """The parts of a training run that the audit reads."""

    forecaster: Forecaster
    table: Table
    panel: PanelStore
    splits: dict[str, SplitArrays]
    normalize: NormalizeSpec

    def audit(self):
        return audit_leakage(self.forecaster, self.table, self.panel, self.splits, self.normalize)


def make_run(frame, folder, normalize=None, left_out=(), **changes):
    """Ingest, normalize and window a frame; add a forecaster of two untrained networks."""
    normalize = normalize or NormalizeSpec()
    spec = DataSpec.parse({**DATA, "source": str(folder / "table.parquet"), **changes})
    frame.to_parquet(spec.source)
    table = ingest_table(spec, folder, folder)
    frequency = spec.grid
    split = SplitSpec(validation=0.15, test=0.15)
    cuts = compute_cuts(pd.Timestamp(table.first), pd.Timestamp(table.last), frequency, split)
    for name in ("panel", "windows"):
        (folder / name).mkdir(exist_ok=True)
    write_panel(table, spec, normalize, cuts, folder / "panel")
    panel = PanelStore.load(folder / "panel")
    write_splits(panel, LOOKBACK, folder / "windows")
    targets = len(spec.target)
    config = {"hidden_size": 8, "sequence_length": LOOKBACK, "horizon": HORIZON, "anchor": "last"}
    config |= {"input_size": len(panel.columns), "output_size": targets}
    forecaster = Forecaster(
        name="shops",
        spec=spec,
        categories=panel.categories,
        normalizer=panel.normalizer,
        members=tuple(
            ForecastNetwork(ModelConfig(**config, seed=seed), range(targets), panel.n_known).eval() for seed in (1, 2)
        ),
        weights=(0.5, 0.5),
        method="mean",
        intervals=None,  # an audit looks at points
        lineage={},
        left_out=left_out,
    )
    splits = {name: SplitArrays.load(folder / "windows" / name) for name in cuts.spans}
    return Run(forecaster, table, panel, splits, normalize)


def make_gappy(seed=0, **columns):
    """Return two shops over 40 days with noise, missing values, and gaps of three hours."""
    random = np.random.default_rng(seed)
    frame = make_hourly(seed=seed).assign(**columns)
    frame["sales"] += random.normal(0, 1, len(frame))
    for name in ("sales", "visitors"):
        rows = random.integers(0, len(frame), 60)
        frame.loc[np.r_[rows, rows[:20] + 1, rows[:20] + 2] % len(frame), name] = np.nan
    return frame
