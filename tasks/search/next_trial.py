"""Which trial of a search comes next: an orphaned one, an enqueued one, or one that the sampler suggests."""

import optuna

from tasks.search.leases import TrialLeases
from tasks.search.results import SearchResults
from tasks.search.search_job import SearchJob
from tasks.search.study import ask, n_started, orphaned_trials, plateau_reached


def next_trial(
    job: SearchJob, study: optuna.Study, results: SearchResults, leases: TrialLeases, time_is_over: bool
) -> optuna.Trial | None:
    """Return the next trial, leased; None: there is none. The caller holds the lock of the leases."""
    leases.check_cancelled()
    if leases.cancelled:
        return None
    orphaned = []
    if not (time_is_over and job.is_distributed):  # after the timeout they are those that other nodes have interrupted
        leased = leases.trial_numbers()
        orphaned = [trial for trial in orphaned_trials(study) if trial.number not in leased]
    trial = orphaned[0] if orphaned else _ask(job, study, results, time_is_over)
    if trial is not None:
        leases.acquire(trial)
    return trial


def _ask(job: SearchJob, study: optuna.Study, results: SearchResults, time_is_over: bool) -> optuna.Trial | None:
    """Ask the study for a trial; record why if it stops before the last planned one."""
    search = job.config.search
    if n_started(study) - job.failed_before >= search.trials:
        return None
    if time_is_over:
        results.stop_reason = "search.timeout is over"
    elif plateau_reached(study, job.config):
        results.stop_reason = f"{search.plateau} trials in a row did not improve the best error (search.plateau)"
    elif (trial := ask(study, job.config)) is not None:
        return trial
    else:
        results.stop_reason = "every point of the grid was tried"
    return None
