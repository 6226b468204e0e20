"""Connect to MLflow: check a server or database at once, create a local store, turn errors into `StoreError`."""

import errno
import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from lstm.errors import ConfigError, StoreError
from lstm.sources.queries import scrub_secrets
from tasks.settings import home, tracking_uri, without_password

_ENDPOINT = "/api/2.0/mlflow/experiments/search"  # needs the login, if the server has one
_TIMEOUT_S = 10
_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EIO)
_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def check_server(uri: str) -> None:
    """Send a small request to the tracking server; MLflow itself would retry for minutes.

    Raises:
        ConfigError: the address is invalid, the server does not answer, or it refuses the login.
    """
    try:
        urllib.request.urlopen(uri, timeout=_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (ValueError, HTTPException):  # such as a password with a slash in it
        raise ConfigError(
            "MLFLOW_TRACKING_URI: its value (not shown) is no valid address. Write it as https://HOST:PORT, and "
            f"set the login in {_LOGIN}."
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(
            f"MLFLOW_TRACKING_URI={without_password(uri)}: the server does not answer ({reason}). Start it, or "
            "correct the address."
        ) from None
    credentials: Any = get_default_host_creds
    request: Any = http_request  # both are untyped
    limits = {"timeout": _TIMEOUT_S, "raise_on_status": False}
    response = request(credentials(uri), _ENDPOINT, "GET", params={"max_results": 1}, **limits)
    if response.status_code in (401, 403):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        problem = f"refuses the login of {user!r}" if user else "asks for a login"
        raise ConfigError(
            f"MLFLOW_TRACKING_URI={without_password(uri)}: the server {problem} ({response.status_code}). Set {_LOGIN}."
        )


def check_database(uri: str) -> None:
    """Connect to a database once.

    Raises:
        ConfigError: the connection fails. The message shows no password.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        create_engine(uri, poolclass=NullPool, hide_parameters=True).connect().close()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        where = without_password(uri).partition("?")[0]
        raise ConfigError(
            f"MLFLOW_TRACKING_URI={where}: can't be used ({scrub_secrets(error, uri)}). Check it."
        ) from None


def create_tables(database: Path) -> None:
    """Create the tables in a temporary file and move it into place: a partial store could never be used."""
    partial = database.with_name(f".{database.name}.making")
    partial.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{partial}")
    os.replace(partial, database)


def as_store_error(error: BaseException) -> StoreError | None:
    """Return the error for the user if MLflow or the disk did not accept a write; else None."""
    if isinstance(error, MlflowException):
        uri, reason = without_password(tracking_uri()), str(error).splitlines()[0]
        return StoreError(f"{uri}: MLflow does not accept what is logged ({reason}). Mend that, and run it again.")
    if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
        path = error.filename or str(home())
        return StoreError(f"{path}: can't be written ({error.strerror}). Make room, and run it again.")
    return None
