"""Environments of the processes of `lstm up`, and the check of authentication. Variables set by the user win."""

import os
from pathlib import Path

from flows.services.prefect_server import database_settings
from lstm.errors import ConfigError
from tasks.runtime.network import is_loopback
from tasks.settings import home, store_folder, tracking_uri

_PREFECT_SECRET = "PREFECT_SERVER_API_AUTH_STRING"
_MLFLOW_SECRETS = ("MLFLOW_FLASK_SERVER_SECRET_KEY", "MLFLOW_AUTH_ADMIN_PASSWORD")


def check_authentication(host: str) -> None:
    """Raise ConfigError if other machines could connect without a password, or if MLflow's secrets are incomplete."""
    missing = [name for name in (_PREFECT_SECRET, *_MLFLOW_SECRETS) if not os.environ.get(name)]
    if missing and not is_loopback(host):
        raise ConfigError(
            f"--host {host}: other machines reach it, and {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} "
            "not set. Set them (docs/operations.md), or listen on 127.0.0.1."
        )
    half = [name for name in _MLFLOW_SECRETS if name in missing]
    if len(half) == 1:
        raise ConfigError(f"{half[0]}: is not set, but MLflow's authentication needs {' and '.join(_MLFLOW_SECRETS)}.")


def mlflow_authenticates() -> bool:
    """Return whether the MLflow server asks for a password."""
    return all(os.environ.get(name) for name in _MLFLOW_SECRETS)


def server_environment(host: str, port: int) -> dict[str, str]:
    """Return the environment of the Prefect server."""
    settings = {
        **database_settings(),
        # On disk: after a kill, leases in memory (the default) would hold their slots forever, and a running flow that
        # can't renew its lease is ended.
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(90 * 24 * 3600),  # of flow runs, with their logs
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": "P7D",
    }
    fixed = {
        "PREFECT_HOME": str(store_folder("prefect")),  # holds the leases: one folder per database
        "PREFECT_SERVER_API_HOST": host,
        "PREFECT_SERVER_API_PORT": str(port),
    }
    return {**settings, **_without("PREFECT_API_URL", *_MLFLOW_SECRETS), **fixed}


def mlflow_environment() -> dict[str, str]:
    """Return the environment of the MLflow server. It holds the database's URL: arguments are public."""
    settings = {
        "MLFLOW_BACKEND_STORE_URI": tracking_uri(),
        "MLFLOW_ARTIFACTS_DESTINATION": store_folder("artifacts").as_uri(),
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # two processes instead of ten
    }
    if mlflow_authenticates():
        settings["MLFLOW_AUTH_CONFIG_PATH"] = str(_auth_config())
    return {**settings, **_without(_PREFECT_SECRET, "PREFECT_API_AUTH_STRING")}


def worker_environment(api: str) -> dict[str, str]:
    """Return the environment of the worker and its flow runs: clients, without the servers' secrets."""
    fixed = {"PREFECT_API_URL": api, "LSTM_HOME": str(home()), "PWD": str(Path.cwd())}
    if password := os.environ.get(_PREFECT_SECRET):
        fixed["PREFECT_API_AUTH_STRING"] = password
    return {**_without(_PREFECT_SECRET, *_MLFLOW_SECRETS), **fixed}


def _without(*names: str) -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if key not in names}


def _auth_config() -> Path:
    """Write MLflow's auth configuration: its database lies below the home, not in the working directory."""
    path = home() / "mlflow-auth.ini"
    database = str(home() / "mlflow-auth.db").replace("%", "%%")  # configparser reads % as a reference
    lines = ["[mlflow]", "default_permission = READ", f"database_uri = sqlite:///{database}", "admin_username = admin"]
    lines += ["auth_cache_ttl_seconds = 60"]  # hash a password once a minute, not at each request
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
