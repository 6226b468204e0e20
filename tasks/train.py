"""The search: Optuna proposes, long-lived workers train, every trial is an MLflow run of its own.

The study and the tracking live in this process alone, so nothing contends for them; workers hold torch and their
arrays, and are told after each epoch whether to go on. What has ended is in the study and in the trial's folder
before anything else happens: whoever starts the same search again goes on from there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lstm.config import ModelConfig
from lstm.durations import duration
from lstm.errors import ConfigError
from lstm.pipeline_config import PipelineConfig
from tasks import study as studies
from tasks import tracking
from tasks.crew import Worker, WorkerDiedError, workers
from tasks.drawing import save_pictures
from tasks.handles import RunHandle, Search, WindowsHandle, trial_name
from tasks.search_figures import pareto, search_pictures
from tasks.settings import run_folder
from tasks.study_folder import study_folder
from tasks.tally import Tally
from tasks.trial_runs import trial_runs
from tasks.worker import Job, result_of

_MOST_DEATHS = 3  # of workers over one trial


@task(cache_policy=NO_CACHE, persist_result=False)
def train(
    config: PipelineConfig, windows: WindowsHandle, run: RunHandle, devices: Sequence[str], fresh: bool = False
) -> Search:
    """Search; return the finished trials, best first. The search sees training and validation windows only.

    Args:
        config: complete.
        windows: of training and validation.
        run: the parent of the trials' runs.
        devices: of the workers, see `search_devices`.
        fresh: whether to forget what an earlier search of the same configuration and data has found.

    Raises:
        TrainingError: no trial could be finished.
    """
    with (
        study_folder(config, windows, fresh) as (study, folder),
        workers(devices) as crew,
        trial_runs(run) as runs,
        _progress_bar(config.search.trials) as move,
    ):
        tally = Tally(config, runs, move)
        _Search(config, windows, study, folder, tally).go(crew)
        found = tally.search(study, folder)
        _draw(study, found, config, run)
        return found


def _draw(study: optuna.Study, found: Search, config: PipelineConfig, run: RunHandle) -> None:
    """The search's pictures, for the run and for its report."""
    place = run_folder(run.run_id) / "search"
    place.mkdir(parents=True, exist_ok=True)
    front = {"pareto": pareto(found.trials, found.front)} if found.front else {}
    save_pictures(place, {**search_pictures(study, config.name), **front})
    tracking.client().log_artifacts(run.run_id, str(place), "search")


@contextmanager
def _progress_bar(trials: int) -> Iterator[Callable[[int, float], None]]:
    """A bar over the trials on a terminal, and nothing elsewhere; gives what moves it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("search", total=trials)
        yield lambda ended, best: bar.update(line, completed=ended, description=f"search, best val_rmse {best:.4f}")


@dataclass
class _Busy:
    """What a worker is at."""

    trial: optuna.Trial
    job: Job
    deaths: int = 0


class _Search:
    """The parent's side of the search: ask, listen, tell."""

    def __init__(
        self,
        config: PipelineConfig,
        windows: WindowsHandle,
        study: optuna.Study,
        folder: Path,
        tally: Tally,
    ) -> None:
        self.config, self.windows, self.study, self.folder = config, windows, study, folder
        self.tally, self.runs = tally, tally.runs
        limit = config.search.timeout
        self.deadline = time.monotonic() + (duration(limit).total_seconds() if limit else float("inf"))
        self.busy: dict[Worker, _Busy] = {}
        self.twins: list[tuple[optuna.Trial, int]] = []  # trials with the network of one that is being trained
        self.left = studies.left_running(study)  # trials that a killed process had begun
        self.asked = len(self.left)

    def go(self, crew: list[Worker]) -> None:
        """Until every worker is idle and nothing more is to be asked."""
        self._take_over()
        for worker in crew:
            self._next(worker)
        while self.busy:
            ready = wait([worker.connection for worker in self.busy])
            for worker in [worker for worker in self.busy if worker.connection in ready]:
                self._hear(worker)

    def _take_over(self) -> None:
        """What an earlier run of this search has ended counts as if it had ended now; what failed then does not."""
        studies.requeue_failed(self.study, self.config)
        for frozen in self.study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
            self.asked, self.tally.answered = self.asked + 1, self.tally.answered + 1
            found = result_of(self._folder(frozen.number))
            result: dict[str, Any] = {"history": [], "lost": True} if found is None else found
            network = self.config.network(frozen.user_attrs["changes"])
            trained = "" if frozen.datetime_complete is None else frozen.datetime_complete.isoformat(" ", "seconds")
            self.runs.start(frozen.number, network, answered_from=self.study.study_name, first_trained=trained)
            self.runs.epochs(frozen.number, result["history"])
            self.tally.count(frozen.number, frozen.state, result, frozen.user_attrs.get("same_as"))

    def _next(self, worker: Worker) -> None:
        """Give the worker a trial whose values go together and are new, or leave it idle when the search is over."""
        while (trial := self._another()) is not None:
            try:
                changes = studies.suggested(trial, self.config)
                network = self.config.network(changes)
            except ConfigError as error:
                self.runs.start(trial.number, self.config.model)
                self._end(trial, TrialState.FAIL, {"error": str(error), "history": []})
                continue
            trial.set_user_attr("changes", changes)
            self.runs.start(trial.number, network, device=worker.device, seed=network.seed, trial_state="running")
            if (same := studies.twin(self.study, trial, network)) is not None:
                self._answer(trial, same)
            elif (running := self._running(network)) is not None:
                self.twins.append((trial, running))
            else:
                self.busy[worker] = _Busy(trial, self._job(trial, network, worker.device))
                worker.send(self.busy[worker].job)
                return

    def _running(self, network: ModelConfig) -> int | None:
        """The trial that is being trained with this network."""
        jobs = ((busy.trial.number, busy.job.config) for busy in self.busy.values())
        return next((number for number, one in jobs if one.replace(device=network.device) == network), None)

    def _answer(self, trial: optuna.Trial, same: FrozenTrial) -> None:
        """End a trial as the one with the same network ended; it is not trained."""
        trial.set_user_attr("same_as", same.number)
        self._end(trial, same.state, {"history": [], "values": same.values, "error": f"as {trial_name(same.number)}"})

    def _another(self) -> optuna.Trial | None:
        """A trial that was left half done, or a new one; None: enough."""
        if self.left:
            return self.left.pop(0)
        if self.asked >= self.config.search.trials:
            return None
        if time.monotonic() >= self.deadline:
            self.tally.stopped = "search.timeout was over"
        elif studies.has_stalled(self.study, self.config):
            self.tally.stopped = f"{self.config.search.plateau} trials in a row had not been better (search.plateau)"
        elif (trial := studies.ask(self.study, self.config)) is not None:
            self.asked += 1
            return trial
        else:
            self.tally.stopped = "every point of the grid had been tried"
        return None

    def _job(self, trial: optuna.Trial, network: ModelConfig, device: str) -> Job:
        return Job(
            config=network.replace(device=device),
            windows=self.windows.folder,
            n_targets=len(self.config.data.target),
            n_known=self.windows.n_known,
            n_series=self.windows.n_series,
            stride=self.config.window.stride,
            folder=self._folder(trial.number),
            timed=len(self.config.search.objectives) > 1,
        )

    def _folder(self, number: int) -> Path:
        return self.folder / trial_name(number)

    def _hear(self, worker: Worker) -> None:
        try:
            what, content, spent = worker.hear()
        except WorkerDiedError as died:
            self._bury(worker, died)
            return
        if what == "ready":
            return
        trial = self.busy[worker].trial
        if what == "history":
            self.tally.resumed[trial.number] = len(content)
            self.runs.epochs(trial.number, content[:-1])  # the last one is told once more
        elif what == "epoch":
            worker.send(self._verdict(trial, content))
            self.runs.epochs(trial.number, [content])
        else:
            del self.busy[worker]
            self.tally.cpu_seconds += spent
            states = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
            if what == "cut":  # it stays as it is in the study: with more time it goes on
                self.tally.count(trial.number, TrialState.RUNNING, content)
                for twin in self._twins_of(trial.number):
                    self.tally.count(twin.number, TrialState.RUNNING, {"history": []}, trial.number)
            else:
                self._end(trial, states[what], content)
            self._next(worker)

    def _verdict(self, trial: optuna.Trial, record: dict[str, float]) -> str:
        studies.report(trial, record["val_rmse"], int(record["epoch"]) - 1)
        if studies.should_prune(trial, self.config):
            return "prune"
        return "finish" if time.monotonic() >= self.deadline else "go"

    def _bury(self, worker: Worker, died: WorkerDiedError) -> None:
        """Another process goes on with the trial of a dead one, which may have been the trial's fault."""
        busy = self.busy[worker]
        worker.replace()
        busy.deaths += 1
        if busy.deaths < _MOST_DEATHS:
            worker.send(busy.job)
            return
        del self.busy[worker]
        message = f"its worker died {busy.deaths} times (exit code {died}). If memory ran out, lower search.workers"
        self._end(busy.trial, TrialState.FAIL, {"error": message, "history": []})
        self._next(worker)

    def _end(self, trial: optuna.Trial, state: TrialState, result: dict[str, Any]) -> None:
        """Into the study first: what stands there is never done again."""
        values = result.get("values") or [result[key] for key in ("val_rmse", "latency_ms") if key in result]
        count = len(self.config.search.objectives)
        studies.finish(self.study, trial, values[:count] if state == TrialState.COMPLETE else None, state)
        self.tally.count(trial.number, state, result, trial.user_attrs.get("same_as"))
        for twin in self._twins_of(trial.number):
            self._answer(twin, self.study.trials[trial.number])

    def _twins_of(self, number: int) -> list[optuna.Trial]:
        """The trials that wait for this one's end; they wait no more."""
        found = [twin for twin, other in self.twins if other == number]
        self.twins = [(twin, other) for twin, other in self.twins if other != number]
        return found
