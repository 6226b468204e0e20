"""One share of a search: ask the study, listen to the workers of this machine, tell the study.

The study and the tracking live in this process alone, so nothing here contends for them; workers hold torch and their
arrays, and are told after each epoch whether to go on. Other shares, on other machines, do the same with the same
study: what one has begun the others leave alone, unless it is dead (tasks/claims.py).
"""

import logging
import time
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, TrainingError
from tasks.handles import WindowsHandle, trial_name
from tasks.search import study as studies
from tasks.search.leases import TrialLeases
from tasks.search.results import SearchResults
from tasks.search.trial_folder import Result
from tasks.search.worker import Job
from tasks.search.worker_pool import Worker, WorkerDiedError

_MAX_DEATHS = 3  # of workers over one trial, without an epoch between them
_POLL_S = 1.0  # seconds between two looks at what others do
_HUNG_TIMEOUT_S = 60.0  # seconds at least that a worker may say nothing once the time is over
_STATES = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


@dataclass
class _RunningTrial:
    """What a worker is at."""

    trial: optuna.Trial
    job: Job
    deaths: int = 0


class TrialCoordinator:
    """Ask, listen, tell, until the study has what was asked for."""

    def __init__(
        self,
        config: PipelineConfig,
        windows: WindowsHandle,
        study: optuna.Study,
        folder: Path,
        tally: SearchResults,
        claims: TrialLeases,
        seconds: float,
        failed_before: int,
    ) -> None:
        """`seconds`: until the time is over; `failed_before`: trials that failed earlier, and count no more."""
        self.config, self.windows, self.study, self.folder = config, windows, study, folder
        self.tally, self.runs, self.claims = tally, tally.runs, claims
        self.deadline, self.failed_before = time.monotonic() + seconds, failed_before
        self.busy: dict[Worker, _RunningTrial] = {}
        self.twins: list[tuple[optuna.Trial, int]] = []  # trials with the network of one that is being trained
        self.cut: dict[int, Result] = {}  # trials that the timeout has cut short, RUNNING in the study
        self.longest, self.looked = 0.0, time.monotonic()

    def go(self, crew: list[Worker]) -> None:
        """Until every worker is idle, nothing more is to be asked, and no other share is at a trial.

        Raises:
            TrainingError: another run has taken over the search, or the one that it is for has ended.
        """
        for worker in crew:
            self._next(worker)
        while self.busy or self._must_wait():
            ready = wait([worker.connection for worker in self.busy], _POLL_S)
            for worker in [worker for worker in self.busy if worker.connection in ready]:
                self._hear(worker)
            if time.monotonic() >= self.looked + _POLL_S:
                self._look(crew)
                self.looked = time.monotonic()
        self._check()
        for twin, other in self.twins:
            self._cut(twin.number, {"history": []}, other)

    def _is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def _must_wait(self) -> bool:
        """Whether others are at trials. Should they die, somebody must go on; should they end, twins are answered."""
        return not self._is_over() and (bool(self.twins) or self.claims.others())

    def _look(self, crew: list[Worker]) -> None:
        """At what others did meanwhile, and at workers that say nothing any more."""
        self._check()
        self._give_up_the_hung()
        elsewhere = {other for _, other in self.twins} - self.claims.numbers()
        for ended in [self.study.trials[number] for number in elsewhere]:
            for twin in self._twins_of(ended.number) if ended.state.is_finished() else ():
                self._answer(twin, ended)
        for worker in [worker for worker in crew if worker not in self.busy]:
            if not self.claims.alone or not self.busy:
                self._next(worker)

    def _check(self) -> None:
        if self.claims.called_off:
            raise TrainingError("another run has taken over this search, or the run that it was for has ended.")

    def _next(self, worker: Worker) -> None:
        """Give the worker a trial whose values go together and are new, or leave it idle when the search is over."""
        while worker not in self.busy:
            with self.claims.asking():
                trial = self._another()
                if trial is None:
                    return
                job = self._begin(trial, worker.device)
            if job is not None:
                self.busy[worker] = _RunningTrial(trial, job)
                worker.send(job)

    def _another(self) -> optuna.Trial | None:
        """A trial that was left half done, or a new one; None: enough."""
        if not self.claims.alone:
            self.claims.check()
            if self.claims.called_off:
                return None
        mine = self.claims.numbers()
        ends = self._is_over() and not self.claims.alone  # what is left then is what others have cut short
        left = [] if ends else [one for one in studies.orphaned_trials(self.study) if one.number not in mine]
        trial = left[0] if left else self._asked()
        if trial is not None:
            self.claims.take(trial)
        return trial

    def _asked(self) -> optuna.Trial | None:
        if studies.n_started(self.study) - self.failed_before >= self.config.search.trials:
            return None
        if self._is_over():
            self.tally.stopped = "search.timeout was over"
        elif studies.plateau_reached(self.study, self.config):
            self.tally.stopped = f"{self.config.search.plateau} trials in a row had not been better (search.plateau)"
        elif (trial := studies.ask(self.study, self.config)) is not None:
            return trial
        else:
            self.tally.stopped = "every point of the grid had been tried"
        return None

    def _begin(self, trial: optuna.Trial, device: str) -> Job | None:
        """The trial's job; None: it has failed, or another trial answers for it, now or when that one ends."""
        try:
            changes = studies.suggest_params(trial, self.config)
            network = self.config.network_config(changes)
        except ConfigError as error:
            self.runs.start(trial.number, self.config.model)
            self._end(trial, TrialState.FAIL, {"error": str(error), "history": []})
            return None
        trial.set_user_attr("changes", changes)
        self.runs.start(trial.number, network, device=device, seed=network.seed, trial_state="running")
        same = studies.find_duplicate(self.study, trial, network)
        running = studies.find_running_duplicate(self.study, trial) if same is None else None
        if running is None:  # what ran when it was first looked for may have ended before it was looked for again
            same = same or studies.find_duplicate(self.study, trial, network)
        if same is not None:
            self._answer(trial, same)
        elif running is None:
            return self._job(trial, network, device)
        elif running in self.cut:
            self._cut(trial.number, {"history": []}, running)
        else:
            self.twins.append((trial, running))
        return None

    def _job(self, trial: optuna.Trial, network: ModelConfig, device: str) -> Job:
        return Job(
            config=network.replace(device=device),
            windows=self.windows.folder,
            n_targets=len(self.config.data.target),
            n_known=self.windows.n_known,
            n_series=self.windows.n_series,
            stride=self.config.window.stride,
            folder=self.folder / trial_name(trial.number),
            timed=len(self.config.search.objectives) > 1,
        )

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
            self.busy[worker].deaths = 0
            self.longest = max(self.longest, content.get("seconds", 0.0))
            worker.send(self._verdict(trial, content))
            self.runs.epochs(trial.number, [content])
        else:
            del self.busy[worker]
            self.tally.cpu_seconds += spent
            if what == "cut":  # it stays as it is in the study: with more time it goes on
                self._cut(trial.number, content)
            else:
                self._end(trial, _STATES[what], content)
            self._next(worker)

    def _verdict(self, trial: optuna.Trial, record: dict[str, float]) -> str:
        studies.report(trial, record["val_rmse"], int(record["epoch"]) - 1)
        if studies.should_prune(trial, self.config):
            return "prune"
        return "finish" if self._is_over() else "go"

    def _bury(self, worker: Worker, died: WorkerDiedError) -> None:
        """Another process goes on with the trial of a dead one, which may have been the trial's fault."""
        busy = self.busy[worker]
        worker.replace()
        busy.deaths += 1
        if busy.deaths < _MAX_DEATHS:
            worker.send(busy.job)
            return
        del self.busy[worker]
        message = f"its worker died {busy.deaths} times (exit code {died}). If memory ran out, lower search.workers"
        self._end(busy.trial, TrialState.FAIL, {"error": message, "history": []})
        self._next(worker)

    def _give_up_the_hung(self) -> None:
        """A worker answers after each epoch; one that is stopped or stuck would hold the search for ever."""
        silence = time.monotonic() - self.deadline
        if silence < max(_HUNG_TIMEOUT_S, 3 * self.longest):
            return
        for worker, busy in list(self.busy.items()):
            said = f"its worker said nothing for {silence:.0f} s after search.timeout, and was killed"
            logging.getLogger(__name__).warning("%s: %s", trial_name(busy.trial.number), said)
            del self.busy[worker]
            worker.end(0)
            self._cut(busy.trial.number, {"history": [], "error": said})

    def _answer(self, trial: optuna.Trial, same: FrozenTrial) -> None:
        """End a trial as the one with the same network ended; it is not trained."""
        trial.set_user_attr("same_as", same.number)
        self._end(trial, same.state, {"history": [], "values": same.values, "error": f"as {trial_name(same.number)}"})

    def _end(self, trial: optuna.Trial, state: TrialState, result: dict[str, Any]) -> None:
        """Into the study first: what stands there is never done again."""
        if not self.claims.has(trial):
            self.claims.let_go(trial.number)
            self.runs.end(trial.number, "KILLED", trial_state="interrupted")
            return
        if state == TrialState.FAIL:
            trial.set_user_attr("error", result["error"])
        values = result.get("values") or [result[key] for key in ("val_rmse", "latency_ms") if key in result]
        count = len(self.config.search.objectives)
        studies.tell(self.study, trial, values[:count] if state == TrialState.COMPLETE else None, state)
        self.claims.let_go(trial.number)
        self.tally.count(trial.number, state, result, trial.user_attrs.get("same_as"))
        for twin in self._twins_of(trial.number):
            self._answer(twin, self.study.trials[trial.number])

    def _cut(self, number: int, result: Result, same_as: int | None = None) -> None:
        self.cut[number] = result
        self.tally.count(number, TrialState.RUNNING, result, same_as)
        for twin in self._twins_of(number):
            self._cut(twin.number, {"history": []}, number)

    def _twins_of(self, number: int) -> list[optuna.Trial]:
        """The trials that wait for this one's end; they wait no more."""
        found = [twin for twin, other in self.twins if other == number]
        self.twins = [(twin, other) for twin, other in self.twins if other != number]
        return found
