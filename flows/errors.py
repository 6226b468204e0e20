"""What a command says of errors that are not the library's own, or that are several."""

from collections.abc import Mapping

from lstm.errors import LstmError, StoreError
from tasks.settings import folder


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
        lines = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise LstmError(f"{len(errors)} of {models} models {what}: {lines}")


def told(error: Exception) -> LstmError | None:
    """The error that the command ends with; None: nobody expected this one, and its traceback is what helps.

    Where Prefect's server failed while it was told of another error, such as on a full disk, it is that other one.
    """
    if isinstance(error, LstmError):
        return error
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    if not isinstance(error, PrefectHTTPStatusError | httpx.TransportError):
        return None
    before = error.__context__
    while before is not None and not isinstance(before, LstmError):
        before = before.__context__
    return before or StoreError(
        f"the Prefect server failed ({str(error).partition(' - ')[0]}). Its log says why, mostly a full disk; it is "
        f"{folder('logs') / 'prefect-server.log'} where this command or `lstm up` started it. The same command goes on."
    )
