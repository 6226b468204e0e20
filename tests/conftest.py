"""Small data with known structure, and stores that vanish with the test."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from lstm.config.data import DataSpec, NormalizeSpec
from lstm.data.normalize import Statistics
from lstm.data.panel import Panel
from lstm.data.scaling import ALL, PanelNormalizer

ROOT = Path(__file__).resolve().parent.parent
DATA = {"source": "-", "time": "time", "series": "shop", "target": "sales", "observed": ["visitors"], "frequency": "1h"}


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Results that don't depend on the machine, and no spinning threads."""
    torch.set_num_threads(1)


@pytest.fixture
def spec() -> DataSpec:
    """The roles of `hourly`'s columns."""
    return DataSpec.parse({**DATA, "calendar": {"features": ["hour"]}})


@pytest.fixture
def hourly() -> pd.DataFrame:
    """Two shops with a daily wave and noise, 40 days."""
    return make_hourly()


def make_hourly(days: int = 40, shops: tuple[str, ...] = ("north", "south"), seed: int = 0) -> pd.DataFrame:
    """Long table: time (ISO, UTC), shop, sales, visitors."""
    random = np.random.default_rng(seed)
    hours = np.arange(days * 24)
    time = pd.date_range("2024-03-01", periods=len(hours), freq="h", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    parts = []
    for level, shop in enumerate(shops, start=1):
        wave = 10 * level + 3 * np.sin(2 * np.pi * hours / 24)
        visitors = wave + random.normal(0, 0.5, len(hours))
        parts.append(pd.DataFrame({"time": time, "shop": shop, "sales": visitors * 2, "visitors": visitors}))
    return pd.concat(parts, ignore_index=True)


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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Local stores of the test's own."""
    from tasks.tracking import runs

    for name in [
        name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_")) and name.endswith(("_URI", "_URL"))
    ]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LSTM_HOME", str(tmp_path / "mlruns"))
    runs.client.cache_clear()
    yield tmp_path / "mlruns"
    runs.client.cache_clear()
