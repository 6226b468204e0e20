"""Trains given networks without a search, in the same kind of worker processes."""

from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, replace
from multiprocessing.connection import wait
from pathlib import Path

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.errors import TrainingError
from tasks.handles import Trial, WindowsHandle, trial_name
from tasks.search.progress import progress_bar
from tasks.search.trial_folder import TrialResult
from tasks.search.worker import Job
from tasks.search.worker_pool import Worker, WorkerDiedError, make_job, worker_pool


def planned_networks(config: PipelineConfig) -> list[ModelConfig]:
    """Return the networks that a search trains before its sampler suggests any."""
    return [config.network_config(config.trial_params(member)) for member in config.members]


def make_jobs(
    config: PipelineConfig, windows: WindowsHandle, networks: Sequence[ModelConfig], folder: Path
) -> list[Job]:
    """Return the jobs that train these networks, each in a folder of its own below `folder`."""
    return [make_job(config, windows, network, folder / trial_name(number)) for number, network in enumerate(networks)]


def train_networks(jobs: Sequence[Job], devices: Sequence[str], max_epochs: Sequence[int | None] = ()) -> list[Trial]:
    """Train the network of every job, as many at once as there are devices.

    Args:
        jobs: what to train; the device in their configuration is replaced by that of their worker.
        devices: of the workers, see `search_devices`.
        max_epochs: of each job, after which the best epoch so far is kept; None, or empty: as configured.

    Returns:
        A trial for each job, numbered from 0.

    Raises:
        TrainingError: a network could not be trained, or a worker died.
    """
    limits, waiting = list(max_epochs) or [None] * len(jobs), deque(range(len(jobs)))
    trials: dict[int, Trial] = {}
    running: dict[Worker, int] = {}

    def assign(worker: Worker) -> None:
        if waiting:
            number = running[worker] = waiting.popleft()
            worker.send(replace(jobs[number], config=jobs[number].config.model_copy(update={"device": worker.device})))

    with progress_bar("networks", len(jobs)) as show, worker_pool(devices[: len(jobs)]) as workers:
        for worker in workers:
            assign(worker)
        while running:
            ready = wait([worker.connection for worker in running])
            for worker in [worker for worker in running if worker.connection in ready]:
                result = _handle_message(worker, limits[running[worker]])
                if result is not None:
                    number = running.pop(worker)
                    trials[number] = _trial(number, jobs[number], result)
                    show(len(trials), "networks")
                    assign(worker)
    return [trials[number] for number in range(len(jobs))]


def _handle_message(worker: Worker, max_epochs: int | None) -> TrialResult | None:
    """Reply to a message of a worker; return the result that it holds, if any."""
    try:
        event, payload, _ = worker.recv()
    except WorkerDiedError as died:
        raise TrainingError(
            f"a worker died (exit code {died}). If memory ran out, lower search.workers or batch_size."
        ) from None
    if event == "epoch":
        worker.send("finish" if max_epochs is not None and payload["epoch"] >= max_epochs else "continue")
    return payload if event == "result" else None


def _trial(number: int, job: Job, result: TrialResult) -> Trial:
    if result.metrics is None:
        raise TrainingError(f"a network could not be trained: {result.error}")
    return Trial(number=number, member=number, run_id="", folder=job.folder, params={}, **asdict(result.metrics))
