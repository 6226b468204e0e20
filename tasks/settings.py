"""The environment: where the stores are, and what prefect and mlflow must be told before their import.

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

_QUIET = {
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
# For glibc, which gives large blocks back to the system: each step of the optimiser then waits for the same pages to be
# zeroed anew, a third of its time with batches of 256 (benchmarks/README.md). Other C libraries ignore it.
MEMORY_KEPT = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}


def quiet_environment() -> None:
    """No telemetry, no prompts, no pickles, patience with slow starts: each where the user has not set it."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    _keep_login_apart()


def _keep_login_apart() -> None:
    """User and password leave the tracking server's address, which MLflow repeats in its errors, for their own
    variables."""
    uri = os.environ.get("MLFLOW_TRACKING_URI", "")
    scheme, _, rest = uri.partition("://")
    login, at, _ = rest.partition("/")[0].rpartition("@")
    if at and scheme.lower() in ("http", "https"):
        os.environ["MLFLOW_TRACKING_URI"] = uri.replace(f"{login}@", "", 1)
        user, _, password = login.partition(":")
        os.environ |= {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}


def worker_environment(threads: int) -> dict[str, str]:
    """This process's, with so many threads for torch and an allocator that keeps what is freed, which Dask's workers
    have set to give back each bit at once."""
    return {**os.environ, **MEMORY_KEPT, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}


def home() -> Path:
    """The folder of all local stores: `LSTM_HOME`, else `mlruns` of the working directory; made if missing."""
    path = Path(os.environ.get("LSTM_HOME") or "mlruns").resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: can't be the folder of the stores ({error.strerror}). Set LSTM_HOME.") from None
    return path


def folder(name: str) -> Path:
    """A folder below `home()`, made if missing."""
    path = home() / name
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: can't be a folder of the stores ({error.strerror}). Set LSTM_HOME.") from None
    return path


def run_folder(run_id: str) -> Path:
    """What an MLflow run keeps on disk until it has ended: candidates, scores, pictures. Not made yet."""
    return folder("work") / f"run-{run_id}"


def mark_used(path: Path) -> None:
    """Before prepared data are opened: what no run has used for `retention.work` is removed some day."""
    with suppress(OSError):  # it is not there yet, or the disk is read-only
        os.utime(path)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder that appears complete or not at all: it is filled beside, then renamed.

    Raises:
        DataError: the disk does not take it.
    """
    try:
        with scratch_folder(target.name, target.parent) as beside:
            yield beside
            with suppress(FileExistsError):  # another process was first: its folder has the same content
                _rename(beside, target)
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
    """`MLFLOW_TRACKING_URI` where set, else the SQLite store in `home()`; once it is there, it is in WAL mode."""
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
    """A URI that may be shown: what stands before the host is left out."""
    scheme, separator, rest = uri.partition("://")
    return f"{scheme}{separator}{rest.rpartition('@')[2]}" if separator else uri


def store_is_empty() -> bool:
    """Whether nothing can be registered yet: reading need not make a store first."""
    return not os.environ.get("MLFLOW_TRACKING_URI") and not (home() / "mlflow.db").exists()


def artifact_location() -> str | None:
    """Where a new local experiment keeps its artifacts; None: the tracking server decides."""
    return None if os.environ.get("MLFLOW_TRACKING_URI") else folder("artifacts").as_uri()


def prefect_api_url() -> str | None:
    """The Prefect server to use: `PREFECT_API_URL`, or that of the active profile; None: none is configured."""
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
