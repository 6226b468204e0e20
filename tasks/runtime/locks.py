"""Locks between processes: in a file, or, for machines without a common folder, in a PostgreSQL database."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lstm.errors import StoreError
from lstm.sources.queries import scrubbed
from tasks.settings import without_password

# The server lets go of a machine that has vanished after a minute, not after hours.
_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL, Appendix A: error codes
_VANISHED = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


class LockHeldError(StoreError):
    """Another process has held the lock for as long as it was waited for."""


@contextmanager
def database_lock(uri: str, key: str, patience: float) -> Iterator[None]:
    """Held by one process at a time, and until its connection ends, whatever becomes of the process.

    Args:
        uri: of a PostgreSQL database, as SQLAlchemy takes it.
        key: what is locked; the error says "the lock for KEY".
        patience: seconds to wait for it; 0 is without end.

    Raises:
        LockHeldError: another one holds it for so long.
        StoreError: the database can't be used. No password is told.
    """
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError
    from sqlalchemy.pool import NullPool

    number = int.from_bytes(hashlib.sha256(f"lstm {key}".encode()).digest()[:8], signed=True)
    try:
        connection = create_engine(
            uri, poolclass=NullPool, isolation_level="AUTOCOMMIT", hide_parameters=True
        ).connect()
    except (SQLAlchemyError, ImportError) as error:
        raise _unlockable(uri, key, error) from None
    with connection:
        try:
            connection.execute(text(f"SET lock_timeout = '{round(patience * 1000)}ms'; {_VANISHED}"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": number})
        except SQLAlchemyError as error:
            if getattr(error.__cause__, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise LockHeldError(f"{_where(uri)}: the lock for {key} is held by another process.") from None
            raise _unlockable(uri, key, error) from None
        yield


@contextmanager
def file_lock(file: Path, key: str, patience: float) -> Iterator[None]:
    """The same for the processes that see a file. `patience`: seconds to wait for it; 0 is without end.

    Raises:
        LockHeldError: another one holds it for so long.
        StoreError: the file can't be used.
    """
    lock = FileLock(file, timeout=patience or -1)
    try:
        lock.acquire()
    except Timeout:
        raise LockHeldError(f"{file}: the lock for {key} is held by another process.") from None
    except OSError as error:
        raise StoreError(f"{file}: the lock for {key} can't be had ({error.strerror}).") from None
    try:
        yield
    finally:
        lock.release()


def _unlockable(uri: str, key: str, error: Exception) -> StoreError:
    said = f"{_where(uri)}: the lock for {key} can't be had ({scrubbed(error, uri)})."
    return StoreError(f"{said} Check that it answers, and the login in the address.")


def _where(uri: str) -> str:
    return without_password(uri).partition("?")[0]
