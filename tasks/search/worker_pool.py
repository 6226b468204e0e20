"""The search's workers: processes that live as long as the search, one a GPU, else one a core with one thread each."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import Any

import torch

from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, TrainingError
from lstm.networks.devices import check_precision, pick_device
from tasks.search.worker import Job
from tasks.settings import worker_environment

# Not multiprocessing's own start, which imports the parent's main module once more: Prefect's, in a scheduled run.
_START = "from tasks.search.worker import main; main()"
_DISCONNECTED = (EOFError, ConnectionResetError, BrokenPipeError)


class WorkerDiedError(Exception):
    """Its process has ended, whatever the reason; the exit code is what it holds."""


@dataclass(eq=False)
class Worker:
    """One process and its pipe."""

    device: str
    threads: int
    connection: Connection = field(init=False)
    process: subprocess.Popen[bytes] = field(init=False)
    ready: bool = field(init=False)  # has imported what it needs

    def __post_init__(self) -> None:
        """Start the process; it imports torch on its own time."""
        ours, theirs = socket.socketpair()
        paths = [path or os.getcwd() for path in sys.path]
        environment = {**worker_environment(self.threads), "PYTHONPATH": os.pathsep.join(paths)}
        # -P: what lies in the working directory is no module of ours
        command = [sys.executable, "-P", "-c", _START, str(theirs.fileno()), str(self.threads)]
        with theirs:
            self.process = subprocess.Popen(command, env=environment, pass_fds=[theirs.fileno()])
        self.connection, self.ready = Connection(ours.detach()), False

    def send(self, message: Job | str) -> None:
        """Send a job, or the answer to an epoch; what the death of the worker loses is seen by `hear`."""
        with suppress(*_DISCONNECTED):
            self.connection.send(message)

    def hear(self) -> tuple[str, Any, float]:
        """What it has to say; waits for it.

        Raises:
            WorkerDiedError: it can't say anything any more.
            TrainingError: it gave up before it could start.
        """
        try:
            what, content, seconds = self.connection.recv()
        except _DISCONNECTED:
            code = self.process.wait()
            if not self.ready and code >= 0:  # by itself, not by a signal
                raise TrainingError(f"a search worker could not start (exit code {code}): see what it said.") from None
            raise WorkerDiedError(code) from None
        self.ready = True
        return what, content, seconds

    def replace(self) -> None:
        """Start another process in the place of a dead one."""
        self.end(0)
        self.__post_init__()

    def end(self, patience: float) -> None:
        """Hang up, and kill it where it does not go by itself within `patience` seconds."""
        self.connection.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(patience)
        self.process.kill()
        self.process.wait(5)


@contextmanager
def worker_pool(devices: Sequence[str]) -> Iterator[list[Worker]]:
    """One a device; they end with the block."""
    threads = 1 if devices[0] == "cpu" else max((os.cpu_count() or 1) // len(devices), 1)
    crew: list[Worker] = []
    try:
        crew += [Worker(device, threads) for device in devices]
        yield crew
    finally:
        for worker in crew:
            worker.end(0.5)


def search_devices(config: PipelineConfig, most: int | None = None) -> list[str]:
    """The device of each worker: one a GPU, else the CPU once a core, and never more workers than trials.

    Args:
        config: complete.
        most: cores that `search.workers: auto` may take; all by default.

    Raises:
        ConfigError: the device is not there or can't compute in a precision that some trial may have, or more workers
            are asked for than there are cores.
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
    places = min(cores, most or cores) if available == ["cpu"] else len(available)
    asked = config.search.workers
    count = min(places, config.search.trials) if asked == "auto" else asked
    if available == ["cpu"] and count > cores:
        raise ConfigError(f"`search.workers <= cores` must hold on the CPU, but got {count} > {cores}. Use auto.")
    return [available[number % len(available)] for number in range(count)]


def _precisions(config: PipelineConfig) -> list[str]:
    """Of the model, the members and every choice of the search."""
    searched = config.search.bounds("precision")
    own = (config.network_config(config.trial_params(member)).precision for member in ({}, *config.members))
    return sorted({*searched, *own})
