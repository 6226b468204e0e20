"""Locks between processes: in a file, or in a PostgreSQL database for machines without a common folder."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from lstm.errors import StoreError
from lstm.sources.queries import scrub_secrets
from tasks.settings import without_password

_LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL, Appendix A: error codes
# So that the server drops the connection of a vanished machine after a minute, not after hours.
_KEEPALIVE = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


class LockHeldError(StoreError):
    """Another process held the lock until the timeout."""


@contextmanager
def database_lock(uri: str, key: str, timeout: float) -> Iterator[None]:
    """Hold an advisory lock in PostgreSQL while the block runs, at most until this process or its connection ends.

    Args:
        uri: of a PostgreSQL database, as SQLAlchemy takes it.
        key: what is locked; the error says "the lock for KEY".
        timeout: seconds to wait for the lock; 0: without limit.

    Raises:
        LockHeldError: another process holds it until the timeout.
        StoreError: the database can't be used. The message shows no password.
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
        raise _lock_error(uri, key, error) from None
    with connection:
        try:
            connection.execute(text(f"SET lock_timeout = '{round(timeout * 1000)}ms'; {_KEEPALIVE}"))
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": number})
        except SQLAlchemyError as error:
            if getattr(error.__cause__, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                raise LockHeldError(f"{_location(uri)}: the lock for {key} is held by another process.") from None
            raise _lock_error(uri, key, error) from None
        yield


@contextmanager
def file_lock(file: Path, key: str, timeout: float) -> Iterator[None]:
    """Hold a file lock while the block runs.

    Args:
        file: created if missing.
        key: what is locked; the error says "the lock for KEY".
        timeout: seconds to wait for the lock; 0: without limit.

    Raises:
        LockHeldError: another process holds it until the timeout.
        StoreError: the file can't be used.
    """
    lock = FileLock(file, timeout=timeout or -1)
    try:
        lock.acquire()
    except Timeout:
        raise LockHeldError(f"{file}: the lock for {key} is held by another process.") from None
    except OSError as error:
        raise StoreError(f"{file}: the lock for {key} can't be acquired ({error.strerror}).") from None
    try:
        yield
    finally:
        lock.release()


def _lock_error(uri: str, key: str, error: Exception) -> StoreError:
    problem = f"{_location(uri)}: the lock for {key} can't be acquired ({scrub_secrets(error, uri)})."
    return StoreError(f"{problem} Check that it answers, and the login in the address.")


def _location(uri: str) -> str:
    return without_password(uri).partition("?")[0]
