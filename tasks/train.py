"""The search: Optuna proposes, long-lived workers train, every trial is an MLflow run of its own.

The study and the tracking live in this process alone, so nothing contends for them; workers hold torch
and their arrays, and are told after each epoch whether to go on.
"""

import multiprocessing
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.trial import TrialState
from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lstm.config import ModelConfig
from lstm.durations import duration
from lstm.errors import ConfigError, TrainingError
from lstm.networks.epochs import mixed_precision
from lstm.networks.training import pick_device
from lstm.pipeline_config import PipelineConfig, Range
from tasks import tracking, worker
from tasks.handles import RunHandle, Search, Trial, WindowsHandle
from tasks.settings import folder
from tasks.study import create_study, member_of, suggested


@task(cache_policy=NO_CACHE, persist_result=False)
def train(config: PipelineConfig, windows: WindowsHandle, run: RunHandle, devices: Sequence[str]) -> Search:
    """Search; return the finished trials, best first. The search sees training and validation windows only.

    Raises:
        TrainingError: no trial could be finished.
    """
    with _workers(devices) as crew, _progress_bar(config.search.trials) as move:
        search = _Search(config, windows, run, move)
        search.go(crew)
    if not search.finished:
        raise TrainingError(f"none of {search.asked} trials could be finished. The last one: {search.last_failure}")
    best_first = tuple(sorted(search.finished, key=lambda trial: trial.val_rmse))
    return Search(
        best_first, config.search.trials, search.pruned, search.failed, search.last_failure, search.cpu_seconds
    )


@dataclass
class _Worker:
    """One process, its pipe, and what it is busy with."""

    process: BaseProcess
    connection: Connection
    device: str
    trial: optuna.Trial | None = None
    changes: dict[str, Any] = field(default_factory=dict)
    run: RunHandle | None = None
    history: list[dict[str, float]] = field(default_factory=list)


@contextmanager
def _workers(devices: Sequence[str]) -> Iterator[list[_Worker]]:
    """Spawned processes that live as long as the search: one a GPU, else one a core with one thread each."""
    context = multiprocessing.get_context("spawn")
    threads = max((os.cpu_count() or 1) // len(devices), 1) if devices[0] != "cpu" else 1
    crew = []
    for device in devices:
        ours, theirs = context.Pipe()
        process = context.Process(target=worker.serve, args=(theirs, threads), daemon=True)
        process.start()
        theirs.close()
        crew.append(_Worker(process, ours, device))
    try:
        yield crew
    finally:
        for member in crew:
            member.connection.close()
            member.process.join(timeout=0.5 if member.trial is None else 0)
            member.process.kill()
            member.process.join(timeout=5)


def search_devices(config: PipelineConfig) -> list[str]:
    """The device of each worker: one a GPU, else the CPU once a core, and never more workers than trials.

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
        mixed_precision(precision, torch.device(available[0]))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    most = cores if available == ["cpu"] else len(available)
    asked = config.search.workers
    count = min(most, config.search.trials) if asked == "auto" else asked
    if available == ["cpu"] and count > cores:
        raise ConfigError(f"`search.workers <= cores` must hold on the CPU, but got {count} > {cores}. Use auto.")
    return [available[number % len(available)] for number in range(count)]


def _precisions(config: PipelineConfig) -> list[str]:
    """Of the model, the members and every choice of the search."""
    choices = config.search.space.get("precision", ())
    searched = () if isinstance(choices, Range) else choices
    own = (config.network(config.trial_of(member)).precision for member in ({}, *config.members))
    return sorted({*searched, *own})


@contextmanager
def _progress_bar(trials: int) -> Iterator[Callable[[int, float], None]]:
    """A bar over the trials on a terminal, and nothing elsewhere; gives what moves it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("search", total=trials)
        yield lambda ended, best: bar.update(line, completed=ended, description=f"search, best val_rmse {best:.4f}")


class _Search:
    """The parent's side of the search: ask, listen, tell."""

    def __init__(
        self, config: PipelineConfig, windows: WindowsHandle, run: RunHandle, progress: Callable[[int, float], None]
    ) -> None:
        self.config, self.windows, self.run, self.progress = config, windows, run, progress
        self.study = create_study(config, f"{run.name}-{run.run_id[:8]}")
        limit = config.search.timeout
        self.deadline = time.monotonic() + (duration(limit).total_seconds() if limit else float("inf"))
        self.finished: list[Trial] = []
        self.asked = self.pruned = self.failed = 0
        self.last_failure = ""
        self.cpu_seconds = 0.0

    def go(self, crew: list[_Worker]) -> None:
        for member in crew:
            self._next(member)
        while busy := [member for member in crew if member.trial is not None]:
            ready = wait([member.connection for member in busy])
            for member in busy:
                if member.connection in ready:
                    self._hear(member)

    def _next(self, member: _Worker) -> None:
        """Give the worker a trial whose values go together, or leave it idle when the search is over."""
        member.trial = None
        while self.asked < self.config.search.trials and time.monotonic() < self.deadline:
            trial = self.study.ask()
            self.asked += 1
            try:
                member.changes = suggested(trial, self.config)
                network = self.config.network(member.changes).replace(device=member.device)
            except ConfigError as error:
                self._tell(trial, TrialState.FAIL, str(error))
                continue
            self._start(member, trial, network)
            return

    def _start(self, member: _Worker, trial: optuna.Trial, network: ModelConfig) -> None:
        tags = {"kind": "trial", "trial_state": "running", "device": member.device, "seed": network.seed}
        member.trial, member.history = trial, []
        member.run = tracking.start_run(self.run.experiment_id, f"trial-{trial.number:03d}", tags, self.run)
        tracking.log(member.run, params=network.model_dump(mode="json"))
        trial.set_user_attr("mlflow_run_id", member.run.run_id)
        job = worker.Job(
            config=network,
            windows=self.windows.folder,
            n_targets=len(self.config.data.target),
            n_known=self.windows.n_known,
            n_series=self.windows.n_series,
            stride=self.config.window.stride,
            folder=self._folder(trial),
        )
        member.connection.send(job)

    def _folder(self, trial: optuna.Trial) -> Path:
        return trials_folder(self.run) / f"trial-{trial.number:03d}"

    def _hear(self, member: _Worker) -> None:
        try:
            what, content, spent = member.connection.recv()
        except (EOFError, ConnectionResetError):
            raise TrainingError(
                f"the search worker of trial {member.trial and member.trial.number} died (exit code "
                f"{member.process.exitcode}). If memory ran out, set search.workers lower; in a script of your own, "
                'start the training under `if __name__ == "__main__":`.'
            ) from None
        if what == "epoch":
            self._epoch(member, content)
        else:
            self.cpu_seconds += spent
            self._end(member, what, content)
            self._next(member)

    def _epoch(self, member: _Worker, record: dict[str, float]) -> None:
        assert member.trial is not None
        member.history.append(record)
        member.trial.report(record["val_rmse"], int(record["epoch"]))
        over = time.monotonic() >= self.deadline
        prune = member_of(member.trial) is None and member.trial.should_prune()
        member.connection.send("prune" if prune else "finish" if over else "go")

    def _end(self, member: _Worker, what: str, content: Any) -> None:
        assert member.trial is not None and member.run is not None
        tracking.log_curves(member.run, member.history)
        if what == "done":
            trial = Trial(
                number=member.trial.number,
                member=member_of(member.trial),
                run_id=member.run.run_id,
                folder=self._folder(member.trial),
                changes=member.changes,
                **content,
            )
            self.finished.append(trial)
            self._tell(member.trial, TrialState.COMPLETE, value=trial.val_rmse)
            figures = {"best_epoch": trial.best_epoch, "train_seconds": trial.seconds, "parameters": trial.parameters}
            tracking.log(member.run, figures)
            tracking.tag(member.run, trial_state="complete", **({"findings": trial.findings} if trial.findings else {}))
            tracking.end(member.run)
        elif what == "pruned":
            self._tell(member.trial, TrialState.PRUNED)
            tracking.tag(member.run, trial_state="pruned")
            tracking.end(member.run)
        else:
            self._tell(member.trial, TrialState.FAIL, content)
            tracking.tag(member.run, trial_state="failed", error=content)
            tracking.end(member.run, "FAILED")

    def _tell(self, trial: optuna.Trial, state: TrialState, failure: str = "", value: float | None = None) -> None:
        self.study.tell(trial, value, state)
        self.last_failure = failure or self.last_failure
        self.pruned += state == TrialState.PRUNED
        self.failed += state == TrialState.FAIL
        best = min((trial.val_rmse for trial in self.finished), default=float("nan"))
        self.progress(len(self.finished) + self.pruned + self.failed, best)


def trials_folder(run: RunHandle) -> Path:
    """Where the trials of a run keep their networks and validation forecasts."""
    return folder("work") / f"run-{run.run_id}"
