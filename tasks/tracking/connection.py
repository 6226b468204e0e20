"""Whether the tracking server answers and lets us in, told at once: MLflow itself retries for minutes."""

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from typing import Any

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from lstm.errors import ConfigError
from lstm.sources.queries import scrubbed
from tasks.settings import without_password

_ASKED = "/api/2.0/mlflow/experiments/search"  # needs a login, where a server wants one
_PATIENCE = 10  # seconds
_LOGIN = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def check_answers(uri: str) -> None:
    """Ask one small question.

    Raises:
        ConfigError: nobody answers, or the server does not accept the login of the environment.
    """
    try:
        urllib.request.urlopen(uri, timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        pass  # it answers
    except (ValueError, HTTPException):  # such as a password with a slash in it
        raise ConfigError(
            "MLFLOW_TRACKING_URI: its value (not shown) is no address. Write it as https://HOST:PORT, and the login "
            f"into {_LOGIN}."
        ) from None
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise ConfigError(f"MLFLOW_TRACKING_URI={without_password(uri)}: nobody answers ({reason}).") from None
    credentials: Any = get_default_host_creds
    asked: Any = http_request  # untyped, both
    answer = asked(credentials(uri), _ASKED, "GET", params={"max_results": 1}, timeout=_PATIENCE, raise_on_status=False)
    if answer.status_code in (401, 403):
        user = os.environ.get("MLFLOW_TRACKING_USERNAME")
        said = f"refuses the login of {user!r}" if user else "asks for a login"
        raise ConfigError(
            f"MLFLOW_TRACKING_URI={without_password(uri)}: the server {said} ({answer.status_code}). Set {_LOGIN}."
        )


def check_connects(uri: str) -> None:
    """Connect to a database once.

    Raises:
        ConfigError: it does not let us in. No password is told.
    """
    from sqlalchemy import create_engine
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    try:
        create_engine(uri, poolclass=NullPool, hide_parameters=True).connect().close()
    except (SQLAlchemyError, ImportError, ValueError) as error:
        where = without_password(uri).partition("?")[0]
        raise ConfigError(f"MLFLOW_TRACKING_URI={where}: can't be used ({scrubbed(error, uri)}). Check it.") from None
