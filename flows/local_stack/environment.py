"""What the processes of `lstm up` are told by their environment, and who may ask them. What the user has set wins."""

import os
from pathlib import Path

from flows.services.prefect_server import database
from lstm.errors import ConfigError
from tasks.runtime.network import is_loopback
from tasks.settings import folder, home, tracking_uri

_OF_PREFECT = "PREFECT_SERVER_API_AUTH_STRING"
_OF_MLFLOW = ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD")


def check_authentication(host: str) -> None:
    """Raise ConfigError where others than this machine could ask without a password, or MLflow's is half set."""
    missing = [name for name in (_OF_PREFECT, *_OF_MLFLOW) if not os.environ.get(name)]
    if missing and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: other machines reach it, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
            "not set. Set them (docs/operations.md), or listen on 127.0.0.1."
        )
    half = [name for name in _OF_MLFLOW if name in missing]
    if len(half) == 1:
        raise ConfigError(f"{half[0]}: is not set, but MLflow's authentication needs {' and '.join(_OF_MLFLOW)}.")


def mlflow_authenticates() -> bool:
    """Whether the MLflow server asks for a password."""
    return all(os.environ.get(name) for name in _OF_MLFLOW)


def server_environment(host: str, port: int) -> dict[str, str]:
    """Of the Prefect server."""
    settings = {
        **database(),
        # On disk: kept in memory, as by default, the leases of a server that was killed hold their slots for ever, and
        # a running flow that can't renew its own is ended.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 24 * 3600),  # of flow runs, with their logs
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
    }
    own = {
        "PREFECT_HOME": str(folder("prefect")),  # where the leases are: one folder a database
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
    }
    return {**settings, **_without("PREFECT_API_URL", *_OF_MLFLOW), **own}


def mlflow_environment() -> dict[str, str]:
    """Of the MLflow server. The address of its database is here, and not in its arguments, which all may read."""
    settings = {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(),
        "MLFLOW_ARTIFACTS_DESTINATION": folder("artifacts").as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two processes in place of ten
    }
    if mlflow_authenticates():
        settings["MLFLOW_AUTH_CONFIG_PATH"] = str(_auth_config())
    return {**settings, **_without(_OF_PREFECT, "PREFECT_API_AUTH_STRING")}


def worker_environment(api: str) -> dict[str, str]:
    """Of the worker and of the flow runs that it starts: clients, which need no server's secrets."""
    own = {"PREFECT_API_URL": api, "LSTM_HOME": str(home()), "PWD": str(Path.cwd())}
    if password := os.environ.get(_OF_PREFECT):
        own["PREFECT_API_AUTH_STRING"] = password
    return {**_without(_OF_PREFECT, *_OF_MLFLOW), **own}


def _without(*names: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in names}


def _auth_config() -> Path:
    """MLflow's accounts in a database of these stores; by default it lies in the working directory."""
    path = home() / "mlflow-auth.ini"
    database = str(home() / "mlflow-auth.db").replace("%", "%%")  # which configparser would read as a reference
    lines = ["[mlflow]", "default_permission = READ", f"database_uri = sqlite:///{database}", "admin_username = admin"]
    lines += ["auth_cache_ttl_seconds = 60"]  # a password is hashed once a minute, not at each request
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
