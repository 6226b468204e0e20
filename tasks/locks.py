"""Locks that machines without a common folder share: held in a PostgreSQL database."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from lstm.errors import StoreError
from tasks.settings import without_password

# The server lets go of a machine that has vanished after a minute, not after hours.
_VANISHED = "SET tcp_keepalives_idle = 30; SET tcp_keepalives_interval = 10; SET tcp_keepalives_count = 3"


@contextmanager
def database_lock(uri: str, key: str, patience: float) -> Iterator[None]:
    """Held by one process at a time, and until its connection ends, whatever becomes of the process.

    Args:
        uri: of a PostgreSQL database, as SQLAlchemy takes it.
        key: what is locked; the error says "the lock for KEY".
        patience: seconds to wait for it; 0 is without end.

    Raises:
        StoreError: another one holds it for so long, or the database does not answer.
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
            raise _unlockable(uri, key, error) from None
        yield


def _unlockable(uri: str, key: str, error: Exception) -> StoreError:
    where = without_password(uri).partition("?")[0]
    return StoreError(f"{where}: the lock for {key} can't be had ({type(error).__name__}).")
