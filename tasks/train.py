"""The search: Optuna proposes, long-lived workers train, every trial is an MLflow run of its own.

Here, or in shares on the machines of a cluster: the same loop either way. What has ended is in the study and in the
trial's folder before anything else happens: whoever starts the same search again goes on from there.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.trial import TrialState
from prefect import task
from prefect.cache_policies import NO_CACHE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from lstm.calendars.durations import duration
from lstm.config.pipeline import PipelineConfig
from tasks.handles import RunHandle, Search, WindowsHandle
from tasks.reporting.plotting import save_plots
from tasks.reporting.search_plots import pareto, search_pictures
from tasks.search import study as studies
from tasks.search.coordinator import TrialCoordinator
from tasks.search.distributed import finished_result, run_distributed, search_job
from tasks.search.leases import search_session, trial_leases
from tasks.search.results import SearchResults
from tasks.search.trial_logger import trial_logger
from tasks.search.worker_pool import worker_pool
from tasks.search.workspace import study_workspace
from tasks.settings import run_folder
from tasks.tracking import runs as tracking


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
        study_workspace(config, windows, fresh) as (study, folder),
        trial_logger(run) as runs,
        _progress_bar(config.search.trials) as move,
        search_session(study, config.execution.runner != "local") as called,
    ):
        tally = SearchResults(config, runs, move)
        if config.execution.runner == "local":
            with worker_pool(devices) as crew, trial_leases(study, folder, called) as mine:
                failed = _record_cached(config, study, folder, tally)
                TrialCoordinator(config, windows, study, folder, tally, mine, _timeout_s(config), failed).go(crew)
        else:
            failed = _record_cached(config, study, folder, tally)
            share = search_job(config, windows, run, study, folder, called, _timeout_s(config), failed)
            run_distributed(share, study, tally)
        found = tally.search(study, folder)
        _save_plots(study, found, config, run)
        return found


def _timeout_s(config: PipelineConfig) -> float:
    """Seconds."""
    return duration(config.search.timeout).total_seconds() if config.search.timeout else float("inf")


def _record_cached(config: PipelineConfig, study: optuna.Study, folder: Path, tally: SearchResults) -> int:
    """What an earlier run of this search has ended counts as if it had ended now. What failed then does not.

    Returns:
        How many trials had failed.
    """
    studies.requeue_failed(study, config)
    for frozen in study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED)):
        tally.answered += 1
        trained = "" if frozen.datetime_complete is None else frozen.datetime_complete.isoformat(" ", "seconds")
        known = finished_result(frozen, folder)
        tally.write(frozen, known, answered_from=study.study_name, first_trained=trained)
    return studies.n_failed(study)


def _save_plots(study: optuna.Study, found: Search, config: PipelineConfig, run: RunHandle) -> None:
    """The search's pictures, for the run and for its report."""
    place = run_folder(run.run_id) / "search"
    place.mkdir(parents=True, exist_ok=True)
    front = {"pareto": pareto(found.trials, found.pareto_front)} if found.pareto_front else {}
    save_plots(place, {**search_pictures(study, config.name), **front})
    tracking.client().log_artifacts(run.run_id, str(place), "search")


@contextmanager
def _progress_bar(trials: int) -> Iterator[Callable[[int, float], None]]:
    """A bar over the trials on a terminal, and nothing elsewhere; gives what moves it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        line = bar.add_task("search", total=trials)
        yield lambda ended, best: bar.update(line, completed=ended, description=f"search, best val_rmse {best:.4f}")
