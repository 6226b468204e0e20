"""Delete old runs, versions, forecasts and files by the rules of docs/operations.md.

Deletion is resumable: the run record is deleted last, so an interrupted clean-up finds the run again.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd
from filelock import FileLock, Timeout
from mlflow.entities import LoggedModel, Run, ViewType
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from lstm.calendars.durations import parse_duration
from lstm.config.pipeline import PipelineConfig
from lstm.errors import StoreError
from tasks.forecast_store.log import open_log
from tasks.operations.disk_cleanup import GRACE_S, delete_unused_files, disk_size
from tasks.registry.promotion import promotion_lock
from tasks.settings import home, store_is_empty
from tasks.tracking import runs

_RUN_KINDS = ("train", "backtest", "monitor")  # of parent runs
_CHAMPION_TAGS = ("promoted_", "forced_", "rolled_back_")  # of a former champion, as is gate=champion


@dataclass(frozen=True)
class Removed:
    """What `clean` has deleted."""

    runs: int = 0  # parent runs, with their children
    versions: int = 0
    forecasts: int = 0  # slots
    files: int = 0  # prepared tables, panels and windows, downloads, scratch
    bytes: int = 0  # on this machine's disk
    marked: bool = False  # runs are only marked as deleted on a tracking server; `mlflow gc` frees their disk

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def clean(config: PipelineConfig, now: pd.Timestamp | None = None) -> Removed:
    """Delete what `retention` of the configuration does not keep; do nothing while another process does so.

    An old run is deleted with its children, artifacts, logged models and their versions. Kept are running ones, and
    those with a version that has an alias, was champion once, or belongs to another registered model too. A database
    store is freed at once; on a tracking server, runs are marked as deleted.

    Args:
        config: its runs and forecasts are cleaned. Prepared data are shared by all configurations.
        now: time from which the age of forecasts counts; default: the current time.

    Raises:
        StoreError: a store does not answer. Earlier deletions remain.
    """
    with _retention_lock() as acquired:
        if not acquired:
            return Removed()
        try:
            removed = Removed() if store_is_empty() else _delete_old_runs(config)
            oldest_start = time.time() if store_is_empty() else _oldest_running_start()
        except MlflowException as error:
            reason = str(error).splitlines()[0]
            raise StoreError(
                f"{config.name}: old runs can't be removed ({reason}). Check that the store works."
            ) from None
        slots = open_log(config).drop((now or pd.Timestamp.now("UTC")) - parse_duration(config.retention.forecasts))
        # A flow marks the data it uses up to GRACE_S before its run starts.
        untouched_since = min(time.time(), oldest_start) - GRACE_S
        unused_since = min(time.time() - parse_duration(config.retention.work).total_seconds(), untouched_since)
        files = delete_unused_files(unused_since, untouched_since)
    return replace(removed, forecasts=slots, files=files.count, bytes=removed.bytes + files.size)


@contextmanager
def _retention_lock() -> Iterator[bool]:
    """Try to acquire the lock of this clean-up; yield whether that worked. The lock ends with the process."""
    lock = FileLock(home() / ".retention.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _oldest_running_start() -> float:
    """Return when the oldest RUNNING run of any experiment started, in seconds since 1970; else the current time."""
    client = runs.client()
    experiments = [experiment.experiment_id for experiment in runs.paginate(client.search_experiments)]
    if not experiments:
        return time.time()
    running = runs.paginate(client.search_runs, experiments, "attributes.status = 'RUNNING'")
    return min([time.time(), *(run.info.start_time / 1000 for run in running)])


def _delete_old_runs(config: PipelineConfig) -> Removed:
    client = runs.client()
    experiment = client.get_experiment_by_name(config.name)
    if experiment is None:
        return Removed()
    models: dict[str, list[LoggedModel]] = {}
    for model in runs.paginate(client.search_logged_models, [experiment.experiment_id]):
        models.setdefault(str(model.source_run_id), []).append(model)
    n_runs = versions = freed = 0
    for run in _expired_runs(experiment.experiment_id, config.retention.runs):
        query = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
        children = list(runs.paginate(client.search_runs, [experiment.experiment_id], query, ViewType.ALL))
        with_models = [child.info.run_id for child in children if child.info.run_id in models]
        deleted_versions = _delete_versions(config.name, [*with_models, run.info.run_id])
        if deleted_versions is None:
            continue
        for member in (*children, run):  # the parent last
            freed += _delete_run(member, models.get(member.info.run_id, []))
        n_runs, versions = n_runs + 1, versions + deleted_versions
    return Removed(n_runs, versions, bytes=freed, marked=n_runs > 0 and not _has_direct_store())


def _expired_runs(experiment: str, kept: int) -> Iterator[Run]:
    """Yield the ended parent runs of each kind beyond the newest `kept`."""
    for kind in _RUN_KINDS:
        arguments = ([experiment], f"tags.kind = '{kind}'", ViewType.ACTIVE_ONLY)
        newest_first = ["attributes.start_time DESC"]
        parents = list(runs.paginate(runs.client().search_runs, *arguments, order_by=newest_first))
        yield from (run for run in parents[kept:] if run.info.status != "RUNNING")


def _delete_versions(name: str, run_ids: Sequence[str]) -> int | None:
    """Delete the versions registered from these runs; return their number, or None if one of them must be kept."""
    client = runs.client()
    with promotion_lock(name):
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids)
        versions = list(runs.paginate(client.search_model_versions, f"run_id IN ({listed})"))
        aliases = client.get_registered_model(name).aliases.values() if versions else ()
        aliased = {int(number) for number in aliases}
        for version in versions:
            if version.name != name or int(version.version) in aliased or _was_champion(version):
                return None
        for version in versions:
            client.delete_model_version(name, version.version)
    return len(versions)


def _was_champion(version: ModelVersion) -> bool:
    return version.tags.get("gate") == "champion" or any(key.startswith(_CHAMPION_TAGS) for key in version.tags)


def _delete_run(run: Run, models: Sequence[LoggedModel]) -> int:
    """Delete a run and its models, or mark them as deleted on a server; return the bytes freed on this disk."""
    client, freed = runs.client(), 0
    store = client._tracking_client.store
    for model in models:
        if _has_direct_store():
            freed += _delete_artifacts(model.artifact_location)
            store._hard_delete_logged_model(model.model_id)
        else:
            client.delete_logged_model(model.model_id)
    if _has_direct_store():
        freed += _delete_artifacts(run.info.artifact_uri)
        store._hard_delete_run(run.info.run_id)
    else:
        client.delete_run(run.info.run_id)
    return freed


def _has_direct_store() -> bool:
    """Return whether the store is a database that this process opens, so that records can be deleted for good.

    `mlflow gc` would also delete runs that the user has put in the trash.
    """
    return hasattr(runs.client()._tracking_client.store, "_hard_delete_run")


def _delete_artifacts(uri: str) -> int:
    parts = urlsplit(uri)
    local = Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None
    size = disk_size(local) if local else 0
    repository: Any = get_artifact_repository(uri)
    repository.delete_artifacts()
    if local:
        with suppress(OSError):  # MLflow leaves the parent folder
            local.parent.rmdir()
    return size
