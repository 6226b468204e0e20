"""MLflow experiments and runs: create, tag, log and end them. Uses the client only, never the fluent active run."""

import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any

import yaml
from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.errors import ConfigError
from lstm.sources.queries import scrub_secrets
from tasks.handles import RunHandle, content_key
from tasks.runtime.environment import environment, git_commit, lock_sha256
from tasks.runtime.process_owner import heartbeat, heartbeat_time, is_process_dead, this_process
from tasks.settings import artifact_location, home, store_is_empty, tracking_uri, without_password
from tasks.tracking.connection import as_store_error, check_database, check_server, create_tables
from tasks.tracking.sqlite_timeout import raise_busy_timeout

# The UI opens on runs and charts, not on chat traces.
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
_PARENT = "mlflow.parentRunId"
_MAX_PARAMS = 100  # in one log_batch
_CURVE_NAMES = {"val_rmse": "epoch_val_rmse_normalized", "seconds": "epoch_seconds"}  # metrics by epoch
_MAX_METRICS = 1000  # in one log_batch


@functools.cache
def client() -> MlflowClient:
    """Return this process's MLflow client; creates the tables of a new local store.

    Raises:
        ConfigError: the store can't be used. The message shows no password.
    """
    uri = tracking_uri()
    if uri.lower().startswith(("http://", "https://")):
        check_server(uri)
    elif uri.startswith("postgres"):
        check_database(uri)
    raise_busy_timeout()
    try:
        with FileLock(home() / ".mlflow.lock"):  # creating the tables twice at once fails
            if store_is_empty():
                create_tables(home() / "mlflow.db")
            uri = tracking_uri()
            return MlflowClient(tracking_uri=uri, registry_uri=os.environ.get("MLFLOW_REGISTRY_URI", uri))
    except MlflowException as error:
        reason = scrub_secrets(error, uri)
        raise ConfigError(f"MLFLOW_TRACKING_URI={without_password(uri)}: can't be used ({reason}). Check it.") from None


def experiment_id(name: str) -> str:
    """Return the id of the experiment `name`, which is created if missing."""
    experiment = client().get_experiment_by_name(name)
    if experiment is not None:
        return str(experiment.experiment_id)
    try:
        return str(client().create_experiment(name, artifact_location(), _EXPERIMENT_TAGS))
    except MlflowException:  # another process may have created it
        experiment = client().get_experiment_by_name(name)
        if experiment is None:
            raise
        return str(experiment.experiment_id)


@contextmanager
def parent_run(
    config: PipelineConfig,
    table: Table,
    devices: Sequence[str],
    flow_run_id: str,
    kind: str = "train",
    tags: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[RunHandle]:
    """Start the MLflow run of a flow and end it, with its children, as FINISHED, FAILED or KILLED (interrupted).

    Ends orphaned runs of the same experiment first. A heartbeat is written to the run's tags while the block runs.

    Args:
        config: logged as `config.yaml` and as parameters.
        table: the data, for name and lineage.
        devices: for the tag `device`.
        flow_run_id: of Prefect; empty without Prefect.
        kind: train, backtest, monitor or reproduction.
        tags: further tags.

    Raises:
        StoreError: MLflow or the disk does not accept a write.
    """
    name = f"{kind}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{table.sha256[:8]}"
    tags = {
        **tags,
        "kind": kind,
        **lineage(config, table),
        "device": ",".join(devices),
        "prefect_flow_run_id": flow_run_id,
        "owner": this_process(),
        "owner_seen": heartbeat_time(),
    }
    experiment = experiment_id(config.name)
    for orphan in orphaned_runs([experiment]):
        end_orphaned(orphan)
    run = start_run(experiment, name, tags)
    try:
        with heartbeat(lambda: tag(run, owner_seen=heartbeat_time())):
            _log_config(run, config)
            yield run
        end(run)
    except BaseException as error:
        status = "FAILED" if isinstance(error, Exception) else "KILLED"
        with suppress(MlflowException):  # if the store is unreachable, the next run ends this one as orphaned
            end_children(run, status)
            end(run, status)
        if (store_error := as_store_error(error)) is not None:
            raise store_error from error
        raise


def _log_config(run: RunHandle, config: PipelineConfig) -> None:
    """Log the whole configuration as `config.yaml`, and as parameters for comparison in the UI."""
    values = config.to_dict()
    client().log_text(run.run_id, yaml.safe_dump(values, sort_keys=False), "config.yaml")
    sections = {key: value if isinstance(value, dict) else {"": value} for key, value in values.items()}
    pairs = [(section, key, value) for section, keys in sections.items() for key, value in keys.items()]
    log(run, params={f"{section}.{key}".rstrip("."): value for section, key, value in pairs})


def start_run(experiment: str, name: str, tags: Mapping[str, Any], parent: RunHandle | None = None) -> RunHandle:
    """Create a run in state RUNNING."""
    parent_tag = {_PARENT: parent.run_id} if parent else {}
    texts = {key: str(value) for key, value in {**tags, **parent_tag}.items()}
    run = client().create_run(experiment, tags=texts, run_name=name)
    return RunHandle(run.info.run_id, experiment, name)


def end_children(parent: RunHandle, status: str) -> None:
    """End the children of `parent` that are still RUNNING."""
    query = f"tags.{_PARENT} = '{parent.run_id}' AND attributes.status = 'RUNNING'"
    for run in client().search_runs([parent.experiment_id], query):
        _end_interrupted(run, status)


def log(run: RunHandle, metrics: Mapping[str, float] | None = None, params: Mapping[str, Any] | None = None) -> None:
    """Log final metrics, except values that are not finite, and parameters, in as few calls as allowed."""
    now = int(time.time() * 1000)
    values = [Metric(key, value, now, 0) for key, value in (metrics or {}).items() if math.isfinite(value)]
    texts = [Param(key, str(value)) for key, value in (params or {}).items()]
    for start in range(0, max(len(texts), 1), _MAX_PARAMS):
        client().log_batch(run.run_id, values if not start else (), texts[start : start + _MAX_PARAMS])


def log_curves(run: RunHandle, history: list[dict[str, float]]) -> None:
    """Log the values of each epoch with the epoch as step. Names of final metrics get a prefix (`_CURVE_NAMES`)."""
    now = int(time.time() * 1000)
    points = [
        Metric(_CURVE_NAMES.get(key, key), value, now, int(epoch["epoch"]))
        for epoch in history
        for key, value in epoch.items()
        if key != "epoch" and math.isfinite(value)
    ]
    for start in range(0, len(points), _MAX_METRICS):
        client().log_batch(run.run_id, points[start : start + _MAX_METRICS])


def tag(run: RunHandle, **tags: Any) -> None:
    """Set tags."""
    client().log_batch(run.run_id, tags=[RunTag(key, str(value)) for key, value in tags.items()])


def end(run: RunHandle, status: str = "FINISHED") -> None:
    """End a run."""
    client().set_terminated(run.run_id, status)


def lineage(config: PipelineConfig, table: Table) -> dict[str, str]:
    """Return hashes of data, configuration, code and lock file, the seeds, and the environment."""
    values = {
        "data_sha256": table.sha256,
        "config_sha256": content_key(config.to_dict()),
        "seed": str(config.model.seed),
        "search_seed": str(config.search.seed),
        "git_commit": git_commit(),
        "lock_sha256": lock_sha256(),
        **environment(),
    }
    return {key: value for key, value in values.items() if value}


def orphaned_runs(experiments: Sequence[str]) -> list[Run]:
    """Return RUNNING runs whose owner is dead, and RUNNING children of a parent run that has ended."""
    running = paginate(client().search_runs, list(experiments), "attributes.status = 'RUNNING'") if experiments else ()
    return [run for run in running if _is_orphaned(run)]


def end_orphaned(run: Run) -> None:
    """End an orphaned run and its RUNNING children as KILLED."""
    end_children(RunHandle(run.info.run_id, run.info.experiment_id, run.info.run_name), "KILLED")
    _end_interrupted(run, "KILLED")


def paginate(search: Callable[..., Any], *arguments: Any, **options: Any) -> Iterator[Any]:
    """Yield all results of a search method of the client, page by page."""
    page = search(*arguments, **options)
    yield from page
    while page.token:
        page = search(*arguments, **options, page_token=page.token)
        yield from page


def _is_orphaned(run: Run) -> bool:
    tags = run.data.tags
    if "owner" in tags:
        return is_process_dead(tags["owner"], tags.get("owner_seen"))
    if _PARENT not in tags:
        return False
    try:
        parent = client().get_run(tags[_PARENT])
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False
    if "owner" not in parent.data.tags or parent.info.status == "RUNNING":
        return False
    return client().get_run(run.info.run_id).info.status == "RUNNING"  # it may have ended just before its parent


def _end_interrupted(run: Run, status: str) -> None:
    if "trial_state" in run.data.tags:
        client().set_tag(run.info.run_id, "trial_state", "interrupted")
    client().set_terminated(run.info.run_id, status)
