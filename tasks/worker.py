"""A search worker: a process of its own that trains one network after the other. Imports torch and the library only.

The parent sends a job; the worker answers `("epoch", record, 0)` after each epoch and waits for `go`, `finish` (time is
over: keep the best epoch so far) or `prune`, then `("done", result, cpu_seconds)`, `("pruned", None, cpu_seconds)` or
`("failed", message, cpu_seconds)`.
"""

import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstm.config import ModelConfig
from lstm.data.arrays import SplitArrays
from lstm.ensemble import point_forecast
from lstm.networks.checkpoint import save_checkpoint
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import fit


@dataclass(frozen=True)
class Job:
    """One network to train."""

    config: ModelConfig
    windows: Path  # the folder of `train` and `validation`; the test arrays are none of a worker's business
    n_targets: int
    n_known: int
    n_series: int
    stride: int
    folder: Path  # where weights and validation forecast go


class _PrunedError(Exception):
    """The parent has seen enough."""


def serve(connection: Connection, threads: int) -> None:
    """Train what the parent sends until it hangs up. `threads`: of the CPU; one, where several workers share it."""
    torch.set_num_threads(threads)
    try:
        while (job := connection.recv()) is not None:
            before = time.process_time()
            answer = _answer(job, connection)
            connection.send((*answer, time.process_time() - before))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        pass  # the parent is gone: so is the reason to work


def _answer(job: Job, connection: Connection) -> tuple[str, Any]:
    def report(record: dict[str, float]) -> bool:
        connection.send(("epoch", record, 0.0))
        answer = connection.recv()
        if answer == "prune":
            raise _PrunedError
        return bool(answer == "finish")

    try:
        return "done", train(job, report)
    except _PrunedError:
        return "pruned", None
    except Exception as error:  # whatever it is, it fails this trial and no other
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def train(job: Job, report: Any = None) -> dict[str, Any]:
    """Train one network and write `network.safetensors` and `validation.npy` into the job's folder."""
    started = time.perf_counter()
    config = job.config
    arrays = {name: SplitArrays.load(job.windows / name) for name in ("train", "validation")}
    shape = (config.sequence_length, config.horizon, job.n_known)
    training = arrays["train"].windows(*shape, stride=job.stride)
    validation = arrays["validation"].windows(*shape)
    sized = config.replace(input_size=training.features.shape[1], output_size=job.n_targets)
    network = ForecastNetwork(sized, range(job.n_targets), job.n_known, job.n_series)
    fitted = fit(network, training, validation, report)
    job.folder.mkdir(parents=True, exist_ok=True)
    meta = {
        "config": sized.model_dump(mode="json"),
        "n_targets": job.n_targets,
        "n_known": job.n_known,
        "n_series": job.n_series,
    }
    save_checkpoint(job.folder / "network.safetensors", fitted.network.state_dict(), meta)
    np.save(job.folder / "validation.npy", point_forecast(fitted.network, validation))
    return {
        "val_rmse": fitted.history[fitted.best_epoch]["val_rmse"],
        "best_epoch": fitted.best_epoch + 1,
        "findings": "; ".join(fitted.findings),
        "seconds": time.perf_counter() - started,
        "parameters": sum(weight.numel() for weight in fitted.network.parameters()),
    }
