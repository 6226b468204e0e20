"""Names of models: `NAME`, `NAME@alias`, `NAME/3`, or a folder, and what stands behind them."""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from mlflow.artifacts import download_artifacts
from mlflow.exceptions import MlflowException

from lstm.errors import CheckpointError, StoreError, nearest
from lstm.forecaster import Forecaster
from tasks import tracking
from tasks.settings import home, store_is_empty, without_password

_HEADINGS = ("The following failures", "#####")
_SHOWN = 200  # characters of an error


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
        CheckpointError: there is no such model, version, alias or folder, or its artifacts are damaged.
        StoreError: its artifacts can't be fetched, and may be good.
    """
    if _is_folder(model):
        return Forecaster.load(model), model
    version = "{}/{}".format(*_resolve(model))
    with TemporaryDirectory() as scratch:
        fetched = _fetched(version, scratch)
        found = next(fetched.rglob("forecaster.json"), None)
        if found is None:
            raise CheckpointError(f"{version}: holds no forecaster of this package.")
        try:
            return Forecaster.load(found.parent), version
        except CheckpointError as error:  # says where in the scratch folder, which is gone when that is read
            raise CheckpointError(str(error).replace(str(found.parent), version)) from None


def _fetched(version: str, scratch: str) -> Path:
    """A copy of a version's artifacts.

    Raises:
        StoreError: the store does not hand them out, or has none.
    """
    source = tracking.client().get_model_version_download_uri(*version.rsplit("/", 1))
    try:
        uri = tracking.client().tracking_uri
        local = Path(download_artifacts(artifact_uri=source, dst_path=scratch, tracking_uri=uri))
        if not any(path.is_file() for path in local.rglob("*")):
            raise FileNotFoundError("nothing is there")
    except Exception as error:  # every kind of store has errors of its own
        where = f"{version}: its artifacts at {without_password(source)}"
        raise StoreError(f"{where} can't be fetched ({_said(error)}). Check that the store answers.") from None
    return local


def _said(error: Exception) -> str:
    """The line of an error that says what happened: MLflow lists the files first."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(_HEADINGS)]
    return lines[0][:_SHOWN] if lines else type(error).__name__


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
