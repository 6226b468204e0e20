"""The aliases champion and previous move together, whatever becomes of the process that moves them.

MLflow moves one at a time. What is to be done is written down first, as a tag of the registered model, and wiped out
last; whoever finds it there with nobody at it carries it out.
"""

import json

from mlflow.exceptions import MlflowException

from tasks.registry.models import alias_version, asking, drop_alias, set_alias
from tasks.tracking import runs

_TAG = "moving"


def move(name: str, champion: int, previous: int) -> None:
    """Make one version champion and another one previous. The caller holds the lock of the name's promotions."""
    with asking(name):
        runs.client().set_registered_model_tag(name, _TAG, json.dumps({"champion": champion, "previous": previous}))
    _carry_out(name, champion, previous)


def complete(name: str) -> None:
    """Carry out a move that a killed process left half done. The caller holds the lock of the name's promotions."""
    with asking(name):
        try:
            found = runs.client().get_registered_model(name).tags.get(_TAG)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return
    if found is not None:
        _carry_out(name, **json.loads(found))


def unfinished() -> list[str]:
    """The names of the models whose aliases are moving, or were when a process was killed."""
    with asking("registered models"):
        found = runs.pages(runs.client().search_registered_models, f"tags.{_TAG} LIKE '%'")
        return [model.name for model in found]


def _carry_out(name: str, champion: int, previous: int) -> None:
    """`previous` first: at every moment there is a champion, and the last one can be found."""
    if _is_there(name, champion) and _is_there(name, previous):
        set_alias(name, "previous", previous)
        set_alias(name, "champion", champion)
        if alias_version(name, "challenger") == champion:
            drop_alias(name, "challenger")
    with asking(name):
        runs.client().delete_registered_model_tag(name, _TAG)


def _is_there(name: str, number: int) -> bool:
    """A version can be deleted before a move to it is carried out."""
    with asking(name):
        try:
            runs.client().get_model_version(name, str(number))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return False
    return True
