"""A search worker: a process of its own that trains one network after the other. Imports torch and the library only.

The parent sends a job. The worker answers `("epoch", record, 0)` after each epoch and waits for `go`, `finish` (time
is over: keep the best epoch so far) or `prune`; then `(state, result, cpu_seconds)` with state done, cut (by `finish`),
pruned or failed. Of a trial that another process began, `("history", records, 0)` tells first what that one reached.

What a trial leaves in its folder: `network.safetensors` and `validation.npy` unless it was pruned; `result.json` when
it has ended, or `progress.safetensors` until then: also where time was over, since with more time it may go on. A job
whose folder holds a result is not done again.
"""

import json
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from lstm.config.model import ModelConfig
from lstm.data.arrays import SplitArrays
from lstm.data.windows import Windows
from lstm.errors import CheckpointError
from lstm.forecasting.ensemble import point_forecast
from lstm.networks.checkpoint import save_checkpoint, write_atomic
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import OnEpoch, TrainingResult, fit
from tasks.search.trial_folder import OUTPUTS, PROGRESS, RESULT, Result, partial_history, result_of

ReportEpoch = Callable[[dict[str, float]], str]  # an epoch's record -> go, finish or prune
_N_TIMED = 30  # forecasts of one window, of which the median counts


@dataclass(frozen=True)
class Job:
    """One network to train."""

    config: ModelConfig
    windows: Path  # the folder of `train` and `validation`; the test arrays are none of a worker's business
    n_targets: int
    n_known: int
    n_series: int
    stride: int
    folder: Path  # where weights, validation forecast and result go
    timed: bool  # whether to measure how long a forecast takes


class _PrunedError(Exception):
    """The parent has seen enough."""


def main() -> None:
    """What the parent starts: `main` with the file descriptor of its pipe and the number of threads as arguments."""
    descriptor, threads = map(int, sys.argv[-2:])
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    with Connection(descriptor) as connection:
        serve(connection, threads)


def serve(connection: Connection, threads: int) -> None:
    """Train what the parent sends until it hangs up. `threads`: of the CPU; one, where several workers share it."""
    torch.set_num_threads(threads)
    try:
        connection.send(("ready", None, 0.0))
        while True:
            job = connection.recv()
            before = time.process_time()
            answer = _run_job(job, connection)
            connection.send((*answer, time.process_time() - before))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the parent is gone: so is the reason to work


def _exit_with_parent(parent: int) -> None:
    """A killed parent closes the pipe, which an epoch does not look at."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run_job(job: Job, connection: Connection) -> tuple[str, Result]:
    def report(record: dict[str, float]) -> str:
        connection.send(("epoch", record, 0.0))
        answer: str = connection.recv()
        return answer

    try:
        if history := partial_history(job.folder):
            connection.send(("history", history, 0.0))
        result = train(job, report)
        return result["state"], result
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # whatever it is, it fails this trial and no other
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return "failed", {"state": "failed", "error": text, "history": partial_history(job.folder)}


def train(job: Job, report: ReportEpoch | None = None) -> Result:
    """Train one network, from where its folder says that training stood, and write what it came to.

    Returns:
        `state`: done, cut or pruned; `history`; unless it was pruned `val_rmse`, `best_epoch`, `findings`, `seconds`,
        `parameters`, and `latency_ms` where that was asked for.
    """
    if (ended := result_of(job.folder)) is not None:
        return ended
    started = time.perf_counter()
    if job.folder.is_file():
        job.folder.unlink()
    job.folder.mkdir(parents=True, exist_ok=True)
    training, validation = _windows(job)
    answers: list[str] = []

    def told(record: dict[str, float]) -> bool:
        answers.append("go" if report is None else report(record))
        if answers[-1] == "prune":
            raise _PrunedError
        return answers[-1] == "finish"

    try:
        fitted = _fit(job, training, validation, told)
    except _PrunedError:
        result: Result = {"state": "pruned", "history": partial_history(job.folder)}
    else:
        _save_network(job, fitted)
        np.save(job.folder / "validation.npy", point_forecast(fitted.network, validation))
        result = {
            "state": "cut" if answers[-1:] == ["finish"] and len(fitted.history) < job.config.epochs else "done",
            "val_rmse": fitted.history[fitted.best_epoch]["val_rmse"],
            "best_epoch": fitted.best_epoch + 1,
            "findings": "; ".join(fitted.findings),
            "seconds": time.perf_counter() - started,
            "parameters": sum(weight.numel() for weight in fitted.network.parameters()),
            "latency_ms": _measure_latency(fitted.network, validation) if job.timed else None,
            "history": fitted.history,
        }
    if result["state"] != "cut":
        outputs = [] if result["state"] == "pruned" else [job.folder / name for name in OUTPUTS]
        result["sizes"] = {path.name: path.stat().st_size for path in outputs}
        write_atomic(job.folder / RESULT, json.dumps(result).encode())
        (job.folder / PROGRESS).unlink(missing_ok=True)
    return result


def _windows(job: Job) -> tuple[Windows, Windows]:
    arrays = {name: SplitArrays.load(job.windows / name) for name in ("train", "validation")}
    shape = (job.config.sequence_length, job.config.horizon, job.n_known)
    return arrays["train"].windows(*shape, stride=job.stride), arrays["validation"].windows(*shape)


def _fit(job: Job, training: Windows, validation: Windows, report: OnEpoch) -> TrainingResult:
    sized = job.config.replace(input_size=training.features.shape[1], output_size=job.n_targets)

    def network() -> ForecastNetwork:
        return ForecastNetwork(sized, range(job.n_targets), job.n_known, job.n_series)

    progress = job.folder / PROGRESS
    try:
        return fit(network(), training, validation, report, progress)
    except CheckpointError:  # torn by a power cut, or of another version: a new start costs least
        progress.unlink()
        return fit(network(), training, validation, report, progress)


def _save_network(job: Job, fitted: TrainingResult) -> None:
    meta = {
        "config": fitted.network.config.model_dump(mode="json"),
        "n_targets": job.n_targets,
        "n_known": job.n_known,
        "n_series": job.n_series,
    }
    save_checkpoint(job.folder / "network.safetensors", fitted.network.state_dict(), meta)


def _measure_latency(network: ForecastNetwork, windows: Windows) -> float:
    """Milliseconds of a forecast of one window, in the middle of some; the network is on the CPU."""
    inputs, found = windows.inputs(torch.zeros(1, dtype=torch.int64)), []
    with torch.inference_mode():
        for _ in range(_N_TIMED):
            started = time.perf_counter()
            network(*inputs)
            found.append(time.perf_counter() - started)
    return statistics.median(found) * 1000
