"""Where studies are kept: a journal in the search's own folder, or the database that LSTM_STUDY_STORAGE names."""

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
from lstm.sources.queries import scrubbed
from tasks.settings import without_password

STORAGE_VARIABLE = "LSTM_STUDY_STORAGE"
GRACE_PERIOD_S = 120  # seconds of silence, after which a process on another machine is taken for dead
_storages: dict[str, RDBStorage] = {}  # one pool of connections a process
_EXAMPLE = "Set it to such as postgresql+psycopg://user:password@host/database, or unset it."


def open_storage(folder: Path) -> BaseStorage:
    """The storage, made if missing.

    Raises:
        ConfigError: the database or the journal can't be used. No password is told.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if address := database_url():
        if address not in _storages:
            _storages[address] = _open_database(address)
        return _storages[address]
    folder.mkdir(parents=True, exist_ok=True)
    return _open_journal(journal_path(folder))


def database_url() -> str:
    """The address of the database for studies; empty: they are journals."""
    return os.environ.get(STORAGE_VARIABLE, "").strip()


def postgres_address() -> str:
    """The database's address with the driver that is used; empty: studies are not in PostgreSQL."""
    address = database_url()
    return _with_driver(address).render_as_string(hide_password=False) if address.startswith("postgres") else ""


def heartbeat_storage(storage: Any) -> Any:
    """The storage, where it can tell when a running trial was last heard of; None: it can't."""
    return storage if is_heartbeat_enabled(storage) else None


def journal_path(folder: Path) -> Path:
    """The journal of the study in a folder."""
    return folder / "study.journal"


@atexit.register
def close_storages() -> None:
    """Let go of the databases; what was opened before can't be used any more."""
    for storage in _storages.values():
        storage.remove_session()
        storage.engine.dispose()
    _storages.clear()


class _JournalLock:
    """Of a journal; it ends with its process, where Optuna's own keeps the next one waiting for half a minute."""

    def __init__(self, path: Path) -> None:
        self._lock = FileLock(path.with_suffix(".lock"))  # Optuna's, study.journal.lock, would be a link to the journal

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
            f"{path}: is no usable journal of a search. Move it away: the search then starts anew."
        ) from None


def _truncate_torn_line(path: Path, lock: _JournalLock) -> None:
    """What a full disk or a crash left of a last line is dropped: with the next one it would be no JSON for ever."""
    lock.acquire()
    try:
        content = path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(path, whole)
    finally:
        lock.release()


def _open_database(address: str) -> RDBStorage:
    url = _with_driver(address)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)  # the heartbeat
            return RDBStorage(
                url.render_as_string(hide_password=False),
                engine_kwargs={"pool_pre_ping": True, "hide_parameters": True},
                heartbeat_interval=30,  # of Optuna's own loop; tasks/claims.py records them
                grace_period=GRACE_PERIOD_S,
            )
    except Exception as error:  # SQLAlchemy's, Optuna's and each driver's own
        raise ConfigError(f"{STORAGE_VARIABLE}: {_describe_error(error, address)} {_EXAMPLE}") from None


def _with_driver(address: str) -> URL:
    """PostgreSQL by the driver that lstm[postgres] brings, where the address names none."""
    try:
        url = make_url(address)
    except Exception:  # an ArgumentError, or a ValueError for a port that is no number
        raise ConfigError(f"{STORAGE_VARIABLE}: its value (not shown) is no database URL. {_EXAMPLE}") from None
    return url.set(drivername="postgresql+psycopg") if url.drivername in ("postgres", "postgresql") else url


def _describe_error(error: Exception, address: str) -> str:
    from sqlalchemy.exc import NoSuchModuleError

    if isinstance(error, ImportError):
        return "the database needs a package that is not installed, for PostgreSQL: pip install 'lstm[postgres]'."
    if isinstance(error, NoSuchModuleError):
        return "SQLAlchemy knows no such database or driver as its value (not shown) names."
    shown = without_password(address) if "?" not in address else "the database"
    return f"{shown} can't be used for studies ({scrubbed(error, address)})."
