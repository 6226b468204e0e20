"""Fixtures: a working directory with a good table and configuration, and the command in this process."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import yaml

from flows.services import prefect_server
from lstm.config.data import DataSpec
from lstm.config.model import ModelConfig
from lstm.data.panel import build_panel
from lstm.data.table import canonicalize
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.forecaster import Forecaster
from lstm.networks.network import ForecastNetwork
from tests.bad_inputs.case import Case
from tests.bad_inputs.tables import BASE, csv, frame, write_files
from tests.support.forecasters import fit_normalizer


@dataclass(frozen=True)
class Done:
    """Exit code and output of a command."""

    code: int
    out: str
    err: str


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with local stores, in which no Prefect server may be started."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "LSTM_", "SALES_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("LSTM_HOME", str(tmp_path / "mlruns"))
    monkeypatch.setattr(prefect_server, "start", lambda *_, **__: pytest.fail("a Prefect server is started"))
    monkeypatch.setenv("PREFECT_LOGGING_LEVEL", "CRITICAL")  # which the command sets, and would leave behind
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Iterator[Callable[..., Done]]:
    """Run `flows.cli.app.main` with the given arguments in this process."""
    from flows.cli.app import main

    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["lstm", *arguments])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        return Done(int(str(ended.value.code or 0)), *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def spoil(place: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the files of a case and set its environment variables."""

    def write(case: Case, hours: int = 24, **sections: object) -> None:
        for name, value in case.environment.items():
            monkeypatch.setenv(name, value)
        write_files(place, {"sales.csv": csv(frame(hours)), **case.files})
        data = {key: value for key, value in {**BASE, **case.data}.items() if value is not None}
        values = {"name": "sales", "data": data, **sections, **case.sections}
        write_files(place, {"sales.yaml": yaml.safe_dump(values) if case.text is None else case.text})

    return write


@pytest.fixture(scope="session")
def saved_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of the good table with a lookback of 24 steps and a horizon of 6."""
    spec = DataSpec.parse(BASE)
    table = frame(240)
    panel = build_panel(canonicalize(table, spec), spec)
    sizes = {"hidden_size": 4, "num_layers": 1, "sequence_length": 24, "horizon": 6}
    config = ModelConfig(**sizes, input_size=panel.values.shape[1], output_size=1)
    errors = np.random.default_rng(0).normal(size=(50, 6, 1))
    folder = tmp_path_factory.mktemp("saved") / "model"
    folder.mkdir()
    Forecaster(
        name="sales",
        spec=spec,
        categories={},
        normalizer=fit_normalizer(panel),
        members=(ForecastNetwork(config, range(1), panel.layout.n_known).eval(),),
        weights=(1.0,),
        method="mean",
        intervals=Conformal.fit(errors, np.zeros_like(errors)),
        lineage={},
    ).save(folder)
    return folder
