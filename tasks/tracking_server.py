"""Whether the tracking server answers and lets us in, told at once: MLflow itself retries for minutes."""

import os
import urllib.error
import urllib.request
from typing import Any

from mlflow.utils.credentials import get_default_host_creds
from mlflow.utils.rest_utils import http_request

from lstm.errors import ConfigError
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
