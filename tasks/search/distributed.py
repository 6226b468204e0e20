"""A search on the nodes of a cluster. Each node runs trials of the same study with worker processes of its own.

Results are read from the study and the folders of the trials. A dead node loses only the trials that it was running;
another node, or the next run, continues them.
"""

import logging
from dataclasses import dataclass
from functools import partial

import optuna
from optuna.trial import TrialState

from lstm.errors import TrainingError
from tasks.handles import RunHandle
from tasks.search.backends import run_on_cluster
from tasks.search.coordinator import run_trials
from tasks.search.results import SearchResults, finished_result
from tasks.search.search_job import SearchJob
from tasks.search.trial_folder import TrialResult
from tasks.search.trial_logger import trial_logger
from tasks.search.worker_pool import search_devices
from tasks.settings import set_default_environment
from tasks.tracking import runs


@dataclass(frozen=True)
class NodeReport:
    """What a node knows that the study does not hold."""

    cpu_seconds: float
    stop_reason: str
    interrupted: dict[int, TrialResult]  # by trial number


def run_distributed(job: SearchJob, study: optuna.Study, results: SearchResults) -> None:
    """Run the search on the nodes of the cluster, and record its trials.

    Raises:
        ConfigError: the cluster, or one of its nodes, is not set up for it.
        TrainingError: every node was lost before the search had ended.
    """
    finished_before = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    reports: list[NodeReport] = []
    errors: list[Exception] = []
    runs.tag(job.run, runner=job.config.execution.runner)
    on_poll = partial(_update_progress, study, results)
    for outcome in run_on_cluster(job.config.execution, partial(run_on_node, job), on_poll):
        (reports if isinstance(outcome, NodeReport) else errors).append(outcome)
    if errors:
        message = "%d of %d nodes of the search were lost (the last one: %s)"
        logging.getLogger(__name__).warning(message, len(errors), len(errors) + len(reports), _one_line(errors[-1]))
    if not reports:
        raise TrainingError(
            f"every node of the search was lost ({_one_line(errors[-1])}). Run the same command again to continue it."
        )
    collect(job, study, results, reports, finished_before)


def run_on_node(job: SearchJob, cores: int) -> NodeReport:
    """Run trials on this node. `cores`: that `search.workers: auto` may use.

    Raises:
        ConfigError: this node is not set up for it.
        TrainingError: the training run has ended, or no worker could be started.
    """
    set_default_environment()
    study = job.open_study()
    devices = search_devices(job.config, cores)
    with trial_logger(job.run) as logger:
        results = SearchResults(job.config, logger, lambda n_ended, best: None)
        interrupted = run_trials(job, study, results, devices)
    return NodeReport(results.cpu_seconds, results.stop_reason, interrupted)


def _update_progress(study: optuna.Study, results: SearchResults) -> None:
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    best = min((trial.values[0] for trial in finished if trial.state == TrialState.COMPLETE), default=float("nan"))
    results.on_progress(max(len(finished), results.n_ended), best)


def collect(
    job: SearchJob, study: optuna.Study, results: SearchResults, reports: list[NodeReport], finished_before: set[int]
) -> None:
    """Record all trials finished by any node.

    If a node died before it wrote a trial's MLflow run, the run is written from the trial's folder.
    """
    results.cpu_seconds = sum(report.cpu_seconds for report in reports)
    results.stop_reason = next((report.stop_reason for report in reports if report.stop_reason), "")
    interrupted = {number: result for report in reports for number, result in report.interrupted.items()}
    mlflow_runs = _finished_runs(job.run)
    for number, run in mlflow_runs.items():
        results.logger.adopt(number, run)
    for trial in study.trials:
        if trial.number in finished_before or trial.state == TrialState.WAITING:
            continue
        if trial.state.is_finished():
            result = finished_result(trial, job.folder)
            if trial.number in mlflow_runs:
                results.record_logged(trial.number, trial.state, result, trial.user_attrs.get("same_as"))
            else:
                results.record_unlogged(trial, result)
        elif trial.number in interrupted:
            results.record_logged(trial.number, trial.state, interrupted[trial.number])


def _finished_runs(parent: RunHandle) -> dict[int, RunHandle]:
    """Return the MLflow runs that the nodes have completed, by trial number.

    No node is left: a run that is still RUNNING was that of a dead one.
    """
    runs.end_children(parent, "KILLED")
    query = f"tags.mlflow.parentRunId = '{parent.run_id}' AND tags.kind = 'trial'"
    mlflow_runs = [
        run
        for run in runs.paginate(runs.client().search_runs, [parent.experiment_id], query)
        if run.info.status != "KILLED"
    ]
    return {
        int(run.info.run_name.removeprefix("trial-")): RunHandle(
            run.info.run_id, parent.experiment_id, run.info.run_name
        )
        for run in sorted(mlflow_runs, key=lambda run: run.info.start_time)
    }


def _one_line(error: object) -> str:
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]
