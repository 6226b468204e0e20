"""Errors of several models as one, and errors of other libraries as messages for users."""

from collections.abc import Mapping

from lstm.errors import LstmError, StoreError
from tasks.settings import store_folder


def raise_together(errors: Mapping[str, BaseException], n_models: int, consequence: str) -> None:
    """Raise the error of a single model, or one error that names all that failed; return if none did.

    Args:
        errors: by name of the model.
        n_models: number of models that were tried.
        consequence: completes "2 of 3 models …", such as "have no forecasts".
    """
    if errors and n_models == 1:
        raise next(iter(errors.values()))
    if errors:
        lines = "; ".join(f"{name}: {error}" for name, error in errors.items())
        raise LstmError(f"{len(errors)} of {n_models} models {consequence}: {lines}")


def as_user_error(error: Exception) -> LstmError | None:
    """Return the error to show to the user; None for an unexpected error, whose traceback is shown.

    If the Prefect server failed while it recorded another error, such as a full disk, return that other error.
    """
    if isinstance(error, LstmError):
        return error
    import httpx
    from prefect.exceptions import PrefectHTTPStatusError

    if not isinstance(error, PrefectHTTPStatusError | httpx.TransportError):
        return None
    earlier = error.__context__
    while earlier is not None and not isinstance(earlier, LstmError):
        earlier = earlier.__context__
    return earlier or StoreError(
        f"the Prefect server failed ({str(error).partition(' - ')[0]}). Its log says why; most often "
        "the disk is full. The server of this command or of `lstm up` logs to "
        f"{store_folder('logs') / 'prefect-server.log'}. The same command continues the run."
    )
