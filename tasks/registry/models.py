"""Resolve, download and load registered models by name: `NAME`, `NAME@alias`, `NAME/3`, or a folder."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow import artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lstm.errors import CheckpointError, StoreError, did_you_mean
from lstm.forecasting.forecaster import Forecaster
from lstm.networks.checkpoint import load_checkpoint
from tasks.registry.checksum import CHECKSUM_TAG, strip_caches, verify_checksum
from tasks.registry.versions import alias_version, first_line, registry_errors, version_tags
from tasks.settings import home, store_is_empty, without_password
from tasks.tracking import runs

_MAX_NAMES = 200  # characters of a list of names
_RECORDED = ("gate", "forced_", "rolled_back_")  # tags that a listing shows
TAGGED_METRICS = ("val_rmse", "test_rmse", "test_rmse_skill")  # a version has them as tags too


def fingerprint(folder: Path, *more: str) -> str:
    """Return the sha256 of a saved forecaster: tensors and description, without lineage.

    Args:
        folder: as `Forecaster.save` wrote it.
        more: further texts that tell two versions apart.
    """
    tensors, _ = load_checkpoint(folder / "model.safetensors")
    description = json.loads((folder / "forecaster.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(json.dumps([{**description, "lineage": None}, *more], sort_keys=True).encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_forecaster(model: str) -> tuple[Forecaster, str]:
    """Load the forecaster that `model` names.

    Args:
        model: `NAME` (its champion), `NAME@alias`, `NAME/3`, or a folder.

    Returns:
        The forecaster, and `NAME/3` (or the folder).

    Raises:
        CheckpointError: there is no such model, version, alias or folder, or its artifacts are damaged.
        StoreError: its artifacts can't be downloaded.
    """
    if is_folder(model):
        return Forecaster.load(model), model
    version = f"{model_name(model)}/{resolve_version(model)}"
    # After a failed download, threads of MLflow may still write files while the folder is removed.
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        return load_downloaded(download_artifacts(version, scratch), version), version


def load_downloaded(folder: Path, version: str) -> Forecaster:
    """Load the forecaster from a version's downloaded artifacts.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    description = next(folder.rglob("forecaster.json"), None)
    if description is None:
        raise CheckpointError(f"{version}: holds no forecaster of this package.")
    try:
        return Forecaster.load(description.parent)
    except CheckpointError as error:  # names the version, not the temporary folder
        raise CheckpointError(str(error).replace(str(description.parent), version)) from None


def download_artifacts(version: str, scratch: str, runs_code: bool = False) -> Path:
    """Copy a version's artifacts and verify their checksum before anything is read from them.

    Args:
        version: `NAME/3`.
        scratch: folder to copy into.
        runs_code: whether code among the artifacts will be run.

    Returns:
        The folder of the copy.

    Raises:
        StoreError: the store does not answer, or has no artifacts.
        CheckpointError: they are not what was registered.
    """
    name, number = version.rsplit("/", 1)
    with registry_errors(name):
        source = runs.client().get_model_version_download_uri(name, number)
    try:
        uri = runs.client().tracking_uri
        folder = Path(artifacts.download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=uri))
        if not any(path.is_file() for path in folder.rglob("*")):
            raise FileNotFoundError("no files")
    except Exception as error:  # each artifact store raises errors of its own
        where = f"{version}: its artifacts at {without_password(source)}"
        raise StoreError(f"{where} can't be fetched ({first_line(error)}). Check that the store answers.") from None
    strip_caches(folder)
    verify_checksum(folder, version_tags(name, int(number)).get(CHECKSUM_TAG), version, runs_code)
    return folder


def resolve_version(model: str) -> int:
    """Return the number of the version that `NAME` (its champion), `NAME@alias` or `NAME/3` stands for.

    Raises:
        CheckpointError: there is no such model, version or alias.
        StoreError: the store does not answer.
    """
    name, at, alias = model.partition("@")
    name, slash, number = (name, "", "") if at else name.partition("/")
    if not _is_registered(name):
        raise CheckpointError(
            f"{model}: there is no registered model {name!r}, nor a folder of that name.{_name_hint(name)}"
        )
    return _numbered_version(model, name, number) if slash else _aliased_version(model, name, alias)


def _aliased_version(model: str, name: str, alias: str) -> int:
    version = alias_version(name, alias or "champion")
    if version is None:
        why = "" if alias else " (none has beaten the baseline yet)"
        raise CheckpointError(f"{model}: {name!r} has no alias {alias or 'champion'!r}{why}. Name a version: {name}/1")
    return version


def _numbered_version(model: str, name: str, number: str) -> int:
    with registry_errors(name):
        versions = sorted(int(version.version) for version in runs.client().search_model_versions(f"name = '{name}'"))
    if not number.isdecimal() or int(number) not in versions:
        raise CheckpointError(f"{model}: there is no version {number!r} of {name!r}. Known: {versions}.")
    return int(number)


def _is_registered(name: str) -> bool:
    if store_is_empty() or not name:
        return False
    with registry_errors(name):
        try:
            runs.client().get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return False
    return True


def _name_hint(name: str) -> str:
    """Suggest registered names like `name`, out of the first hundred."""
    known = [] if store_is_empty() else [model.name for model in runs.client().search_registered_models()]
    if not known:
        return f" Nothing is registered in {home()} yet. Run: lstm train CONFIG"
    return did_you_mean(name, known, _MAX_NAMES)


def list_versions(name: str) -> list[dict[str, Any]]:
    """Return a row for each version with aliases, kind, scores and gate tags; lowest validation RMSE first.

    Raises:
        CheckpointError: there is no such model.
        StoreError: the store does not answer.
    """
    if store_is_empty():
        resolve_version(name)
    with registry_errors(name):
        try:
            aliases = runs.client().get_registered_model(name).aliases
        except MlflowException:
            resolve_version(name)  # its error lists the names that exist
            raise
        rows = [_version_row(version, aliases) for version in runs.client().search_model_versions(f"name = '{name}'")]
    return sorted(rows, key=lambda row: (row.get("val_rmse", float("inf")), row["version"]))


def _version_row(version: ModelVersion, aliases: Mapping[str, str]) -> dict[str, Any]:
    run_name, metrics = _run_scores(str(version.run_id), version.tags)
    return {
        "version": int(version.version),
        "aliases": sorted(alias for alias, number in aliases.items() if int(number) == int(version.version)),
        "kind": version.tags.get("kind", ""),
        "run": run_name,
        "run_id": version.run_id,
        **metrics,
        **{key: value for key, value in version.tags.items() if key.startswith(_RECORDED)},
    }


def _run_scores(run_id: str, tags: Mapping[str, str]) -> tuple[str, dict[str, float]]:
    """Return name and scores of a version's run; from the version's own tags if the run was deleted."""
    try:
        run = runs.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return tags.get("run_name", ""), {key: float(tags[key]) for key in TAGGED_METRICS if key in tags}
    scores = {key: value for key, value in run.data.metrics.items() if key.startswith(("val_", "test_"))}
    return run.info.run_name, scores


def model_name(model: str) -> str:
    """Return the bare name in `NAME`, `NAME@alias` and `NAME/3`; of a folder its last part."""
    return Path(model).name if is_folder(model) else model.partition("@")[0].partition("/")[0]


def is_folder(model: str) -> bool:
    """Return whether `model` names a folder rather than a registered model."""
    try:
        return Path(model).is_dir()
    except OSError:  # too long for a path
        return False
