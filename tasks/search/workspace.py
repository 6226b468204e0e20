"""Where a search lives: `studies/NAME/KEY/` below the stores, with the study, the trials' networks and a lock.

The key is that of everything a trial's result depends on: the windows, the space, the networks, the library's code. The
same configuration and data find the same folder again, and go on with what is there.
"""

import logging
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path

import optuna
import torch

from lstm.config.pipeline import PipelineConfig
from lstm.errors import StoreError
from tasks.handles import WindowsHandle, content_key
from tasks.runtime.environment import code_sha256
from tasks.runtime.locks import LockHeldError
from tasks.search.leases import study_lock
from tasks.search.study import delete_study, load_study, open_study
from tasks.settings import folder

_MAX_SEARCHES = 3  # searches of a name, the newest ones
_BUDGET_KEYS = {
    "trials",
    "timeout",
    "workers",
    "plateau",
    "warm_start",
}  # of the search: no trial's result depends on them


@contextmanager
def study_workspace(config: PipelineConfig, windows: WindowsHandle, fresh: bool) -> Iterator[tuple[optuna.Study, Path]]:
    """The study of this search and its folder, for one process at a time. `fresh`: as if there had been none before."""
    mine = folder(f"studies/{config.name}") / study_key(config, windows)[:16]
    mine.mkdir(exist_ok=True)
    name = f"{config.name}/{mine.name}"
    with _exclusive(name, mine):
        if fresh:
            delete_study(name, mine)
            for path in mine.glob("trial-*"):
                shutil.rmtree(path, ignore_errors=True)
        others = _other_searches(mine)
        earlier = (load_study(f"{config.name}/{other.name}", other) for other in ([] if fresh else others))
        study = open_study(config, name, mine, next((one for one in earlier if one is not None), None))
        yield study, mine
        for other in others[_MAX_SEARCHES - 1 :]:
            _delete_if_idle(f"{config.name}/{other.name}", other)


def study_key(config: PipelineConfig, windows: WindowsHandle) -> str:
    """sha256 of all that a trial's result depends on."""
    values = config.model_dump(mode="json", by_alias=True)
    search = {key: value for key, value in values["search"].items() if key not in _BUDGET_KEYS}
    parts = (search, values["model"], config.members, values["window"], config.data.target, windows.folder.name)
    return content_key(*parts, code_sha256(), torch.__version__)


@contextmanager
def _exclusive(name: str, mine: Path) -> Iterator[None]:
    """Waits as long as another run, on whatever machine that sees the same studies, is at this search."""
    with ExitStack() as held:
        try:
            held.enter_context(_search_lock(name, mine, 0.2))
        except LockHeldError:
            told = "another run is at this very search: waiting until it ends (%s)"
            logging.getLogger(__name__).warning(told, mine)
            held.enter_context(_search_lock(name, mine, 0))
        yield


def _search_lock(name: str, place: Path, patience: float) -> AbstractContextManager[None]:
    return study_lock(f"the search {name}", place / "lock", patience)


def _other_searches(mine: Path) -> list[Path]:
    """The folders of the other searches of the name."""
    others = [path for path in mine.parent.iterdir() if path.is_dir() and path != mine]
    return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)


def _delete_if_idle(name: str, other: Path) -> None:
    """Forget an old search, unless it is running."""
    with suppress(StoreError), _search_lock(name, other, 0.1):
        delete_study(name, other)
        shutil.rmtree(other, ignore_errors=True)
