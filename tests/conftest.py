"""Fixtures of all tests: a small table, local stores and a PostgreSQL server."""

import os
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import torch

from lstm.config.data import DataSpec
from tests.support.postgres import postgres_server
from tests.support.tables import DATA, make_hourly


@pytest.fixture(scope="session", autouse=True)
def one_torch_thread() -> None:
    """Limit torch to one thread, so that results don't depend on the number of cores."""
    torch.set_num_threads(1)


@pytest.fixture
def spec() -> DataSpec:
    """The data section for `hourly`."""
    return DataSpec.parse({**DATA, "calendar": {"features": ["hour"]}})


@pytest.fixture
def hourly() -> pd.DataFrame:
    """Two shops over 40 days: a daily wave with noise."""
    return make_hourly()


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """Host and port of a PostgreSQL server without tables."""
    with postgres_server() as address:
        yield address.partition("@")[2].partition("/")[0]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Local stores in the test's temporary folder."""
    from tasks.tracking import runs

    for name in list(os.environ):
        if name.startswith(("MLFLOW_", "PREFECT_")) and name.endswith(("_URI", "_URL")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("LSTM_HOME", str(tmp_path / "mlruns"))
    runs.client.cache_clear()
    yield tmp_path / "mlruns"
    runs.client.cache_clear()
