"""The training step: Optuna suggests hyperparameters, workers train the networks, every trial is an MLflow run.

The search runs on this machine or on the nodes of a cluster, with the same coordinator. A finished trial is stored in
the study and in its folder before anything else happens, so that the same command continues an interrupted search.
"""

from collections.abc import Sequence
from pathlib import Path

import optuna
from optuna.trial import TrialState
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from tasks.handles import RunHandle, Search, WindowsHandle
from tasks.reporting.plotting import save_plots
from tasks.reporting.search_plots import pareto_front, plot_search
from tasks.search.coordinator import run_trials
from tasks.search.distributed import run_distributed
from tasks.search.leases import search_session
from tasks.search.progress import progress_bar
from tasks.search.results import SearchResults, finished_result
from tasks.search.search_job import SearchJob
from tasks.search.study import requeue_failed
from tasks.search.trial_logger import trial_logger
from tasks.search.workspace import study_workspace
from tasks.settings import run_folder
from tasks.tracking import runs


@task(cache_policy=NO_CACHE, persist_result=False)
def train(
    config: PipelineConfig, windows: WindowsHandle, run: RunHandle, devices: Sequence[str], fresh: bool = False
) -> Search:
    """Search, on training and validation windows only; return the finished trials, best first.

    Args:
        config: with all defaults filled in.
        windows: of training and validation.
        run: the parent of the trials' runs.
        devices: of the workers, see `search_devices`.
        fresh: whether to delete the trials of an earlier search of the same configuration and data.

    Raises:
        TrainingError: no trial could be finished.
    """
    with (
        study_workspace(config, windows, fresh) as (study, folder),
        trial_logger(run) as logger,
        progress_bar("search", config.search.trials) as show,
        search_session(study) as owner_run_id,
    ):
        results = SearchResults(
            config, logger, lambda n_ended, best: show(n_ended, f"search, best val_rmse {best:.4f}")
        )
        _record_cached(config, study, folder, results)
        job = SearchJob.of(config, windows, run, study, folder, owner_run_id)
        if job.is_distributed:
            run_distributed(job, study, results)
        else:
            run_trials(job, study, results, devices)
        search = results.search(study, folder)
        _save_plots(study, search, config, run)
        return search


def _record_cached(config: PipelineConfig, study: optuna.Study, folder: Path, results: SearchResults) -> None:
    """Record the trials that earlier runs of this search have finished, and queue failed members again."""
    requeue_failed(study, config)
    for trial in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
        results.n_cached += 1
        trained = "" if trial.datetime_complete is None else trial.datetime_complete.isoformat(" ", "seconds")
        result = finished_result(trial, folder)
        results.record_unlogged(trial, result, answered_from=study.study_name, first_trained=trained)


def _save_plots(study: optuna.Study, search: Search, config: PipelineConfig, run: RunHandle) -> None:
    """Save the plots of the search in the folder of the run, and log them to MLflow."""
    folder = run_folder(run.run_id) / "search"
    folder.mkdir(parents=True, exist_ok=True)
    front = {"pareto": pareto_front(search.trials, search.pareto_front)} if search.pareto_front else {}
    save_plots(folder, {**plot_search(study, config.name), **front})
    runs.client().log_artifacts(run.run_id, str(folder), "search")
