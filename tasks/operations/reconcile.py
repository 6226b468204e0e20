"""Find and repair what dead processes left: orphaned runs, unfinished alias swaps, scratch folders.

Owners (tasks/runtime/process_owner.py) and locks decide what is orphaned. What a living process may use is left alone.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from lstm.errors import StoreError
from lstm.scratch import orphaned_folders
from tasks.registry.alias_swap import pending_swaps
from tasks.registry.promotion import finish_pending_swap
from tasks.runtime.flow_run_owner import flow_runs_by_liveness, mark_crashed
from tasks.settings import home, run_folder, store_is_empty, tracking_uri, without_password
from tasks.tracking import runs


@dataclass(frozen=True)
class Problem:
    """Something that a dead process left, and its repair."""

    kind: str  # runs | aliases | flow_runs | leftovers
    line: str  # description for the user
    repair: Callable[[], object]


@dataclass(frozen=True)
class Repairs:
    """What was repaired."""

    runs: int = 0  # MLflow runs, ended as KILLED
    aliases: int = 0  # models with an unfinished alias swap
    flow_runs: int = 0  # Prefect flow runs, set to Crashed
    leftovers: int = 0  # deleted files and folders
    lines: tuple[str, ...] = ()  # one description for each repair
    left: tuple[str, ...] = ()  # what could not be repaired, and why

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def reconcile() -> Repairs:
    """Repair what dead processes left in MLflow, in Prefect and on disk. Idempotent.

    Interrupted trials stay RUNNING in their study: the next run of the same search continues them (tasks/search/).

    Raises:
        StoreError: a store does not answer.
        ConfigError: the tracking server does not answer.
    """
    done, left = list[Problem](), list[str]()
    for problem in problems():
        try:
            problem.repair()
            done.append(problem)
        except StoreError as error:
            left.append(f"{problem.line}: {error}")
    counts = Counter(problem.kind for problem in done)
    return Repairs(**counts, lines=tuple(problem.line for problem in done), left=tuple(left))


def problems() -> list[Problem]:
    """Find what dead processes left. Creates no store, and sends no request to Prefect.

    Raises:
        StoreError: a store does not answer.
        ConfigError: the tracking server does not answer.
    """
    with _store_errors():
        orphans = [] if store_is_empty() else runs.orphaned_runs(_experiment_ids())
        swaps = [] if store_is_empty() else pending_swaps()
        flow_runs = _dead_flow_runs(orphans)
        in_stores = [*map(_run_problem, orphans), *map(_alias_problem, swaps), *map(_flow_run_problem, flow_runs)]
        return in_stores + [_leftover_problem(path) for path in _leftovers()]


@contextmanager
def _store_errors() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        reason, uri = str(error).splitlines()[0], without_password(tracking_uri())
        raise StoreError(f"{uri}: the store does not answer ({reason}). Check that it works.") from None


def _experiment_ids() -> list[str]:
    return [experiment.experiment_id for experiment in runs.paginate(runs.client().search_experiments)]


def _run_problem(run: Run) -> Problem:
    def repair() -> None:
        with _store_errors():
            runs.end_orphaned(run)
        shutil.rmtree(run_folder(run.info.run_id), ignore_errors=True)

    return Problem("runs", f"MLflow run {run.info.run_name} is RUNNING, but its process is dead", repair)


def _alias_problem(name: str) -> Problem:
    return Problem("aliases", f"the alias swap of model {name} is unfinished", lambda: finish_pending_swap(name))


def _flow_run_problem(flow_run_id: str) -> Problem:
    line = f"the process of Prefect flow run {flow_run_id} is dead"
    return Problem("flow_runs", line, lambda: mark_crashed(flow_run_id))


def _leftover_problem(path: Path) -> Problem:
    def repair() -> None:
        shutil.rmtree(path, ignore_errors=True)

    return Problem("leftovers", f"{path} is left from a dead process", repair)


def _dead_flow_runs(orphans: Sequence[Run]) -> list[str]:
    """Return flow runs of dead processes, by their records on this machine and by orphaned MLflow runs.

    A flow run that another process continues, as after a retry, is not among them.
    """
    alive, dead = flow_runs_by_liveness()
    dead |= {run.data.tags.get("prefect_flow_run_id", "") for run in orphans} - {""}
    return sorted(dead - alive)


def _leftovers() -> Iterator[Path]:
    """Yield unlocked scratch folders, and folders of MLflow runs that have ended."""
    work = home() / "work"
    yield from orphaned_folders(work)
    for path in [] if store_is_empty() else work.glob("run-*"):
        try:
            run = runs.client().get_run(path.name.removeprefix("run-"))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            continue
        if run.info.status != "RUNNING":
            yield path
