"""What dead processes left behind: found, told, and put right.

Everything here looks at owners (tasks/owner.py) and locks. What a living process uses, and what nobody can be sure
about, is left alone.
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
from lstm.scratch import left_behind
from tasks.registry.alias_swap import unfinished
from tasks.registry.promotion import finish_move
from tasks.runtime.flow_run_owner import crash, marked_flow_runs
from tasks.settings import home, run_folder, store_is_empty, tracking_uri, without_password
from tasks.tracking import runs as tracking


@dataclass(frozen=True)
class Problem:
    """Something that a dead process left, and how it is put right."""

    kind: str  # runs | aliases | flow_runs | leftovers
    line: str  # for people
    repair: Callable[[], object]


@dataclass(frozen=True)
class Repairs:
    """What was put right."""

    runs: int = 0  # of MLflow, ended as KILLED
    aliases: int = 0  # models whose aliases were half moved
    flow_runs: int = 0  # of Prefect, set to Crashed
    leftovers: int = 0  # files and folders, removed
    lines: tuple[str, ...] = ()  # for people, one each
    left: tuple[str, ...] = ()  # what could not be put right, and why

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def reconcile() -> Repairs:
    """Put right what dead processes left in MLflow, in Prefect and on disk. A second call finds nothing.

    Trials that were cut off stay RUNNING in their study: the next run of the same search goes on with them where they
    stood, at the same bits (tasks/study.py).

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
    """What dead processes left. Makes no store, and asks nothing of Prefect.

    Raises:
        StoreError: a store does not answer.
        ConfigError: the tracking server does not answer.
    """
    with _asked():
        runs = [] if store_is_empty() else tracking.dead_runs(_experiments())
        moves = [] if store_is_empty() else unfinished()
        found = [*map(_of_run, runs), *map(_of_move, moves), *map(_of_flow_run, _dead_flow_runs(runs))]
        return found + [_of_leftover(path) for path in _leftovers()]


@contextmanager
def _asked() -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        said, uri = str(error).splitlines()[0], without_password(tracking_uri())
        raise StoreError(f"{uri}: the store does not answer ({said}). Check that it works.") from None


def _experiments() -> list[str]:
    return [one.experiment_id for one in tracking.pages(tracking.client().search_experiments)]


def _of_run(run: Run) -> Problem:
    def repair() -> None:
        with _asked():
            tracking.end_dead(run)
        shutil.rmtree(run_folder(run.info.run_id), ignore_errors=True)

    return Problem("runs", f"MLflow run {run.info.run_name} is RUNNING, but nobody is at it any more", repair)


def _of_move(name: str) -> Problem:
    return Problem("aliases", f"the aliases of model {name} are half moved", lambda: finish_move(name))


def _of_flow_run(flow_run_id: str) -> Problem:
    return Problem("flow_runs", f"the process of Prefect flow run {flow_run_id} is dead", lambda: crash(flow_run_id))


def _of_leftover(path: Path) -> Problem:
    def repair() -> None:
        shutil.rmtree(path, ignore_errors=True)

    return Problem("leftovers", f"nobody needs {path} any more", repair)


def _dead_flow_runs(runs: Sequence[Run]) -> list[str]:
    """By their marks on this machine, and by the MLflow runs of dead owners; not one that another process goes on with,
    as after a retry."""
    alive, dead = marked_flow_runs()
    dead |= {run.data.tags.get("prefect_flow_run_id", "") for run in runs} - {""}
    return sorted(dead - alive)


def _leftovers() -> Iterator[Path]:
    """Scratch that nobody holds, and what is kept of an MLflow run until it has ended."""
    work = home() / "work"
    yield from left_behind(work)
    for path in [] if store_is_empty() else work.glob("run-*"):
        try:
            run = tracking.client().get_run(path.name.removeprefix("run-"))
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            continue
        if run.info.status != "RUNNING":
            yield path
