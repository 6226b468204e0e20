"""A worker of the search: a process that trains one network after the other. Imports torch and the library only.

The parent sends a `Job`. The worker answers with messages of event, payload and seconds of CPU time:

- `ready`, once, when it has started.
- `history`: the records of the epochs that an earlier process has trained of this trial.
- `epoch`: the record of an epoch. The parent replies `continue`, `finish` (the time is over: keep the best epoch so
  far) or `prune`.
- `result`: the `TrialResult`. Its state is `interrupted` after `finish` if epochs were left; such a trial has no
  `result.json`, and continues when the same job is sent again.
"""

import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lstm.config.model import ModelConfig
from lstm.data.arrays import SplitArrays
from lstm.data.windows import Windows
from lstm.errors import CheckpointError
from lstm.forecasting.ensemble import predict_point
from lstm.networks.checkpoint import save_checkpoint
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import OnEpoch, TrainingResult, fit
from tasks.handles import TrialMetrics
from tasks.search.trial_folder import (
    FORECAST,
    NETWORK,
    PROGRESS,
    TrialResult,
    result_of,
    unfinished_history,
    write_result,
)

Message = tuple[str, Any, float]  # event, payload, seconds of CPU time
ReportEpoch = Callable[[dict[str, float]], str]  # the record of an epoch -> continue, finish or prune
_N_TIMED = 30  # forecasts of one window, of which the median counts


@dataclass(frozen=True)
class Job:
    """One network to train; see `worker_pool.make_job`."""

    config: ModelConfig
    windows: Path  # folder with the arrays of `train` and `validation`
    n_targets: int
    n_known: int
    n_series: int
    stride: int
    folder: Path  # of the trial
    measure_latency: bool


class _PrunedError(Exception):
    """The parent has pruned the trial."""


def main() -> None:
    """Start a worker; the last arguments of the process are the pipe's file descriptor and the number of threads."""
    descriptor, threads = map(int, sys.argv[-2:])
    threading.Thread(target=_exit_with_parent, args=(os.getppid(),), daemon=True).start()
    with Connection(descriptor) as connection:
        serve(connection, threads)


def serve(connection: Connection, threads: int) -> None:
    """Run jobs from the parent until the pipe is closed. `threads`: of torch on the CPU."""
    torch.set_num_threads(threads)
    try:
        connection.send(("ready", None, 0.0))
        while True:
            job = connection.recv()
            before = time.process_time()
            result = _run_job(job, connection)
            connection.send(("result", result, time.process_time() - before))
    except (EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        pass  # the parent has hung up or died


def _exit_with_parent(parent: int) -> None:
    """Exit when the parent has died: training does not notice that the pipe is closed until the epoch ends."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os._exit(1)


def _run_job(job: Job, connection: Connection) -> TrialResult:
    def report(record: dict[str, float]) -> str:
        connection.send(("epoch", record, 0.0))
        reply: str = connection.recv()
        return reply

    try:
        if history := unfinished_history(job.folder):
            connection.send(("history", history, 0.0))
        return train(job, report)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        raise
    except Exception as error:  # any other error fails this trial only
        message = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        return TrialResult("failed", unfinished_history(job.folder), error=message)


def train(job: Job, report: ReportEpoch | None = None) -> TrialResult:
    """Train one network, continuing from the state in its folder, and write its files there.

    `report` is called after each epoch and returns `continue`, `finish` or `prune`. A finished trial is not trained
    again.
    """
    if (finished := result_of(job.folder)) is not None:
        return finished
    started = time.perf_counter()
    if job.folder.is_file():
        job.folder.unlink()
    job.folder.mkdir(parents=True, exist_ok=True)
    training, validation = _load_windows(job)
    replies: list[str] = []

    def should_finish(record: dict[str, float]) -> bool:
        replies.append("continue" if report is None else report(record))
        if replies[-1] == "prune":
            raise _PrunedError
        return replies[-1] == "finish"

    try:
        trained = _fit(job, training, validation, should_finish)
    except _PrunedError:
        result = TrialResult("pruned", unfinished_history(job.folder))
    else:
        _save_network(job, trained.network)
        np.save(job.folder / FORECAST, predict_point(trained.network, validation))
        interrupted = replies[-1:] == ["finish"] and len(trained.history) < job.config.epochs
        metrics = TrialMetrics(
            val_rmse_normalized=trained.history[trained.best_epoch]["val_rmse"],
            best_epoch=trained.best_epoch + 1,
            parameters=sum(weight.numel() for weight in trained.network.parameters()),
            latency_ms=_measure_latency(trained.network, validation) if job.measure_latency else None,
            seconds=time.perf_counter() - started,
            findings="; ".join(trained.findings),
        )
        result = TrialResult("interrupted" if interrupted else "done", trained.history, metrics)
    if result.state != "interrupted":
        write_result(job.folder, result)
    return result


def _load_windows(job: Job) -> tuple[Windows, Windows]:
    arrays = {name: SplitArrays.load(job.windows / name) for name in ("train", "validation")}
    shape = (job.config.sequence_length, job.config.horizon, job.n_known)
    return arrays["train"].windows(*shape, stride=job.stride), arrays["validation"].windows(*shape)


def _fit(job: Job, training: Windows, validation: Windows, on_epoch: OnEpoch) -> TrainingResult:
    config = job.config.model_copy(update={"input_size": training.features.shape[1], "output_size": job.n_targets})

    def make_network() -> ForecastNetwork:
        return ForecastNetwork(config, range(job.n_targets), job.n_known, job.n_series)

    progress = job.folder / PROGRESS
    try:
        return fit(make_network(), training, validation, on_epoch, progress)
    except CheckpointError:  # truncated, or of another version of lstm: start again
        progress.unlink()
        return fit(make_network(), training, validation, on_epoch, progress)


def _save_network(job: Job, network: ForecastNetwork) -> None:
    meta = {
        "config": network.config.model_dump(mode="json"),
        "n_targets": job.n_targets,
        "n_known": job.n_known,
        "n_series": job.n_series,
    }
    save_checkpoint(job.folder / NETWORK, network.state_dict(), meta)


def _measure_latency(network: ForecastNetwork, windows: Windows) -> float:
    """Return the median time to forecast one window on the CPU, in milliseconds."""
    inputs, seconds = windows.inputs(torch.zeros(1, dtype=torch.int64)), []
    with torch.inference_mode():
        for _ in range(_N_TIMED):
            started = time.perf_counter()
            network(*inputs)
            seconds.append(time.perf_counter() - started)
    return statistics.median(seconds) * 1000
