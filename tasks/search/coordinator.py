"""The coordinator of a search on one machine: asks the study for trials, hands them to workers, tells the results.

Only this process talks to the study and to MLflow; workers hold torch and their arrays. On a cluster each node runs a
coordinator of its own on the same study. A node leaves the trials of the others alone, unless their owner is dead
(tasks/search/leases.py).
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import wait

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.errors import ConfigError, TrainingError
from tasks.handles import trial_name
from tasks.search import study as studies
from tasks.search.duplicates import find_duplicate, find_running_duplicate
from tasks.search.leases import TrialLeases, trial_leases
from tasks.search.next_trial import next_trial
from tasks.search.results import SearchResults
from tasks.search.search_job import SearchJob
from tasks.search.trial_folder import TrialResult
from tasks.search.worker import Job
from tasks.search.worker_pool import Worker, WorkerDiedError, make_job, worker_pool

_MAX_DEATHS = 3  # of workers during one trial, without an epoch in between
_POLL_S = 1.0  # between two looks at the trials of other nodes
_HUNG_TIMEOUT_S = 60.0  # after search.timeout; a worker that sends nothing for at least so long is killed
_STATES = {"done": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}


def run_trials(
    job: SearchJob, study: optuna.Study, results: SearchResults, devices: Sequence[str]
) -> dict[int, TrialResult]:
    """Run trials on the workers of this machine until the search is over; return the interrupted ones by number.

    Raises:
        TrainingError: a worker could not be started, or the search was cancelled.
    """
    with (
        worker_pool(devices) as workers,
        trial_leases(study, job.folder, job.owner_run_id, job.is_distributed) as leases,
    ):
        coordinator = TrialCoordinator(job, study, results, leases)
        coordinator.run(workers)
        return coordinator.interrupted


@dataclass
class _RunningTrial:
    """The trial of a worker."""

    trial: optuna.Trial
    job: Job
    deaths: int = 0


class TrialCoordinator:
    """Runs the trials of one node."""

    def __init__(self, job: SearchJob, study: optuna.Study, results: SearchResults, leases: TrialLeases) -> None:
        """Use `run_trials`."""
        self.job, self.study, self.results, self.leases = job, study, results, leases
        self.config, self.logger = job.config, results.logger
        self.deadline = time.monotonic() + job.until - time.time()
        self.running: dict[Worker, _RunningTrial] = {}
        self.duplicates: list[tuple[optuna.Trial, int]] = []  # trials, and the running trial whose result they copy
        self.interrupted: dict[int, TrialResult] = {}  # by search.timeout; they stay RUNNING in the study
        self.slowest_epoch, self.polled_at = 0.0, time.monotonic()

    def run(self, workers: list[Worker]) -> None:
        """Run until no worker has a trial, no trial is left to ask for, and no other node runs one.

        Raises:
            TrainingError: the search was cancelled.
        """
        for worker in workers:
            self._assign(worker)
        while self.running or self._must_poll():
            ready = wait([worker.connection for worker in self.running], _POLL_S)
            for worker in [worker for worker in self.running if worker.connection in ready]:
                self._handle_message(worker)
            if time.monotonic() >= self.polled_at + _POLL_S:
                self._poll(workers)
                self.polled_at = time.monotonic()
        self._check_cancelled()
        for trial, original in self.duplicates:
            self._interrupt(trial.number, TrialResult("interrupted"), original)

    def _time_is_over(self) -> bool:
        return time.monotonic() >= self.deadline

    def _must_poll(self) -> bool:
        """Whether other workers still run trials that we may have to take over or whose results we are waiting for."""
        return not self._time_is_over() and (bool(self.duplicates) or self.leases.any_foreign())

    def _poll(self, workers: list[Worker]) -> None:
        """Copy results of other nodes, kill hung workers, and look for trials for idle ones."""
        self._check_cancelled()
        self._kill_hung_workers()
        foreign = {original for _, original in self.duplicates} - self.leases.trial_numbers()
        for original in [self.study.trials[number] for number in foreign]:
            for trial in self._pop_duplicates(original.number) if original.state.is_finished() else ():
                self._copy_result(trial, original)
        for worker in [worker for worker in workers if worker not in self.running]:
            self._assign(worker)

    def _check_cancelled(self) -> None:
        if self.leases.cancelled:
            raise TrainingError("the search was cancelled: another run has taken it over, or its own run has ended.")

    def _assign(self, worker: Worker) -> None:
        """Send the worker the next trial that must be trained, or leave it idle if there is none."""
        while worker not in self.running:
            with self.leases.lock():
                trial = next_trial(self.job, self.study, self.results, self.leases, self._time_is_over())
                if trial is None:
                    return
                job = self._submit(trial, worker.device)
            if job is not None:
                self.running[worker] = _RunningTrial(trial, job)
                worker.send(job)

    def _submit(self, trial: optuna.Trial, device: str) -> Job | None:
        """Return the job of the trial; None: it has failed, or is a duplicate of another trial."""
        try:
            params = studies.suggest_params(trial, self.config)
            network = self.config.network_config(params)
        except ConfigError as error:
            self.logger.start(trial.number, self.config.model)
            self._finish(trial, TrialState.FAIL, TrialResult("failed", error=str(error)))
            return None
        trial.set_user_attr("changes", params)
        self.logger.start(trial.number, network, device=device, seed=network.seed, trial_state="running")
        original = find_duplicate(self.study, trial, network)
        running = find_running_duplicate(self.study, trial) if original is None else None
        if original is None and running is None:  # one may have finished between the two calls
            original = find_duplicate(self.study, trial, network)
        if original is not None:
            self._copy_result(trial, original)
        elif running is None:
            folder = self.job.folder / trial_name(trial.number)
            several = len(self.config.search.objectives) > 1
            return make_job(
                self.config, self.job.windows, network.model_copy(update={"device": device}), folder, several
            )
        elif running in self.interrupted:
            self._interrupt(trial.number, TrialResult("interrupted"), running)
        else:
            self.duplicates.append((trial, running))
        return None

    def _handle_message(self, worker: Worker) -> None:
        try:
            event, payload, cpu_seconds = worker.recv()
        except WorkerDiedError as died:
            self._replace_worker(worker, died)
            return
        if event == "ready":
            return
        trial = self.running[worker].trial
        if event == "history":
            self.results.resumed_at[trial.number] = len(payload)
            self.logger.log_epochs(trial.number, payload[:-1])  # the worker reports the last one again
        elif event == "epoch":
            self.running[worker].deaths = 0
            self.slowest_epoch = max(self.slowest_epoch, payload.get("seconds", 0.0))
            worker.send(self._reply(trial, payload))
            self.logger.log_epochs(trial.number, [payload])
        else:
            del self.running[worker]
            self.results.cpu_seconds += cpu_seconds
            if payload.state == "interrupted":
                self._interrupt(trial.number, payload)
            else:
                self._finish(trial, _STATES[payload.state], payload)
            self._assign(worker)

    def _reply(self, trial: optuna.Trial, record: dict[str, float]) -> str:
        """Report an epoch to the study; return `continue`, `finish` or `prune`."""
        studies.report(trial, record["val_rmse"], int(record["epoch"]) - 1)
        if studies.should_prune(trial, self.config):
            return "prune"
        return "finish" if self._time_is_over() else "continue"

    def _replace_worker(self, worker: Worker, died: WorkerDiedError) -> None:
        """Restart the dead worker and retry its trial; fail the trial after `_MAX_DEATHS` deaths without an epoch."""
        running = self.running[worker]
        worker.replace()
        running.deaths += 1
        if running.deaths < _MAX_DEATHS:
            worker.send(running.job)
            return
        del self.running[worker]
        error = f"its worker died {running.deaths} times (exit code {died}). If memory ran out, lower search.workers"
        self._finish(running.trial, TrialState.FAIL, TrialResult("failed", error=error))
        self._assign(worker)

    def _kill_hung_workers(self) -> None:
        """Kill the workers that have not ended their epoch long after search.timeout."""
        overtime = time.monotonic() - self.deadline
        if overtime < max(_HUNG_TIMEOUT_S, 3 * self.slowest_epoch):
            return
        for worker, running in list(self.running.items()):
            error = f"its worker did not answer for {overtime:.0f} s after search.timeout, and was killed"
            logging.getLogger(__name__).warning("%s: %s", trial_name(running.trial.number), error)
            del self.running[worker]
            worker.stop(0)
            self._interrupt(running.trial.number, TrialResult("interrupted", error=error))

    def _copy_result(self, trial: optuna.Trial, original: FrozenTrial) -> None:
        """Finish a duplicate with the result of the original, without training it."""
        trial.set_user_attr("same_as", original.number)
        error = f"as {trial_name(original.number)}" if original.state == TrialState.FAIL else ""
        self._finish(trial, original.state, TrialResult("duplicate", error=error), original.values)

    def _finish(
        self, trial: optuna.Trial, state: TrialState, result: TrialResult, values: list[float] | None = None
    ) -> None:
        """Tell the study first, so that the trial is not repeated if this process dies; then record the result."""
        if not self.leases.holds(trial):
            self.leases.release(trial.number)
            self.logger.end(trial.number, "KILLED", trial_state="interrupted")
            return
        if state == TrialState.FAIL:
            trial.set_user_attr("error", result.error)
        values = values or result.values
        complete = state == TrialState.COMPLETE
        studies.tell(self.study, trial, values[: len(self.config.search.objectives)] if complete else None, state)
        self.leases.release(trial.number)
        self.results.record(trial.number, state, result, trial.user_attrs.get("same_as"))
        for duplicate in self._pop_duplicates(trial.number):
            self._copy_result(duplicate, self.study.trials[trial.number])

    def _interrupt(self, number: int, result: TrialResult, same_as: int | None = None) -> None:
        """Record a trial that search.timeout has interrupted, and its duplicates. They stay RUNNING in the study."""
        self.interrupted[number] = result
        self.results.record(number, TrialState.RUNNING, result, same_as)
        for duplicate in self._pop_duplicates(number):
            self._interrupt(duplicate.number, TrialResult("interrupted"), number)

    def _pop_duplicates(self, number: int) -> list[optuna.Trial]:
        """Remove and return the duplicates that wait for this trial."""
        waiting = [trial for trial, original in self.duplicates if original == number]
        self.duplicates = [(trial, original) for trial, original in self.duplicates if original != number]
        return waiting
