"""What goes, so that the disk of an unattended pipeline stays bounded; the rules are those of docs/operations.md.

Nothing is put down about what is half removed: a run's own record goes last, so that whoever comes after a killed
cleaner finds the run again, as old as it was, and goes on.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
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

from lstm.calendars.durations import duration
from lstm.config.pipeline import PipelineConfig
from lstm.errors import StoreError
from tasks.forecast_store.log import open_log
from tasks.operations.disk_cleanup import GRACE, free_files, size_of
from tasks.registry.promotion import promotion_lock
from tasks.settings import home, store_is_empty
from tasks.tracking import runs as tracking

_KINDS = ("train", "backtest", "monitor")  # of parent runs
_DESERVED = ("promoted_", "forced_", "rolled_back_")  # tags of a version that was champion once, beside gate=champion


@dataclass(frozen=True)
class Removed:
    """What `clean` has removed."""

    runs: int = 0  # with all below them
    versions: int = 0
    forecasts: int = 0  # slots
    files: int = 0  # prepared tables, panels and windows, downloads, scratch
    bytes: int = 0  # of this machine's disk
    marked: bool = False  # the runs are deleted on a server, where `mlflow gc` frees their disk

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


def clean(config: PipelineConfig, now: pd.Timestamp | None = None) -> Removed:
    """Remove what `retention` of the configuration does not keep. Does nothing while another process does it.

    Old runs go with all below them, their artifacts, their logged models and the versions that stand on these; not
    one that is running, nor one with a version that has an alias, was champion once, or is in another registered
    model too. A database as store is freed at once. On a tracking server the runs are marked deleted.

    Args:
        config: of the model whose runs and forecasts are looked at; prepared data are everybody's.
        now: moment from which the age of forecasts counts; default: this one.

    Raises:
        StoreError: a store does not answer. What has been removed until then is removed.
    """
    with _alone() as mine:
        if not mine:
            return Removed()
        try:
            found = Removed() if store_is_empty() else _free_runs(config)
            running = time.time() if store_is_empty() else _oldest_running()
        except MlflowException as error:
            said = str(error).splitlines()[0]
            raise StoreError(
                f"{config.name}: old runs can't be removed ({said}). Check that the store works."
            ) from None
        slots = open_log(config).drop((now or pd.Timestamp.now("UTC")) - duration(config.retention.forecasts))
        # A flow marks what it uses before its run begins, at most the grace before.
        untouched = min(time.time(), running) - GRACE
        unused = min(time.time() - duration(config.retention.work).total_seconds(), untouched)
        files = free_files(unused, untouched)
    return Removed(found.runs, found.versions, slots, files.count, found.bytes + files.size, found.marked)


@contextmanager
def _alone() -> Iterator[bool]:
    """Whether no other cleaner is at these stores; the lock ends with its process."""
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


def _oldest_running() -> float:
    """When the oldest run of any name began that is going on; now, where there is none. Seconds since 1970."""
    client = tracking.client()
    experiments = [one.experiment_id for one in tracking.pages(client.search_experiments)]
    running = (
        list(tracking.pages(client.search_runs, experiments, "attributes.status = 'RUNNING'")) if experiments else []
    )
    return min([time.time(), *(run.info.start_time / 1000 for run in running)])


def _free_runs(config: PipelineConfig) -> Removed:
    client = tracking.client()
    experiment = client.get_experiment_by_name(config.name)
    if experiment is None:
        return Removed()
    models: dict[str, list[LoggedModel]] = {}
    for model in tracking.pages(client.search_logged_models, [experiment.experiment_id]):
        models.setdefault(str(model.source_run_id), []).append(model)
    runs = versions = freed = 0
    for run in _old(experiment.experiment_id, config.retention.runs):
        query = f"tags.mlflow.parentRunId = '{run.info.run_id}'"
        family = [*tracking.pages(client.search_runs, [experiment.experiment_id], query, ViewType.ALL), run]
        with_models = [one.info.run_id for one in family if one.info.run_id in models]
        retired = _retire_versions(config.name, [*with_models, run.info.run_id])
        if retired is None:
            continue
        for one in family:  # the parent last
            freed += _free_run(one, models.get(one.info.run_id, []))
        runs, versions = runs + 1, versions + retired
    return Removed(runs, versions, bytes=freed, marked=runs > 0 and not _is_database())


def _old(experiment: str, kept: int) -> Iterator[Run]:
    """The ended runs of each kind beyond the newest."""
    for kind in _KINDS:
        query = f"tags.kind = '{kind}'"
        newest_first = ["attributes.start_time DESC"]
        found = list(
            tracking.pages(
                tracking.client().search_runs, [experiment], query, ViewType.ACTIVE_ONLY, order_by=newest_first
            )
        )
        yield from (run for run in found[kept:] if run.info.status != "RUNNING")


def _retire_versions(name: str, run_ids: Sequence[str]) -> int | None:
    """Delete the versions that stand on these runs, and count them; None: one of them is to stay, and so are all."""
    client = tracking.client()
    with promotion_lock(name):
        listed = ", ".join(f"'{run_id}'" for run_id in run_ids)
        found = list(tracking.pages(client.search_model_versions, f"run_id IN ({listed})"))
        aliases = client.get_registered_model(name).aliases.values() if found else ()
        aliased = {int(number) for number in aliases}
        if any(one.name != name or int(one.version) in aliased or _was_champion(one) for one in found):
            return None
        for one in found:
            client.delete_model_version(name, one.version)
    return len(found)


def _was_champion(version: ModelVersion) -> bool:
    return version.tags.get("gate") == "champion" or any(key.startswith(_DESERVED) for key in version.tags)


def _free_run(run: Run, models: Sequence[LoggedModel]) -> int:
    """Remove a run and its models for good, or mark them deleted behind a server; bytes freed on this disk."""
    client, freed = tracking.client(), 0
    store = client._tracking_client.store
    for model in models:
        if _is_database():
            freed += _free_artifacts(model.artifact_location)
            store._hard_delete_logged_model(model.model_id)
        else:
            client.delete_logged_model(model.model_id)
    if _is_database():
        freed += _free_artifacts(run.info.artifact_uri)
        store._hard_delete_run(run.info.run_id)
    else:
        client.delete_run(run.info.run_id)
    return freed


def _is_database() -> bool:
    """Whether the store is opened here, and can do what `mlflow gc` does; that one would empty the user's bin, too."""
    return hasattr(tracking.client()._tracking_client.store, "_hard_delete_run")


def _free_artifacts(uri: str) -> int:
    parts = urlsplit(uri)
    local = Path(url2pathname(parts.path)) if parts.scheme in ("", "file") else None
    size = size_of(local) if local else 0
    repository: Any = get_artifact_repository(uri)
    repository.delete_artifacts()
    if local:
        with suppress(OSError):  # MLflow leaves the folder around it
            local.parent.rmdir()
    return size
