"""Every MLflow name: experiments, runs, tags and metrics. Uses the client only, never the fluent active run."""

import errno
import functools
import hashlib
import math
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.errors import ConfigError, StoreError
from lstm.sources.queries import scrubbed
from tasks.handles import RunHandle, key_of
from tasks.runtime.environment import environment
from tasks.runtime.process_owner import heartbeat, is_dead, now, this_process
from tasks.settings import artifact_location, home, store_is_empty, tracking_uri, without_password
from tasks.tracking.connection import check_answers, check_connects
from tasks.tracking.sqlite_timeout import be_patient

_ROOT = Path(__file__).resolve().parents[2]
_KIND = {"mlflow.experimentKind": "custom_model_development"}  # the UI opens on runs and charts, not on chat traces
_PARENT = "mlflow.parentRunId"
_PARAM_LIMIT = 100  # entities of a kind in one log_batch
_CURVES = {"val_rmse": "epoch_val_rmse_normalized", "seconds": "epoch_seconds"}
_METRIC_LIMIT = 1000
_OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)


@functools.cache
def client() -> MlflowClient:
    """One client a process; the first use of a new local store creates its tables."""
    uri = tracking_uri()
    if uri.lower().startswith(("http://", "https://")):
        check_answers(uri)
    elif uri.startswith("postgres"):
        check_connects(uri)
    be_patient()
    try:
        with FileLock(home() / ".mlflow.lock"):  # two processes that make the tables at once fail
            if store_is_empty():
                _make_tables(home() / "mlflow.db")
            uri = tracking_uri()
            return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI", uri))
    except MlflowException as error:
        said = scrubbed(error, uri)
        raise ConfigError(f"MLFLOW_TRACKING_URI={without_password(uri)}: can't be used ({said}). Check it.") from None


def _make_tables(database: Path) -> None:
    """Whole or not at all: a store whose making was killed half way could never be used again."""
    beside = database.with_name(f".{database.name}.making")
    beside.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{beside}")
    os.replace(beside, database)


def experiment_id(name: str) -> str:
    """The experiment of that name, made if missing."""
    found = client().get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    try:
        return str(client().create_experiment(name, artifact_location(), _KIND))
    except MlflowException:  # another process was first
        found = client().get_experiment_by_name(name)
        if found is None:
            raise
        return str(found.experiment_id)


@contextmanager
def parent_run(
    config: PipelineConfig,
    table: Table,
    devices: Sequence[str],
    flow_run_id: str,
    kind: str = "train",
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RunHandle]:
    """The run of one flow of a kind: ends FINISHED, FAILED, or KILLED when interrupted; its children with it.

    Beside its own it gets `tags`. A heartbeat says as long as it runs that its process is alive.

    Raises:
        StoreError: MLflow or the disk did not take something.
    """
    name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{table.sha256[:8]}"
    tags = {
        **tags,
        "kind": kind,
        **lineage(config, table),
        "device": ",".join(devices),
        "prefect_flow_run_id": flow_run_id,
        "owner": this_process(),
        "owner_seen": now(),
    }
    experiment = experiment_id(config.name)
    for left in dead_runs([experiment]):
        end_dead(left)
    run = start_run(experiment, name, tags)
    try:
        with heartbeat(lambda: tag(run, owner_seen=now())):
            _log_config(run, config)
            yield run
        end(run)
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        with suppress(MlflowException):  # a store that is away: the next run finds that the owner is dead
            end_children(run, status)
            end(run, status)
        if (told := _of_the_store(error)) is not None:
            raise told from error
        raise


def _of_the_store(error: BaseException) -> StoreError | None:
    """What the user is told where MLflow or the disk did not take something."""
    if isinstance(error, MlflowException):
        where, why = without_password(tracking_uri()), str(error).splitlines()[0]
        return StoreError(f"{where}: MLflow does not take what is logged ({why}). Mend that, and run it again.")
    if isinstance(error, OSError) and error.errno in _OF_THE_DISK:
        where = error.filename or str(home())
        return StoreError(f"{where}: can't be written ({error.strerror}). Make room, and run it again.")
    return None


def _log_config(run: RunHandle, config: PipelineConfig) -> None:
    """The whole configuration as `config.yaml`, which trains the same again, and as parameters to compare by."""
    values = config.to_dict()
    client().log_text(run.run_id, yaml.safe_dump(values, sort_keys=False), "config.yaml")
    sections = {key: value if isinstance(value, dict) else {"": value} for key, value in values.items()}
    pairs = [(section, key, value) for section, keys in sections.items() for key, value in keys.items()]
    log(run, params={f"{section}.{key}".rstrip("."): value for section, key, value in pairs})


def start_run(experiment: str, name: str, tags: Mapping[str, Any], parent: RunHandle | None = None) -> RunHandle:
    """Create a RUNNING run."""
    nested = {_PARENT: parent.run_id} if parent else {}
    text = {key: str(value) for key, value in {**tags, **nested}.items()}
    run = client().create_run(experiment, tags=text, run_name=name)
    return RunHandle(run.info.run_id, experiment, name)


def end_children(parent: RunHandle, status: str) -> None:
    """End what still runs below `parent`."""
    query = f"tags.{_PARENT} = '{parent.run_id}' AND attributes.status = 'RUNNING'"
    for run in client().search_runs([parent.experiment_id], query):
        _end_interrupted(run, status)


def log(run: RunHandle, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None) -> None:
    """Log final metrics (those that are not finite are left out) and parameters in as few calls as allowed."""
    now = int(time.time() * 1000)
    values = [Metric(key, value, now, 0) for key, value in (metrics or {}).items() if math.isfinite(value)]
    named = [Param(key, str(value)) for key, value in (params or {}).items()]
    for start in range(0, max(len(named), 1), _PARAM_LIMIT):
        client().log_batch(run.run_id, values if not start else (), named[start : start + _PARAM_LIMIT])


def log_curves(run: RunHandle, history: list[dict[str, float]]) -> None:
    """Log each epoch's values as curves over `epoch`. What the run's final figures are called has another name here."""
    now = int(time.time() * 1000)
    points = [
        Metric(_CURVES.get(key, key), value, now, int(epoch["epoch"]))
        for epoch in history
        for key, value in epoch.items()
        if key != "epoch" and math.isfinite(value)
    ]
    for start in range(0, len(points), _METRIC_LIMIT):
        client().log_batch(run.run_id, points[start : start + _METRIC_LIMIT])


def tag(run: RunHandle, **tags: Any) -> None:
    """Set tags."""
    client().log_batch(run.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])


def end(run: RunHandle, status: str = "FINISHED") -> None:
    """End a run."""
    client().set_terminated(run.run_id, status)


def lineage(config: PipelineConfig, table: Table) -> dict[str, str]:
    """What a result came from: hashes of data, configuration, code and lock, the seed, and the environment."""
    found = {
        "data_sha256": table.sha256,
        "config_sha256": key_of(config.to_dict()),
        "seed": str(config.search.seed),
        "git_commit": _git_commit(),
        "lock_sha256": _lock_sha256(),
        **environment(),
    }
    return {key: value for key, value in found.items() if value}


def dead_runs(experiments: Sequence[str]) -> list[Run]:
    """RUNNING runs that nobody is at any more: those of a dead owner, and those below a run of ours that has ended."""
    running = pages(client().search_runs, list(experiments), "attributes.status = 'RUNNING'") if experiments else ()
    return [run for run in running if _is_dead(run)]


def end_dead(run: Run) -> None:
    """End such a run, and what still runs below it, as KILLED."""
    end_children(RunHandle(run.info.run_id, run.info.experiment_id, run.info.run_name), "KILLED")
    _end_interrupted(run, "KILLED")


def pages(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Everything that a search of the client's finds, page by page."""
    page = search(*arguments, **options)
    yield from page
    while page.token:
        page = search(*arguments, **options, page_token=page.token)
        yield from page


def _is_dead(run: Run) -> bool:
    tags = run.data.tags
    if "owner" in tags:
        return is_dead(tags["owner"], tags.get("owner_seen"))
    if _PARENT not in tags:
        return False
    try:
        above = client().get_run(tags[_PARENT])
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    if "owner" not in above.data.tags or above.info.status == "RUNNING":
        return False
    return client().get_run(run.info.run_id).info.status == "RUNNING"  # it may have ended just before the one above


def _end_interrupted(run: Run, status: str) -> None:
    if "trial_state" in run.data.tags:
        client().set_tag(run.info.run_id, "trial_state", "interrupted")
    client().set_terminated(run.info.run_id, status)


@functools.cache
def _git_commit() -> str:
    command = ["git", "-C", str(_ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def _lock_sha256() -> str:
    lock = _ROOT / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""
