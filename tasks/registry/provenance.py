"""What a registered version came from: its training run, configuration, data and the epochs of its networks."""

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
_MOST_TRIALS = 5000  # of a training run


@dataclass(frozen=True)
class TrainingData:
    """The table that a version was trained from. What the run's profile tells is None where there is none."""

    sha256: str
    rows: int | None = None
    first: str | None = None  # ISO 8601, UTC
    last: str | None = None  # of the last row with a target


@dataclass(frozen=True)
class TrainedMember:
    """One network of a version."""

    trial: str
    epochs: int | None  # that it was trained for, the best and those after it; None: nobody knows


@dataclass(frozen=True)
class Provenance:
    """A version, and all that is needed to make it again."""

    version: str  # NAME/3
    kind: str  # best-single | best-ensemble
    run_id: str  # which holds its metrics
    training_run_id: str
    forecaster: Forecaster
    config: PipelineConfig
    metrics: dict[str, float]
    data: TrainingData
    members: tuple[TrainedMember, ...]

    @property
    def lineage(self) -> dict[str, Any]:
        """What the version itself says it came from."""
        return self.forecaster.lineage


def load_provenance(model: str) -> Provenance:
    """Where a version came from.

    Args:
        model: `NAME` (its champion), `NAME@alias`, `NAME/3`, or the id of an MLflow run: of a training run, or of a
            trial or ensemble that was registered.

    Raises:
        CheckpointError: there is no such version, or it does not say where it came from.
        StoreError: its run, or the configuration logged there, is gone.
        ConfigError: this version of the package does not know a key of that configuration.
    """
    forecaster, version = load_forecaster(_version_of_run(model) if re.fullmatch(_RUN_ID, model) else model)
    name, _, number = version.rpartition("/")
    if not number.isdecimal() or Path(version).is_dir():
        raise CheckpointError(f"{model}: is a folder, and its figures are nowhere. Name a version: NAME/1, or NAME.")
    if "run_id" not in forecaster.lineage:
        raise CheckpointError(f"{version}: does not say which run it came from. Name a version that was trained here.")
    found = runs.client().get_model_version(name, number)
    training = str(forecaster.lineage["run_id"])
    return Provenance(
        version=version,
        kind=found.tags.get("kind", ""),
        run_id=str(found.run_id),
        training_run_id=training,
        forecaster=forecaster,
        config=_config(version, training, forecaster.lineage),
        metrics=dict(_run(str(found.run_id), version).data.metrics),
        data=_data(training, forecaster.lineage),
        members=_members(found, forecaster, training, version),
    )


def _version_of_run(run_id: str) -> str:
    """`NAME/3`, which the run was registered as; of a training run the version that it proposed."""
    run = None if store_is_empty() else _run(run_id, run_id)
    if run is None:
        raise CheckpointError(f"{run_id}: there is no such run yet. Run: lstm train CONFIG")
    own: Sequence[ModelVersion] = runs.client().search_model_versions(f"run_id = '{run_id}'")
    if own:
        return f"{own[0].name}/{own[0].version}"
    proposed, experiment = run.data.tags.get("registered_version"), run.info.experiment_id
    if not proposed:
        raise CheckpointError(
            f"{run_id}: the run {run.info.run_name!r} has registered no version. Name a version: NAME/1, or a training "
            "run that ended well."
        )
    return f"{runs.client().get_experiment(experiment).name}/{proposed}"


def _run(run_id: str, asked: str) -> Run:
    try:
        return runs.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        raise StoreError(f"{asked}: MLflow has no run {run_id}: it was deleted, or is in another store.") from None


def _config(version: str, run_id: str, lineage: dict[str, Any]) -> PipelineConfig:
    text = _artifact(run_id, "config.yaml")
    if text is None:
        raise StoreError(
            f"{version}: config.yaml of its training run {run_id} can't be fetched, and without it nothing can be "
            "trained again. Check that the store answers, or restore the run."
        )
    values = _yaml(text)
    if content_key(values) != lineage.get("config_sha256"):
        raise StoreError(
            f"{version}: config.yaml of its training run {run_id} is not what was logged: its sha256 is another. "
            "Restore it from a copy."
        )
    return PipelineConfig.parse(values, where=f"{version}: config.yaml of run {run_id}")


def _yaml(text: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return None


def _data(run_id: str, lineage: dict[str, Any]) -> TrainingData:
    sha256 = str(lineage.get("data_sha256", ""))
    try:
        told = json.loads(_artifact(run_id, "profile/summary.json") or "{}")
        if told.get("sha256") == sha256:
            return TrainingData(sha256, told["rows"], told["first"], told["last"])
    except (ValueError, KeyError, AttributeError):
        pass  # damaged: the fingerprint alone must do
    return TrainingData(sha256)


def _artifact(run_id: str, path: str) -> str | None:
    """The text of an artifact of a run; None: the store does not hand it out."""
    with TemporaryDirectory() as scratch:
        try:
            uri = runs.client().tracking_uri
            local = download_artifacts(run_id=run_id, artifact_path=path, dst_path=scratch, tracking_uri=uri)
            return Path(local).read_text(encoding="utf-8")
        except Exception:  # every kind of store has errors of its own
            return None


def _members(found: ModelVersion, forecaster: Forecaster, training: str, version: str) -> tuple[TrainedMember, ...]:
    """As the version itself tells; else by the trials' runs, whose curves have a point an epoch."""
    told = forecaster.lineage.get("members")
    made = _recorded(told) if told else _of_runs(_run(str(found.run_id), version), training)
    if len(made) != len(forecaster.members):
        return tuple(TrainedMember(f"network {number}", None) for number in range(len(forecaster.members)))
    return made


def _recorded(told: Sequence[dict[str, Any]]) -> tuple[TrainedMember, ...]:
    return tuple(TrainedMember(str(one["trial"]), int(one["epochs"])) for one in told)


def _of_runs(run: Run, training: str) -> tuple[TrainedMember, ...]:
    if "members" not in run.data.tags:
        return (TrainedMember(str(run.info.run_name), _epochs(run)),)
    query = f"tags.mlflow.parentRunId = '{training}' AND tags.kind = 'trial'"
    below = runs.client().search_runs([run.info.experiment_id], query, max_results=_MOST_TRIALS)
    trials = {trial.info.run_name: trial for trial in below}
    names = run.data.tags["members"].split(", ")
    return tuple(TrainedMember(name, _epochs(trials[name]) if name in trials else None) for name in names)


def _epochs(run: Run) -> int | None:
    points = runs.client().get_metric_history(run.info.run_id, "val_loss")
    return max((int(point.step) for point in points), default=None)
