"""One error for what went wrong with several models."""

from collections.abc import Mapping

from lstm.errors import LstmError


def raise_together(errors: Mapping[str, BaseException], models: int, what: str) -> None:
    """Raise what went wrong, if anything did: of a single model its own error, else one line that names all.

    Args:
        errors: by name of the model.
        models: how many were tried.
        what: became of those, such as "have no forecasts".
    """
    if errors and models == 1:
        raise next(iter(errors.values()))
    if errors:
        told = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise LstmError(f"{len(errors)} of {models} models {what}: {told}")
