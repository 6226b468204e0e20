"""Names of models: `NAME`, `NAME@alias`, `NAME/3`, or a folder, and what stands behind them."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from lstm.errors import CheckpointError, StoreError, nearest
from lstm.forecasting.forecaster import Forecaster
from lstm.networks.checkpoint import load_checkpoint
from tasks.registry.checksum import SEAL, check_seal, without_leftovers
from tasks.settings import home, store_is_empty, without_password
from tasks.tracking import runs as tracking

_HEADINGS = ("The following failures", "#####")
_SHOWN = 200  # characters of an error
SHOWN = ("val_rmse", "test_rmse", "test_rmse_skill")  # scores that a version has as tags, too


@contextmanager
def asking(name: str) -> Iterator[None]:
    """A store that does not answer is no empty store, and nothing may be promoted over what it holds.

    Raises:
        StoreError: for every error of MLflow's.
    """
    try:
        yield
    except MlflowException as error:
        raise StoreError(
            f"{name}: the registry does not answer ({_said(error)}). Check that the store works."
        ) from None


def alias_version(name: str, alias: str) -> int | None:
    """The version that an alias points at, or None.

    Raises:
        StoreError: the store does not answer.
    """
    with asking(name):
        try:
            aliases = tracking.client().get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    return int(aliases[alias]) if alias in aliases else None


def set_alias(name: str, alias: str, number: int) -> None:
    """Point an alias at a version."""
    with asking(name):
        tracking.client().set_registered_model_alias(name, alias, str(number))


def drop_alias(name: str, alias: str) -> None:
    """Remove an alias."""
    with asking(name):
        tracking.client().delete_registered_model_alias(name, alias)


def tag_version(name: str, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with asking(name):
        for key, value in tags.items():
            tracking.client().set_model_version_tag(name, str(number), key, value)


def version_tags(name: str, number: int) -> dict[str, str]:
    """The tags of a version."""
    with asking(name):
        return dict(tracking.client().get_model_version(name, str(number)).tags)


def create_version(name: str, run_id: str, model_id: str, tags: dict[str, str]) -> int:
    """Register a logged model with its seal as the next version of `name`; the name is made if missing."""
    client = tracking.client()
    with asking(name):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        logged = client.get_logged_model(model_id)
        sealed = {**tags, SEAL: logged.tags[SEAL]}
        made = client.create_model_version(
            name, logged.artifact_location, run_id, tags=sealed, await_creation_for=0, model_id=model_id
        )
    return int(made.version)


def same_version(name: str, fingerprint: str) -> int | None:
    """The newest version with that fingerprint, or None."""
    with asking(name):
        found = tracking.client().search_model_versions(f"name = '{name}' and tags.fingerprint = '{fingerprint}'")
    return max((int(one.version) for one in found), default=None)


def fingerprint(folder: Path, *more: str) -> str:
    """sha256 of a saved forecaster: its tensors and its description, but not where it came from.

    Args:
        folder: as `Forecaster.save` wrote it.
        more: what else makes two versions different.
    """
    tensors, _ = load_checkpoint(folder / "model.safetensors")
    description = json.loads((folder / "forecaster.json").read_text(encoding="utf-8"))
    digest = hashlib.sha256(json.dumps([{**description, "lineage": None}, *more], sort_keys=True).encode())
    for key, tensor in sorted(tensors.items()):
        digest.update(f"{key} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def load_forecaster(model: str) -> tuple[Forecaster, str]:
    """The forecaster that `model` names, and `NAME/version` (or the folder) for the record. `NAME`: its champion.

    Raises:
        CheckpointError: there is no such model, version, alias or folder, or its artifacts are damaged.
        StoreError: its artifacts can't be fetched, and may be good.
    """
    if is_folder(model):
        return Forecaster.load(model), model
    version = "{}/{}".format(*_resolve(model))
    # Where a file can't be fetched, MLflow's threads may still write others while the folder is removed.
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        return forecaster_in(fetched(version, scratch), version), version


def forecaster_in(folder: Path, version: str) -> Forecaster:
    """The forecaster among a version's artifacts.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    found = next(folder.rglob("forecaster.json"), None)
    if found is None:
        raise CheckpointError(f"{version}: holds no forecaster of this package.")
    try:
        return Forecaster.load(found.parent)
    except CheckpointError as error:  # says where in a scratch folder, which is gone when that is read
        raise CheckpointError(str(error).replace(str(found.parent), version)) from None


def fetched(version: str, scratch: str, runs: bool = False) -> Path:
    """A copy of a version's artifacts, held against its seal before anything of it is read.

    Args:
        version: `NAME/3`.
        scratch: folder to copy into.
        runs: whether code among them will be run.

    Raises:
        StoreError: the store does not hand them out, or has none.
        CheckpointError: they are not what was registered.
    """
    name, number = version.rsplit("/", 1)
    with asking(name):
        source = tracking.client().get_model_version_download_uri(name, number)
    try:
        uri = tracking.client().tracking_uri
        local = Path(download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=uri))
        if not any(path.is_file() for path in local.rglob("*")):
            raise FileNotFoundError("nothing is there")
    except Exception as error:  # every kind of store has errors of its own
        where = f"{version}: its artifacts at {without_password(source)}"
        raise StoreError(f"{where} can't be fetched ({_said(error)}). Check that the store answers.") from None
    without_leftovers(local)
    check_seal(local, version_tags(name, int(number)).get(SEAL), version, runs)
    return local


def _said(error: Exception) -> str:
    """The line of an error that says what happened: MLflow lists the files first."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(_HEADINGS)]
    return lines[0][:_SHOWN] if lines else type(error).__name__


def _resolve(model: str) -> tuple[str, int]:
    name, at, alias = model.partition("@")
    name, slash, number = (name, "", "") if at else name.partition("/")
    if not _is_registered(name):
        raise CheckpointError(
            f"{model}: there is no registered model {name!r}, nor a folder of that name.{_others(name)}"
        )
    if not slash:
        found = alias_version(name, alias or "champion")
        if found is None:
            why = "" if alias else " (none has beaten the baseline yet)"
            raise CheckpointError(
                f"{model}: {name!r} has no alias {alias or 'champion'!r}{why}. Name a version: {name}/1"
            )
        return name, found
    with asking(name):
        versions = sorted(int(one.version) for one in tracking.client().search_model_versions(f"name = '{name}'"))
    if not number.isdecimal() or int(number) not in versions:
        raise CheckpointError(f"{model}: there is no version {number!r} of {name!r}. Known: {versions}.")
    return name, int(number)


def _is_registered(name: str) -> bool:
    if store_is_empty() or not name:
        return False
    with asking(name):
        try:
            tracking.client().get_registered_model(name)
        except MlflowException as error:
            if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
                raise
            return False
    return True


def _others(name: str) -> str:
    """A hint at the name that was meant. Only the first hundred names are looked at."""
    known = [] if store_is_empty() else [found.name for found in tracking.client().search_registered_models()]
    return nearest(name, known, _SHOWN) if known else f" Nothing is registered in {home()} yet. Run: lstm train CONFIG"


def resolved(model: str) -> int:
    """The version that `NAME`, `NAME@alias` or `NAME/3` stands for.

    Raises:
        CheckpointError: there is no such model, version or alias.
    """
    return _resolve(model)[1]


def versions(name: str) -> list[dict[str, Any]]:
    """Every registered version with its aliases, kind and scores, best validation RMSE first.

    Raises:
        CheckpointError: there is no such model.
        StoreError: the store does not answer.
    """
    if store_is_empty():
        _resolve(name)
    with asking(name):
        try:
            aliases = tracking.client().get_registered_model(name).aliases
        except MlflowException:
            _resolve(name)  # says which names there are
            raise
        rows = [_row(version, aliases) for version in tracking.client().search_model_versions(f"name = '{name}'")]
    return sorted(rows, key=lambda row: (row.get("val_rmse", float("inf")), row["version"]))


def _row(version: ModelVersion, aliases: Mapping[str, str]) -> dict[str, Any]:
    run, metrics = _run(str(version.run_id), version.tags)
    recorded = ("gate", "forced_", "rolled_back_")
    return {
        "version": int(version.version),
        "aliases": sorted(alias for alias, number in aliases.items() if int(number) == int(version.version)),
        "kind": version.tags.get("kind", ""),
        "run": run,
        "run_id": version.run_id,
        **metrics,
        **{key: value for key, value in version.tags.items() if key.startswith(recorded)},
    }


def _run(run_id: str, tags: Mapping[str, str]) -> tuple[str, dict[str, float]]:
    """Name and scores of a version's run; where the run is gone, what the version's own tags say."""
    try:
        run = tracking.client().get_run(run_id)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return tags.get("run_name", ""), {key: float(tags[key]) for key in SHOWN if key in tags}
    return run.info.run_name, {
        key: value for key, value in run.data.metrics.items() if key.startswith(("val_", "test_"))
    }


def model_name(model: str) -> str:
    """The bare name in `NAME`, `NAME@alias` and `NAME/3`; of a folder its last part."""
    return Path(model).name if is_folder(model) else model.partition("@")[0].partition("/")[0]


def is_folder(model: str) -> bool:
    """Whether `model` names a folder, and no registered model."""
    try:
        return Path(model).is_dir()
    except OSError:  # too long for a path
        return False
