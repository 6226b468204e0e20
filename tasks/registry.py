"""Names of models: `NAME`, `NAME@alias`, `NAME/3`, or a folder, and what stands behind them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from lstm.errors import CheckpointError, nearest
from lstm.forecaster import Forecaster
from tasks import tracking
from tasks.settings import home, store_is_empty


def alias_version(name: str, alias: str) -> int | None:
    """The version that an alias points at, or None."""
    try:
        aliases = tracking.client().get_registered_model(name).aliases
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise  # a store that does not answer is no empty store: nothing may be promoted over it
        return None
    return int(aliases[alias]) if alias in aliases else None


def set_alias(name: str, alias: str, number: int) -> None:
    """Point an alias at a version."""
    tracking.client().set_registered_model_alias(name, alias, str(number))


def create_version(name: str, run_id: str, model_id: str, tags: dict[str, str]) -> int:
    """Register a logged model as the next version of `name`; the name is made if missing."""
    client = tracking.client()
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = tracking.client().get_logged_model(model_id).artifact_location
    made = client.create_model_version(name, source, run_id, tags=tags, await_creation_for=0, model_id=model_id)
    return int(made.version)


def load_forecaster(model: str) -> tuple[Forecaster, str]:
    """The forecaster that `model` names, and `NAME/version` (or the folder) for the record. `NAME`: its champion.

    Raises:
        CheckpointError: there is no such model, version, alias or folder, or its artifacts are gone or damaged.
    """
    if _is_folder(model):
        return Forecaster.load(model), model
    name, number = _resolve(model)
    source = tracking.client().get_model_version_download_uri(name, str(number))
    with TemporaryDirectory() as scratch:
        try:
            local = download_artifacts(
                artifact_uri=source, dst_path=scratch, tracking_uri=tracking.client().tracking_uri
            )
        except (MlflowException, OSError) as error:
            first = str(error).splitlines()[0]
            raise CheckpointError(f"{name}/{number}: its artifacts at {source} can't be read ({first}).") from None
        found = next(Path(local).rglob("forecaster.json"), None)
        if found is None:
            raise CheckpointError(f"{name}/{number}: holds no forecaster of this package.")
        return Forecaster.load(found.parent), f"{name}/{number}"


def _resolve(model: str) -> tuple[str, int]:
    name, at, alias = model.partition("@")
    name, slash, number = (name, "", "") if at else name.partition("/")
    known = [] if store_is_empty() else [found.name for found in tracking.client().search_registered_models()]
    if name not in known:
        hint = nearest(name, known) if known else f" Nothing is registered in {home()} yet. Run: lstm train CONFIG"
        raise CheckpointError(f"{model}: there is no registered model {name!r}, nor a folder of that name.{hint}")
    if not slash:
        found = alias_version(name, alias or "champion")
        if found is None:
            why = "" if alias else " (none has beaten the baseline yet)"
            raise CheckpointError(
                f"{model}: {name!r} has no alias {alias or 'champion'!r}{why}. Name a version: {name}/1"
            )
        return name, found
    versions = sorted(int(one.version) for one in tracking.client().search_model_versions(f"name = '{name}'"))
    if not number.isdecimal() or int(number) not in versions:
        raise CheckpointError(f"{model}: there is no version {number!r} of {name!r}. Known: {versions}.")
    return name, int(number)


def versions(name: str) -> list[dict[str, Any]]:
    """Every registered version with its aliases, kind and scores, best validation RMSE first.

    Raises:
        CheckpointError: there is no such model.
    """
    if store_is_empty():
        _resolve(name)
    client = tracking.client()
    try:
        aliases = client.get_registered_model(name).aliases
    except MlflowException:
        _resolve(name)  # says which names there are
        raise
    rows = []
    for version in client.search_model_versions(f"name = '{name}'"):
        run = client.get_run(str(version.run_id))
        rows.append(
            {
                "version": int(version.version),
                "aliases": sorted(alias for alias, number in aliases.items() if int(number) == int(version.version)),
                "kind": version.tags.get("kind", ""),
                "run": run.info.run_name,
                "run_id": version.run_id,
                **{key: value for key, value in run.data.metrics.items() if key.startswith(("val_", "test_"))},
            }
        )
    return sorted(rows, key=lambda row: (row.get("val_rmse", float("inf")), row["version"]))


def model_name(model: str) -> str:
    """The bare name in `NAME`, `NAME@alias` and `NAME/3`; of a folder its last part."""
    return Path(model).name if _is_folder(model) else model.partition("@")[0].partition("/")[0]


def _is_folder(model: str) -> bool:
    try:
        return Path(model).is_dir()
    except OSError:  # too long for a path
        return False
