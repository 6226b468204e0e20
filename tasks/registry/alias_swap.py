"""Move the aliases champion and previous together, even if the process is killed in between.

MLflow cannot move two aliases atomically. The pending move is first stored as a tag on the registered model and deleted
last, so the next process under the lock can finish an interrupted move.
"""

import json

from mlflow.exceptions import MlflowException

from tasks.registry.versions import alias_version, delete_alias, registry_errors, set_alias, version_exists
from tasks.tracking import runs

_TAG = "moving"


def swap_aliases(name: str, champion: int, previous: int) -> None:
    """Point `champion` and `previous` at two versions. The caller holds the promotion lock of `name`."""
    with registry_errors(name):
        pending = json.dumps({"champion": champion, "previous": previous})
        runs.client().set_registered_model_tag(name, _TAG, pending)
    _apply(name, champion, previous)


def apply_pending_swap(name: str) -> None:
    """Finish a swap that a killed process left unfinished. The caller holds the promotion lock of `name`."""
    with registry_errors(name):
        try:
            pending = runs.client().get_registered_model(name).tags.get(_TAG)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return
    if pending is not None:
        _apply(name, **json.loads(pending))


def pending_swaps() -> list[str]:
    """Return the names of the registered models with an unfinished alias swap."""
    with registry_errors("registered models"):
        models = runs.paginate(runs.client().search_registered_models, f"tags.{_TAG} LIKE '%'")
        return [model.name for model in models]


def _apply(name: str, champion: int, previous: int) -> None:
    """Set `previous` first, so that there is always a champion and the last one can be found."""
    if version_exists(name, champion) and version_exists(name, previous):  # both may have been deleted since
        set_alias(name, "previous", previous)
        set_alias(name, "champion", champion)
        if alias_version(name, "challenger") == champion:
            delete_alias(name, "challenger")
    with registry_errors(name):
        runs.client().delete_registered_model_tag(name, _TAG)
