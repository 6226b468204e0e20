"""Rows of SQL queries, through SQLAlchemy and a server-side cursor. Messages never contain a password."""

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, unquote_plus

import pandas as pd

from lstm.errors import DataError
from lstm.sources.reading import WantedValues, check_unique_columns, limit_rows, select_columns

MAX_CHUNK_ROWS = 100_000  # a row of Python objects needs ten times the memory of its numbers
_PASSWORD = re.compile(r"//[^/]*?:(.*)@|(?:password|passwd|pwd|token|secret|key)=([^&;]*)", re.IGNORECASE)
_FORM = "Write postgresql://user:password@host/database."
_PACKAGES = {"psycopg": "lstm[postgres]", "MySQLdb": "mysqlclient"}


def read_environment(variable: str) -> str:
    """Return the value of the environment variable that `env:NAME` names.

    Raises:
        DataError: it is not set.
    """
    value = os.environ.get(variable.removeprefix("env:"), "").strip()
    if not value:
        fix = "Set it to the address of the data or database."
        raise DataError(f"{variable}: the variable is not set in the environment. {fix}")
    return value


def parse_database_url(variable: str, name: str) -> Any:
    """Return the SQLAlchemy URL that a variable `env:NAME` holds; messages call the source `name`.

    Raises:
        DataError: the variable is not set, or its value is not a database URL.
    """
    from sqlalchemy.engine import make_url

    value = read_environment(variable)
    try:
        url = make_url(value)
    except Exception:  # ArgumentError, or ValueError for a port that is no number
        raise DataError(f"{name}: the variable's value (not shown) is no database URL. {_FORM}") from None
    if url.drivername in ("postgres", "postgresql"):  # the driver of lstm[postgres]
        return url.set(drivername="postgresql+psycopg")
    return url


@dataclass(frozen=True)
class Query:
    """An SQL query. The URL of the database is read from the environment at each use and never stored."""

    sql: str
    variable: str  # env:NAME, whose value is the URL of the database
    name: str  # in messages

    def columns(self) -> list[str]:
        """Return the names of all columns without reading rows."""
        with self._result(1) as result:
            return self._names(result)

    def frames(
        self, columns: Sequence[str] | None, text: Sequence[str], rows: int, _: WantedValues = MappingProxyType({})
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows in the order of the database."""
        with self._result(min(rows, MAX_CHUNK_ROWS)) as result:
            names = self._names(result)
            rows, wanted = limit_rows(min(rows, MAX_CHUNK_ROWS), 10 * len(names)), select_columns(names, columns)
            records = self._fetch(result, rows)
            yield self._to_frame(records, names)[wanted]
            while records := self._fetch(result, rows):
                yield self._to_frame(records, names)[wanted]

    def _to_frame(self, records: list[tuple[Any, ...]], names: list[str]) -> pd.DataFrame:
        return pd.DataFrame.from_records(records, columns=names, coerce_float=True)

    def _names(self, result: Any) -> list[str]:
        names = list(map(str, result.keys()))
        check_unique_columns(names, self.name)
        return names

    def _fetch(self, result: Any, rows: int) -> list[tuple[Any, ...]]:
        with self._driver_errors():
            return [tuple(row) for row in result.fetchmany(rows)]

    @contextmanager
    def _result(self, rows: int) -> Iterator[Any]:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        options = {
            "stream_results": True,
            "max_row_buffer": rows,
            "no_parameters": True,
        }  # a % in the query is no placeholder
        with self._driver_errors():
            engine = create_engine(self._url(), poolclass=NullPool, hide_parameters=True)
            connection = engine.connect().execution_options(**options)
        with ExitStack() as stack:
            stack.callback(_close, connection)
            with self._driver_errors():
                result = connection.exec_driver_sql(self.sql)
                stack.callback(_close, result)
                result.keys()  # raises for a statement without rows
            yield result

    def _url(self) -> Any:
        url = parse_database_url(self.variable, self.name)
        file = url.database or ":memory:"
        if (
            url.get_backend_name() == "sqlite"
            and not file.startswith((":memory:", "file:"))
            and not Path(file).exists()
        ):
            raise DataError(
                f"{self.name}: there is no SQLite file where the variable says (not shown). Check its value."
            )
        return url

    @contextmanager
    def _driver_errors(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # SQLAlchemy's errors and each driver's own
            raise DataError(f"{self.name}: {_driver_error(error, read_environment(self.variable))}") from None


def _close(resource: Any) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    with suppress(SQLAlchemyError):  # the connection may be broken
        resource.close()


def _driver_error(error: Exception, secret: str) -> str:
    """Return the message for an error, without any part of `secret`, the URL."""
    from sqlalchemy.exc import NoSuchModuleError, OperationalError, ResourceClosedError

    if isinstance(error, ImportError):
        package = (error.name or "psycopg").partition(".")[0]
        return f"the database needs the package {package}. Run: pip install '{_PACKAGES.get(package, package)}'"
    if isinstance(error, NoSuchModuleError):
        return f"SQLAlchemy knows no such database or driver as the variable's value (not shown) names. {_FORM}"
    if isinstance(error, ResourceClosedError):
        return "the statement gives no rows. Write a SELECT."
    problem = "the database can't be reached or refuses" if isinstance(error, OperationalError) else "the query failed"
    return f"{problem} ({scrub_secrets(error, secret)}). Check data.source.sql and the address in the variable."


def scrub_secrets(error: Exception, secret: str) -> str:
    """Return the first line of a driver's message without parts of the URL, or its type if a password remains."""
    text = next(iter(str(getattr(error, "orig", None) or error).strip().splitlines()), "")
    forms = (secret, unquote(secret), unquote_plus(secret))
    words = {word for form in forms for word in re.split(r"[:/@?&=;,\s]+", form) if word}
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
    passwords = {word for form in forms for match in _PASSWORD.finditer(form) for word in match.groups() if word}
    return type(error).__name__ if any(word in text for word in passwords) else text[:200]
