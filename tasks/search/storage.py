"""The storage of studies: a journal in the workspace of the search, or the database that LSTM_STUDY_STORAGE names."""

import atexit
import os
import warnings
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.storages.journal import JournalFileBackend
from sqlalchemy.engine import URL, make_url

from lstm.errors import ConfigError
from lstm.sources.queries import scrub_secrets
from tasks.settings import without_password

STORAGE_VARIABLE = "LSTM_STUDY_STORAGE"
GRACE_PERIOD_S = 120  # without a heartbeat, after which a process on another machine counts as dead
_storages: dict[str, RDBStorage] = {}  # by URL: one connection pool per process
_EXAMPLE = "Set it to a URL such as postgresql+psycopg://user:password@host/database, or unset it."


def open_storage(folder: Path) -> BaseStorage:
    """Open the storage, or create it.

    Raises:
        ConfigError: the database or the journal can't be used. The message holds no password.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if url := database_url():
        if url not in _storages:
            _storages[url] = _open_database(url)
        return _storages[url]
    folder.mkdir(parents=True, exist_ok=True)
    return _open_journal(journal_path(folder))


def database_url() -> str:
    """Return the URL of the database for studies; empty: studies are journals."""
    return os.environ.get(STORAGE_VARIABLE, "").strip()


def postgres_address() -> str:
    """Return the URL of the database with its driver; empty: studies are not in PostgreSQL."""
    url = database_url()
    return _with_driver(url).render_as_string(hide_password=False) if url.startswith("postgres") else ""


def heartbeat_storage(storage: Any) -> Any:
    """Return the storage if it records heartbeats, else None."""
    return storage if is_heartbeat_enabled(storage) else None


def journal_path(folder: Path) -> Path:
    """Return the path of the journal in a workspace."""
    return folder / "study.journal"


@atexit.register
def close_storages() -> None:
    """Close the connections to databases; storages and studies opened before can't be used any more."""
    for storage in _storages.values():
        storage.remove_session()
        storage.engine.dispose()
    _storages.clear()


class _JournalLock:
    """Lock of a journal. It ends with its process; Optuna's own would block the next process for half a minute."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path.with_suffix(".lock"))  # Optuna's study.journal.lock would be a link

    def acquire(self) -> bool:
        self._lock.acquire()
        return True

    def release(self) -> None:
        self._lock.release()


def _open_journal(path: Path) -> JournalStorage:
    lock: Any = _JournalLock(path)
    if path.exists():
        _truncate_torn_line(path, lock)
    try:
        return JournalStorage(JournalFileBackend(str(path), lock))
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError):
        raise ConfigError(
            f"{path}: is not a journal of a search, or is damaged. Move it away to start a new search."
        ) from None


def _truncate_torn_line(path: Path, lock: _JournalLock) -> None:
    """Cut off an incomplete last line, which a crash or a full disk has left: appended to, it would be invalid JSON."""
    lock.acquire()
    try:
        content = path.read_bytes()
        end = content.rfind(b"\n") + 1
        if end < len(content):
            os.truncate(path, end)
    finally:
        lock.release()


def _open_database(url: str) -> RDBStorage:
    full_url = _with_driver(url)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat
            return RDBStorage(
                full_url.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "hide_parameters": True},
                heartbeat_interval=30,  # of Optuna's own loop; here leases.py records them
                grace_period=GRACE_PERIOD_S,
            )
    except Exception as error:  # SQLAlchemy's, Optuna's and each driver's own
        raise ConfigError(f"{STORAGE_VARIABLE}: {_describe_error(error, url)} {_EXAMPLE}") from None


def _with_driver(url: str) -> URL:
    """Parse the URL; PostgreSQL without a driver gets that of lstm[postgres]."""
    try:
        parsed = make_url(url)
    except Exception:  # ArgumentError, or ValueError for an invalid port
        raise ConfigError(f"{STORAGE_VARIABLE}: its value (not shown) is not a database URL. {_EXAMPLE}") from None
    return parsed.set(drivername="postgresql+psycopg") if parsed.drivername in ("postgres", "postgresql") else parsed


def _describe_error(error: Exception, url: str) -> str:
    from sqlalchemy.exc import NoSuchModuleError

    if isinstance(error, ImportError):
        return "the database needs a package that is not installed, for PostgreSQL: pip install 'lstm[postgres]'."
    if isinstance(error, NoSuchModuleError):
        return "SQLAlchemy does not know the database or driver that its value (not shown) names."
    shown = without_password(url) if "?" not in url else "the database"
    return f"{shown} can't be used for studies ({scrub_secrets(error, url)})."
