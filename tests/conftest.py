"""Small data with known structure, and stores that vanish with the test."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from lstm.config.data import DataSpec
from tests.support.tables import DATA, make_hourly


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
