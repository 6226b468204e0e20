"""A search on several machines: each works off a share of one study, with worker processes of its own.

What they found is read from the study and the folders of the trials: a share that died loses nothing but the trials
that it was at, and another one, or the next run, goes on with those.
"""

import logging
import socket
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import optuna
from mlflow.exceptions import MlflowException
from optuna.trial import FrozenTrial, TrialState

from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, TrainingError
from tasks.handles import RunHandle, WindowsHandle, trial_name
from tasks.search import study as studies
from tasks.search.backends import run_on_cluster
from tasks.search.coordinator import TrialCoordinator
from tasks.search.leases import trial_leases
from tasks.search.results import SearchResults
from tasks.search.storage import STORAGE_VARIABLE, database_url
from tasks.search.trial_folder import Result, result_of
from tasks.search.trial_logger import trial_logger
from tasks.search.worker_pool import search_devices, worker_pool
from tasks.search.workspace import study_key
from tasks.settings import home, quiet_environment
from tasks.tracking import runs as tracking


@dataclass(frozen=True)
class SearchJob:
    """What a machine is told. No address and no password: those are in its own environment."""

    config: PipelineConfig
    windows: WindowsHandle
    run: RunHandle
    study: str  # its name
    folder: Path
    home: Path
    in_database: bool
    key: str  # of the search, which holds the versions of library and torch
    called: str  # id of the training run, see tasks/claims.py
    until: float  # Unix time, infinite where there is no timeout
    failed_before: int


@dataclass(frozen=True)
class NodeReport:
    """What the study does not hold of a share."""

    cpu_seconds: float
    stopped: str
    cut: dict[int, Result]  # trials that the timeout cut short


def search_job(
    config: PipelineConfig,
    windows: WindowsHandle,
    run: RunHandle,
    study: optuna.Study,
    folder: Path,
    called: str,
    seconds: float,
    failed_before: int,
) -> SearchJob:
    """What every machine is told, where `seconds` are left from now on."""
    return SearchJob(
        config=config,
        windows=windows,
        run=run,
        study=study.study_name,
        folder=folder,
        home=home(),
        in_database=bool(database_url()),
        key=study_key(config, windows),
        called=called,
        until=time.time() + seconds,
        failed_before=failed_before,
    )


def run_distributed(share: SearchJob, study: optuna.Study, tally: SearchResults) -> None:
    """Have the cluster work off the study, and count what it did.

    Raises:
        ConfigError: the cluster, or a machine of it, is not set up for it.
        TrainingError: every share died, and the search is not at its end.
    """
    known = {trial.number for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()}
    reports: list[NodeReport] = []
    lost: list[Exception] = []
    tracking.tag(share.run, runner=share.config.execution.runner)
    for outcome in run_on_cluster(
        share.config.execution, partial(run_on_node, share), partial(_update_progress, study, tally)
    ):
        (reports if isinstance(outcome, NodeReport) else lost).append(outcome)
    if lost:
        told = "%d of %d shares of the search were lost (the last one: %s)"
        logging.getLogger(__name__).warning(told, len(lost), len(lost) + len(reports), _first_line(lost[-1]))
    if not reports:
        raise TrainingError(
            f"every share of the search was lost ({_first_line(lost[-1])}). The same command goes on from it."
        )
    collect(share, study, tally, reports, known)


def run_on_node(share: SearchJob, cores: int) -> NodeReport:
    """Work off a share, in a process of the cluster. `cores`: how many it may use, unless `search.workers` says it.

    Raises:
        ConfigError: this machine is not set up for it.
        TrainingError: the training run has ended meanwhile, or no worker could be started.
    """
    quiet_environment()
    study = _open_study(share)
    devices = search_devices(share.config, cores)
    with (
        trial_logger(share.run) as runs,
        trial_leases(study, share.folder, share.called) as mine,
        worker_pool(devices) as crew,
    ):
        tally = SearchResults(share.config, runs, lambda ended, best: None)
        seconds = share.until - time.time()
        loop = TrialCoordinator(
            share.config, share.windows, study, share.folder, tally, mine, seconds, share.failed_before
        )
        loop.go(crew)
        return NodeReport(tally.cpu_seconds, tally.stopped, loop.cut)


def _open_study(share: SearchJob) -> optuna.Study:
    """The study, once it is sure that this machine sees what the training run sees."""
    host = socket.gethostname()
    if not share.windows.folder.is_dir() or not share.folder.is_dir():
        raise ConfigError(f"{host}: {share.home} is not there. LSTM_HOME must be a folder that all machines see.")
    if home() != share.home:
        raise ConfigError(f"{host}: LSTM_HOME is {home()}, but must be {share.home}, as where the training run is.")
    if share.in_database != bool(database_url()):
        raise ConfigError(
            f"{host}: {STORAGE_VARIABLE} must be set as where the training run is, or not at all, as there."
        )
    study = studies.load_study(share.study, share.folder, share.config)
    if study is None:
        raise ConfigError(
            f"{host}: {STORAGE_VARIABLE} names another database than where the training run is: no such study."
        )
    if study_key(share.config, share.windows) != share.key:
        raise ConfigError(f"{host}: has another version of lstm or torch than where the training run is. Install it.")
    try:
        tracking.client().get_run(share.run.run_id)
    except MlflowException:
        raise ConfigError(f"{host}: MLFLOW_TRACKING_URI must be set as where the training run is.") from None
    return study


def _update_progress(study: optuna.Study, tally: SearchResults) -> None:
    """Move the bar."""
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    best = min((trial.values[0] for trial in ended if trial.state == TrialState.COMPLETE), default=float("nan"))
    tally.progress(max(len(ended), tally.ended), best)


def collect(
    share: SearchJob, study: optuna.Study, tally: SearchResults, reports: list[NodeReport], known: set[int]
) -> None:
    """Count what ended since, whoever did it, with the runs that the shares have written; one that a share did not come
    to write, since it died, is written from what it left."""
    tally.cpu_seconds = sum(report.cpu_seconds for report in reports)
    cut = {number: result for report in reports for number, result in report.cut.items()}
    trials = [trial for trial in study.trials if trial.number not in known and trial.state != TrialState.WAITING]
    tally.stopped = next((report.stopped for report in reports if report.stopped), "")
    runs = _finished_runs(share.run)
    for number, run in runs.items():
        tally.runs.known(number, run)
    for trial in trials:
        if trial.state.is_finished():
            result, same_as = finished_result(trial, share.folder), trial.user_attrs.get("same_as")
            if trial.number in runs:
                tally.add(trial.number, trial.state, result, same_as)
            else:
                tally.write(trial, result)
        elif trial.number in cut:
            tally.add(trial.number, trial.state, cut[trial.number])


def _finished_runs(parent: RunHandle) -> dict[int, RunHandle]:
    """The runs of the trials that their shares have written to the end, by number.

    Every share has ended: what still is RUNNING was that of a dead one.
    """
    tracking.end_children(parent, "KILLED")
    query = f"tags.mlflow.parentRunId = '{parent.run_id}' AND tags.kind = 'trial'"
    found = list(tracking.pages(tracking.client().search_runs, [parent.experiment_id], query))
    whole = sorted((run for run in found if run.info.status != "KILLED"), key=lambda run: run.info.start_time)
    names = {run.info.run_name: RunHandle(run.info.run_id, parent.experiment_id, run.info.run_name) for run in whole}
    return {int(name.removeprefix("trial-")): run for name, run in names.items()}


def _first_line(error: object) -> str:
    """An error of whatever kind, in a line."""
    first = (str(error).splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]


def finished_result(trial: FrozenTrial, folder: Path) -> Result:
    """What a trial of the study came to, as its folder tells it."""
    if trial.state == TrialState.FAIL:
        return {"history": [], "error": trial.user_attrs.get("error", "its error is no number")}
    found = result_of(folder / trial_name(trial.number))
    return {"history": [], "lost": True} if found is None else found
