"""Read and write versions, aliases and tags of the MLflow registry."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mlflow.exceptions import MlflowException

from lstm.errors import StoreError
from tasks.registry.checksum import CHECKSUM_TAG
from tasks.tracking import runs

_HEADINGS = ("The following failures", "#####")
_MAX_LENGTH = 200  # characters of an error


@contextmanager
def registry_errors(name: str) -> Iterator[None]:
    """Turn errors of MLflow into `StoreError`, so that a failed request is never read as an empty registry.

    Args:
        name: of the registered model, for the message.

    Raises:
        StoreError: for every `MlflowException`.
    """
    try:
        yield
    except MlflowException as error:
        raise StoreError(
            f"{name}: the registry does not answer ({first_line(error)}). Check that the store works."
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of an error's message that is not one of MLflow's headings."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(_HEADINGS)]
    return lines[0][:_MAX_LENGTH] if lines else type(error).__name__


def alias_version(name: str, alias: str) -> int | None:
    """Return the version that an alias points at; None if the alias or the model does not exist.

    Raises:
        StoreError: the store does not answer.
    """
    with registry_errors(name):
        try:
            aliases = runs.client().get_registered_model(name).aliases
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None
    return int(aliases[alias]) if alias in aliases else None


def set_alias(name: str, alias: str, number: int) -> None:
    """Point an alias at a version."""
    with registry_errors(name):
        runs.client().set_registered_model_alias(name, alias, str(number))


def delete_alias(name: str, alias: str) -> None:
    """Delete an alias."""
    with registry_errors(name):
        runs.client().delete_registered_model_alias(name, alias)


def tag_version(name: str, number: int, tags: Mapping[str, str]) -> None:
    """Set tags of a version."""
    with registry_errors(name):
        for key, value in tags.items():
            runs.client().set_model_version_tag(name, str(number), key, value)


def version_tags(name: str, number: int) -> dict[str, str]:
    """Return the tags of a version."""
    with registry_errors(name):
        return dict(runs.client().get_model_version(name, str(number)).tags)


def create_version(name: str, run_id: str, model_id: str, tags: dict[str, str]) -> int:
    """Register a logged model as the next version of `name`, with the model's checksum as a tag.

    Creates the registered model if it does not exist.
    """
    client = runs.client()
    with registry_errors(name):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        model = client.get_logged_model(model_id)
        version = client.create_model_version(
            name,
            model.artifact_location,
            run_id,
            tags={**tags, CHECKSUM_TAG: model.tags[CHECKSUM_TAG]},
            await_creation_for=0,
            model_id=model_id,
        )
    return int(version.version)


def find_version(name: str, fingerprint: str) -> int | None:
    """Return the newest version with the tag `fingerprint`; None if there is none."""
    with registry_errors(name):
        query = f"name = '{name}' and tags.fingerprint = '{fingerprint}'"
        versions = runs.client().search_model_versions(query)
    return max((int(version.version) for version in versions), default=None)


def version_exists(name: str, number: int) -> bool:
    """Return whether a version exists."""
    with registry_errors(name):
        try:
            runs.client().get_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
    return True
