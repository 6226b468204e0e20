"""Settings from the environment: where the stores are, and defaults that prefect and mlflow read at import.

Nothing here imports prefect, mlflow or torch.
"""

import errno
import os
import sqlite3
import tomllib
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from urllib.parse import unquote

from lstm.errors import ConfigError, DataError
from lstm.scratch import scratch_folder

_DEFAULTS = {
    "DO_NOT_TRACK": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "PREFECT_CLI_PROMPT": "false",
}
# By default glibc returns large blocks to the system, so that each optimiser step waits for the same pages to be zeroed
# again: a third of its time with batches of 256 (benchmarks/README.md). Other C libraries ignore these variables.
ALLOCATOR_SETTINGS = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


def set_default_environment() -> None:
    """Set defaults of unset variables: no telemetry, no prompts, no pickles, a long startup timeout."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    _split_login()


def _split_login() -> None:
    """Move user and password from the tracking server's address, which MLflow shows in errors, to their variables."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    scheme, _, rest = uri.partition("://")
    login, at, _ = rest.partition("/")[0].rpartition("@")
    if at and scheme.lower() in ("http", "https"):
        os.environ["MLFLOW_TRACKING_URI"] = uri.replace(f"{login}@", "", 1)
        user, _, password = login.partition(":")
        os.environ |= {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}


def worker_environment(threads: int) -> dict[str, str]:
    """Return the environment of a worker process: number of threads, and an allocator that keeps freed memory.

    Dask sets its workers' allocator to return freed memory at once.
    """
    return {**os.environ, **ALLOCATOR_SETTINGS, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def home() -> Path:
    """Return the folder of all local stores, `LSTM_HOME` or else `mlruns` in the working directory; creates it."""
    path = Path(os.environ.get("LSTM_HOME") or "mlruns").resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: can't be the folder of the stores ({error.strerror}). Set LSTM_HOME.") from None
    return path


def store_folder(name: str) -> Path:
    """Return a folder below `home()`; creates it."""
    path = home() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: can't be a folder of the stores ({error.strerror}). Set LSTM_HOME.") from None
    return path


def run_folder(run_id: str) -> Path:
    """Return the folder of files that an MLflow run needs until it ends: candidates, scores, plots. Not created."""
    return store_folder("work") / f"run-{run_id}"


def mark_used(path: Path) -> None:
    """Set the modification time of prepared data before use, by which retention finds unused ones."""
    with suppress(OSError):  # it does not exist yet, or the disk is read-only
        os.utime(path)


@contextmanager
def atomic_folder(target: Path) -> Iterator[Path]:
    """Yield a temporary folder to fill; it is renamed to `target` at the end of the block.

    Raises:
        DataError: it can't be written.
    """
    try:
        with scratch_folder(target.name, target.parent) as partial:
            yield partial
            with suppress(FileExistsError):  # another process was first, with the same content
                _rename(partial, target)
    except OSError as error:
        reason = error.strerror or str(error)
        raise DataError(f"{target}: can't be written ({reason}). Make room, or set LSTM_HOME.") from None


def _rename(folder: Path, target: Path) -> None:
    try:
        folder.rename(target)
    except OSError as error:
        if error.errno != errno.ENOTEMPTY:
            raise
        raise FileExistsError from None


def tracking_uri() -> str:
    """Return `MLFLOW_TRACKING_URI`, or else the URI of the SQLite store in `home()`, set to WAL mode if it exists."""
    if uri := os.environ.get("MLFLOW_TRACKING_URI"):
        return uri
    database = home() / "mlflow.db"
    try:
        if database.exists():
            with closing(sqlite3.connect(database)) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
    except sqlite3.Error as error:
        raise ConfigError(f"{database}: is no usable SQLite store ({error}). Move it away, or set LSTM_HOME.") from None
    return f"sqlite:///{database}"


def without_password(uri: str) -> str:
    """Return a URI without user and password."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else uri


def store_is_empty() -> bool:
    """Return whether there is no MLflow store yet, so that reading need not create one."""
    return not os.environ.get("MLFLOW_TRACKING_URI") and not (home() / "mlflow.db").exists()


def artifact_location() -> str | None:
    """Return the artifact folder of a new local experiment; None if the tracking server decides."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else store_folder("artifacts").as_uri()


def prefect_api_url() -> str | None:
    """Return `PREFECT_API_URL`, or else that of the active Prefect profile; None if none is configured."""
    if url := os.environ.get("PREFECT_API_URL"):
        return url
    prefect_home = Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    profiles = Path(os.environ.get("PREFECT_PROFILES_PATH", prefect_home / "profiles.toml"))
    try:
        state = tomllib.loads(profiles.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError):
        return None
    active = os.environ.get("PREFECT_PROFILE", state.get("active", ""))
    url = state.get("profiles", {}).get(active, {}).get("PREFECT_API_URL")
    return str(url) if url else None
