"""The workspace of a search: `studies/NAME/KEY/` below LSTM_HOME, with the study, the folders of its trials and a lock.

The key is a hash of everything that a trial's result depends on: windows, space, networks and library code. The same
configuration and data lead to the same workspace, and continue the search in it.
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
from tasks.settings import store_folder

_MAX_SEARCHES = 3  # of a name; older ones are deleted
_BUDGET_KEYS = {
    "trials",
    "timeout",
    "workers",
    "plateau",
    "warm_start",
}  # of `search`: no trial's result depends on them


@contextmanager
def study_workspace(config: PipelineConfig, windows: WindowsHandle, fresh: bool) -> Iterator[tuple[optuna.Study, Path]]:
    """Yield the study of this search and its folder, locked for this process. `fresh`: delete earlier trials first."""
    workspace = store_folder(f"studies/{config.name}") / study_key(config, windows)[:16]
    workspace.mkdir(exist_ok=True)
    name = f"{config.name}/{workspace.name}"
    with _exclusive(name, workspace):
        if fresh:
            delete_study(name, workspace)
            for path in workspace.glob("trial-*"):
                shutil.rmtree(path, ignore_errors=True)
        others = _other_searches(workspace)
        earlier = (load_study(f"{config.name}/{other.name}", other) for other in ([] if fresh else others))
        study = open_study(config, name, workspace, next((study for study in earlier if study is not None), None))
        yield study, workspace
        for other in others[_MAX_SEARCHES - 1 :]:
            _delete_if_idle(f"{config.name}/{other.name}", other)


def study_key(config: PipelineConfig, windows: WindowsHandle) -> str:
    """Return the sha256 of everything that a trial's result depends on."""
    values = config.model_dump(mode="json", by_alias=True)
    search = {key: value for key, value in values["search"].items() if key not in _BUDGET_KEYS}
    parts = (search, values["model"], config.members, values["window"], config.data.target, windows.folder.name)
    return content_key(*parts, code_sha256(), torch.__version__)


@contextmanager
def _exclusive(name: str, workspace: Path) -> Iterator[None]:
    """Hold the lock of the search; wait while another run, on any machine, holds it."""
    with ExitStack() as stack:
        try:
            stack.enter_context(_search_lock(name, workspace, 0.2))
        except LockHeldError:
            message = "another run of this search is active: waiting until it ends (%s)"
            logging.getLogger(__name__).warning(message, workspace)
            stack.enter_context(_search_lock(name, workspace, 0))
        yield


def _search_lock(name: str, workspace: Path, timeout: float) -> AbstractContextManager[None]:
    return study_lock(f"the search {name}", workspace / "lock", timeout)


def _other_searches(workspace: Path) -> list[Path]:
    """Return the workspaces of the other searches of the name, newest first."""
    others = [path for path in workspace.parent.iterdir() if path.is_dir() and path != workspace]
    return sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)


def _delete_if_idle(name: str, workspace: Path) -> None:
    """Delete an old search, unless it is running."""
    with suppress(StoreError), _search_lock(name, workspace, 0.1):
        delete_study(name, workspace)
        shutil.rmtree(workspace, ignore_errors=True)
