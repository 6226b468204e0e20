"""Given networks, trained as the search trains them: each in a worker process, on the CPU with one thread."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import wait
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.errors import TrainingError
from tasks.handles import Trial, WindowsHandle, trial_name
from tasks.search.trial_folder import Result
from tasks.search.worker import Job
from tasks.search.worker_pool import Worker, WorkerDiedError, worker_pool


def jobs_of(config: PipelineConfig, windows: WindowsHandle, networks: Sequence[ModelConfig], folder: Path) -> list[Job]:
    """What workers need to train these networks, each in a folder of its own below `folder`."""
    return [
        Job(
            config=network,
            windows=windows.folder,
            n_targets=len(config.data.target),
            n_known=windows.n_known,
            n_series=windows.n_series,
            stride=config.window.stride,
            folder=folder / trial_name(number),
            timed=False,
        )
        for number, network in enumerate(networks)
    ]


def train_networks(jobs: Sequence[Job], devices: Sequence[str], epochs: Sequence[int | None] = ()) -> list[Result]:
    """Train every network, as many at once as there are devices.

    Args:
        jobs: what to train; the device of each becomes that of its worker.
        devices: of the workers, see `search_devices`.
        epochs: after which each job ends with its best epoch so far; None, or nothing: as its configuration says.

    Returns:
        What `tasks.search.worker.train` came to, by job.

    Raises:
        TrainingError: a network could not be trained, or its worker died.
    """
    limits, waiting = list(epochs) or [None] * len(jobs), deque(range(len(jobs)))
    results: dict[int, Result] = {}
    busy: dict[Worker, int] = {}

    def begin(worker: Worker) -> None:
        if waiting:
            number = busy[worker] = waiting.popleft()
            worker.send(replace(jobs[number], config=jobs[number].config.replace(device=worker.device)))

    with _progress_bar(len(jobs)) as move, worker_pool(devices[: len(jobs)]) as crew:
        for worker in crew:
            begin(worker)
        while busy:
            ready = wait([worker.connection for worker in busy])
            for worker in [worker for worker in busy if worker.connection in ready]:
                ended = _handle_message(worker, limits[busy[worker]])
                if ended is not None:
                    results[busy.pop(worker)] = ended
                    move()
                    begin(worker)
    return [results[number] for number in range(len(jobs))]


def _handle_message(worker: Worker, limit: int | None) -> Result | None:
    """Answer what a worker says; its result, once it has one."""
    try:
        what, content, _ = worker.hear()
    except WorkerDiedError as died:
        raise TrainingError(
            f"a worker died (exit code {died}). If memory ran out, lower search.workers, or batch_size."
        ) from None
    if what == "epoch":
        worker.send("finish" if limit is not None and content["epoch"] >= limit else "go")
    if what == "failed":
        raise TrainingError(f"a network could not be trained: {content['error']}")
    return content if what in ("done", "cut") else None


@contextmanager
def _progress_bar(networks: int) -> Iterator[Callable[[], None]]:
    """A bar over the networks on a terminal, and nothing elsewhere; gives what moves it by one."""
    console = Console(stderr=True)
    columns = (TextColumn("networks"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("networks", total=networks)
        yield lambda: bar.advance(line)


def trial_handle(number: int, job: Job, result: Result) -> Trial:
    """A handle of what was trained."""
    known = {key: result[key] for key in ("best_epoch", "parameters", "latency_ms", "seconds", "findings")}
    return Trial(number=number, member=number, run_id="", folder=job.folder, params={}, val_rmse_normalized=result["val_rmse"], **known)


def planned_networks(config: PipelineConfig) -> list[ModelConfig]:
    """What a search would train before it proposes anything: the members of the ensemble, or the model as it is."""
    return [config.network_config(config.trial_params(member)) for member in config.members]
