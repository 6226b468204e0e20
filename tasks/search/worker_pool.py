"""The worker pool: processes that train networks as long as the search runs, one per GPU, else one per CPU core."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, TrainingError
from lstm.networks.devices import check_precision, pick_device
from tasks.handles import WindowsHandle
from tasks.search.worker import Job, Message
from tasks.settings import worker_environment

# multiprocessing would import the parent's main module in each worker: in a scheduled run, that of Prefect.
_START = "from tasks.search.worker import main; main()"
_DISCONNECTED = (EOFError, ConnectionResetError, BrokenPipeError)


class WorkerDiedError(Exception):
    """The process of a worker has ended; the argument is its exit code."""


@dataclass(eq=False)
class Worker:
    """A process that trains networks, and the pipe to it."""

    device: str
    threads: int
    connection: Connection = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)
    ready: bool = field(init=False)  # whether it has sent a message yet

    def __post_init__(self) -> None:
        """Start the process, without waiting until it is ready."""
        ours, theirs = socket.socketpair()
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**worker_environment(self.threads), "PYTHONPATH": os.pathsep.join(paths)}
        # -P: a file in the working directory must not hide one of our modules
        command = [sys.executable, "-P", "-c", _START, str(theirs.fileno()), str(self.threads)]
        with theirs:
            self.process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        self.connection, self.ready = Connection(ours.detach()), False

    def send(self, message: Job | str) -> None:
        """Send a job, or the reply to an epoch. If the worker is dead, the next `recv` raises."""
        with suppress(*_DISCONNECTED):
            self.connection.send(message)

    def recv(self) -> Message:
        """Wait for the next message; return its event, its payload and the seconds of CPU time of a job.

        Raises:
            WorkerDiedError: the process has ended.
            TrainingError: the process ended before it was ready, and not by a signal.
        """
        try:
            message: Message = self.connection.recv()
        except _DISCONNECTED:
            code = self.process.wait()
            if not self.ready and code >= 0:
                raise TrainingError(f"a search worker could not start (exit code {code}). See its output.") from None
            raise WorkerDiedError(code) from None
        self.ready = True
        return message

    def replace(self) -> None:
        """Start another process in the place of a dead one."""
        self.stop(0)
        self.__post_init__()

    def stop(self, timeout: float) -> None:
        """Close the pipe, and kill the process if it has not ended after `timeout` seconds."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout)
        self.process.kill()
        self.process.wait(5)


@contextmanager
def worker_pool(devices: Sequence[str]) -> Iterator[list[Worker]]:
    """Run a worker for each device as long as the block runs."""
    threads = 1 if devices[0] == "cpu" else max((os.cpu_count() or 1) // len(devices), 1)
    workers: list[Worker] = []
    try:
        workers += [Worker(device, threads) for device in devices]
        yield workers
    finally:
        for worker in workers:
            worker.stop(0.5)


def make_job(
    config: PipelineConfig, windows: WindowsHandle, network: ModelConfig, folder: Path, measure_latency: bool = False
) -> Job:
    """Return the job that trains a network in a folder."""
    return Job(
        config=network,
        windows=windows.folder,
        n_targets=len(config.data.target),
        n_known=windows.n_known,
        n_series=windows.n_series,
        stride=config.window.stride,
        folder=folder,
        measure_latency=measure_latency,
    )


def search_devices(config: PipelineConfig, max_cores: int | None = None) -> list[str]:
    """Return the device of each worker: one worker per GPU, else one per core, and no more workers than trials.

    Args:
        config: with all defaults filled in.
        max_cores: cores that `search.workers: auto` may use; None: all.

    Raises:
        ConfigError: the device is missing or lacks a precision that some trial may have, or `search.workers` is larger
            than the number of cores.
    """
    if config.model.device != "auto":
        available = [str(pick_device(config.model.device))]
    elif torch.cuda.is_available():
        available = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
    else:
        available = [str(pick_device("auto"))]
    for precision in _precisions(config):
        check_precision(precision, torch.device(available[0]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    places = min(cores, max_cores or cores) if available == ["cpu"] else len(available)
    count = min(places, config.search.trials) if config.search.workers == "auto" else config.search.workers
    if available == ["cpu"] and count > cores:
        raise ConfigError(f"`search.workers <= cores` must hold on the CPU, but got {count} > {cores}. Use auto.")
    return [available[number % len(available)] for number in range(count)]


def _precisions(config: PipelineConfig) -> list[str]:
    """Return every precision that the model, a planned trial or a suggested one may have."""
    suggested = config.search.bounds("precision")
    planned = (config.network_config(config.trial_params(member)).precision for member in ({}, *config.members))
    return sorted({*suggested, *planned})
