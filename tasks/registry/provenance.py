"""The provenance of a registered version: training run, configuration, data and trained networks."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from mlflow.artifacts import download_artifacts
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lstm.config.pipeline import PipelineConfig
from lstm.errors import CheckpointError, StoreError
from lstm.forecasting.forecaster import Forecaster
from tasks.handles import content_key
from tasks.registry.models import load_forecaster
from tasks.settings import store_is_empty
from tasks.tracking import runs

_RUN_ID = r"[0-9a-f]{32}"
_MAX_TRIALS = 5000  # in one training run


@dataclass(frozen=True)
class TrainingData:
    """The table that a version was trained from. Rows and times are None if the run has no profile."""

    sha256: str
    rows: int | None = None
    first: str | None = None  # ISO 8601, UTC
    last: str | None = None  # of the last row with a target


@dataclass(frozen=True)
class TrainedMember:
    """One network of a version."""

    trial: str
    epochs: int | None  # that it was trained for, including those after the best; None: not recorded


@dataclass(frozen=True)
class Provenance:
    """A version, and all that is needed to train it again."""

    version: str  # NAME/3
    kind: str  # best-single | best-ensemble
    run_id: str  # of its candidate: holds its metrics
    training_run_id: str
    forecaster: Forecaster
    config: PipelineConfig
    metrics: dict[str, float]
    data: TrainingData
    members: tuple[TrainedMember, ...]

    @property
    def lineage(self) -> dict[str, Any]:
        """The lineage that is stored with the forecaster."""
        return self.forecaster.lineage


def load_provenance(model: str) -> Provenance:
    """Read from forecaster, registry and runs what a version was trained from.

    Args:
        model: `NAME` (its champion), `NAME@alias`, `NAME/3`, or the id of an MLflow run: of a training run, or of a
            trial or ensemble that was registered.

    Raises:
        CheckpointError: there is no such version, or it names no training run.
        StoreError: its run, or the configuration logged there, was deleted.
        ConfigError: this release does not know a key of that configuration.
    """
    forecaster, version = load_forecaster(_version_of_run(model) if re.fullmatch(_RUN_ID, model) else model)
    name, _, number = version.rpartition("/")
    if not number.isdecimal() or Path(version).is_dir():
        raise CheckpointError(
            f"{model}: is a folder, without logged metrics. Name a registered version: NAME, or NAME/1."
        )
    if "run_id" not in forecaster.lineage:
        raise CheckpointError(f"{version}: names no training run. Name a version that `lstm train` has registered.")
    registered = runs.client().get_model_version(name, number)
    training = str(forecaster.lineage["run_id"])
    return Provenance(
        version=version,
        kind=registered.tags.get("kind", ""),
        run_id=str(registered.run_id),
        training_run_id=training,
        forecaster=forecaster,
        config=_load_config(version, training, forecaster.lineage),
        metrics=dict(_run(str(registered.run_id), version).data.metrics),
        data=_training_data(training, forecaster.lineage),
        members=_members(registered, forecaster, training, version),
    )


def _version_of_run(run_id: str) -> str:
    """Return `NAME/3`: the version registered from a run, or the one that a training run proposed."""
    run = None if store_is_empty() else _run(run_id, run_id)
    if run is None:
        raise CheckpointError(f"{run_id}: there is no such run. Run: lstm train CONFIG")
    versions: Sequence[ModelVersion] = runs.client().search_model_versions(f"run_id = '{run_id}'")
    if versions:
        return f"{versions[0].name}/{versions[0].version}"
    proposed, experiment = run.data.tags.get("registered_version"), run.info.experiment_id
    if not proposed:
        raise CheckpointError(
            f"{run_id}: the run {run.info.run_name!r} has registered no version. Name a version: NAME/1, or a training "
            "run that ended well."
        )
    return f"{runs.client().get_experiment(experiment).name}/{proposed}"


def _run(run_id: str, subject: str) -> Run:
    try:
        return runs.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise StoreError(f"{subject}: MLflow has no run {run_id}: it was deleted, or is in another store.") from None


def _load_config(version: str, run_id: str, lineage: dict[str, Any]) -> PipelineConfig:
    text = _artifact_text(run_id, "config.yaml")
    if text is None:
        raise StoreError(
            f"{version}: config.yaml of its training run {run_id} can't be fetched, and is needed to train "
            "again. Check that the store answers, or restore the run."
        )
    values = _yaml(text)
    if content_key(values) != lineage.get("config_sha256"):
        raise StoreError(
            f"{version}: config.yaml of its training run {run_id} is not what was logged: its sha256 differs. "
            "Restore it from a copy."
        )
    return PipelineConfig.parse(values, where=f"{version}: config.yaml of run {run_id}")


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _training_data(run_id: str, lineage: dict[str, Any]) -> TrainingData:
    sha256 = str(lineage.get("data_sha256", ""))
    try:
        summary = json.loads(_artifact_text(run_id, "profile/summary.json") or "{}")
        if summary.get("sha256") == sha256:
            return TrainingData(sha256, summary["rows"], summary["first"], summary["last"])
    except (ValueError, KeyError, AttributeError):
        pass  # damaged: only the sha256 is known
    return TrainingData(sha256)


def _artifact_text(run_id: str, path: str) -> str | None:
    """Return the text of an artifact of a run; None if the store does not return it."""
    with TemporaryDirectory() as scratch:
        try:
            uri = runs.client().tracking_uri
            local = download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch, tracking_uri=uri)
            return Path(local).read_text(encoding="utf-8")
        except Exception:  # each artifact store raises errors of its own
            return None


def _members(
    registered: ModelVersion, forecaster: Forecaster, training: str, version: str
) -> tuple[TrainedMember, ...]:
    """Return the members as recorded in the lineage; else by the trials' runs, which log a point per epoch."""
    records = forecaster.lineage.get("members")
    if records:
        members = tuple(TrainedMember(str(record["trial"]), int(record["epochs"])) for record in records)
    else:
        members = _members_of_runs(_run(str(registered.run_id), version), training)
    if len(members) != len(forecaster.members):
        return tuple(TrainedMember(f"network {number}", None) for number in range(len(forecaster.members)))
    return members


def _members_of_runs(run: Run, training: str) -> tuple[TrainedMember, ...]:
    if "members" not in run.data.tags:
        return (TrainedMember(str(run.info.run_name), _epochs(run)),)
    query = f"tags.mlflow.parentRunId = '{training}' AND tags.kind = 'trial'"
    children = runs.client().search_runs([run.info.experiment_id], query, max_results=_MAX_TRIALS)
    trials = {trial.info.run_name: trial for trial in children}
    names = run.data.tags["members"].split(", ")
    return tuple(TrainedMember(name, _epochs(trials[name]) if name in trials else None) for name in names)


def _epochs(run: Run) -> int | None:
    points = runs.client().get_metric_history(run.info.run_id, "val_loss")
    return max((int(point.step) for point in points), default=None)
