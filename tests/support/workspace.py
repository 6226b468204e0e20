"""A working directory in which `lstm` runs as a command."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.support.paths import ROOT
from tests.support.tables import DATA, make_hourly

LSTM = [sys.executable, "-m", "flows.cli.app"]


@dataclass(frozen=True)
class Place:
    """A working directory with data, a configuration and stores."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        hidden = ("MLFLOW_", "PREFECT_", "LSTM_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        home = {"LSTM_HOME": str(self.folder / "mlruns"), "PREFECT_HOME": str(self.folder / "prefect")}
        return {**kept, **home, "PYTHONPATH": str(ROOT)}

    def run(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [*LSTM, *arguments], cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=300
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    def write(self, **changes: Any) -> Path:
        """Write shops.csv and shops.yaml; `changes` replace whole sections."""
        make_hourly().to_csv(self.folder / "shops.csv", index=False)
        sections = {
            "name": "shops",
            "data": {**DATA, "source": "shops.csv", "calendar": {"features": ["hour"]}},
            "split": {"validation": "5d", "test": "5d"},
            "window": {"horizon": 6},
            "model": {"sequence_length": 24, "hidden_size": 16, "num_layers": 1, "epochs": 8, "dropout": 0.0},
            "search": {"trials": 3, "space": {"learning_rate": {"low": 0.005, "high": 0.02, "log": True}}},
            "ensemble": {"size": 2},
            "evaluate": {"season": 24},
        }
        path = self.folder / "shops.yaml"
        path.write_text(yaml.safe_dump({**sections, **changes}))
        return path
