"""The folder of a trial: its weights, validation forecast and result. Workers import it: no Prefect, MLflow, Optuna.

A finished trial has `result.json` and, unless it was pruned, `network.safetensors` and `validation.npy`. A trial that
has not finished has `progress.safetensors`, from which its training continues.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

from lstm.atomic import write_atomic
from lstm.errors import CheckpointError
from lstm.networks.checkpoint import load_checkpoint
from tasks.handles import TrialMetrics

History = list[dict[str, float]]  # a record for each epoch, see lstm.networks.training.fit
NETWORK, FORECAST = "network.safetensors", "validation.npy"
RESULT, PROGRESS = "result.json", "progress.safetensors"
_STORED_NAMES = {"val_rmse_normalized": "val_rmse"}  # in result.json


@dataclass(frozen=True)
class TrialResult:
    """The outcome of a trial."""

    state: Literal["done", "pruned", "interrupted", "failed", "duplicate", "missing"]
    history: History = field(default_factory=list)
    metrics: TrialMetrics | None = None  # of the network that was kept; None: none was
    error: str = ""

    @property
    def values(self) -> list[float]:
        """The values of the objectives `error` and, if it was measured, `latency`."""
        values = () if self.metrics is None else (self.metrics.val_rmse_normalized, self.metrics.latency_ms)
        return [value for value in values if value is not None]


def write_result(folder: Path, result: TrialResult) -> None:
    """Write the result of a trial that is done or pruned, and remove the state of its training."""
    metrics = {} if result.metrics is None else asdict(result.metrics)
    outputs = [folder / name for name in (NETWORK, FORECAST)] if metrics else []
    content = {
        "state": result.state,
        **{_STORED_NAMES.get(name, name): value for name, value in metrics.items()},
        "history": result.history,
        "sizes": {path.name: path.stat().st_size for path in outputs},
    }
    write_atomic(folder / RESULT, json.dumps(content).encode())
    (folder / PROGRESS).unlink(missing_ok=True)


def result_of(folder: Path) -> TrialResult | None:
    """Return the result of a finished trial; None if it has not finished, or a file is damaged or missing."""
    try:
        content = json.loads((folder / RESULT).read_bytes())
        sizes = {name: (folder / name).stat().st_size for name in content["sizes"]}
        if sizes != content["sizes"] or content["state"] not in ("done", "pruned"):
            return None
        names = [item.name for item in fields(TrialMetrics)] if sizes else []
        metrics = {name: content[_STORED_NAMES.get(name, name)] for name in names}
        return TrialResult(content["state"], content["history"], TrialMetrics(**metrics) if metrics else None)
    except (OSError, ValueError, TypeError, KeyError):
        return None


def history_of(folder: Path) -> History:
    """Return the records of a trial's epochs, finished or not."""
    result = result_of(folder)
    return unfinished_history(folder) if result is None else result.history


def unfinished_history(folder: Path) -> History:
    """Return the records of the epochs from which an unfinished trial continues."""
    try:
        history: History = load_checkpoint(folder / PROGRESS)[1]["history"]
    except (CheckpointError, KeyError):
        return []
    return history
