"""The rows of a query, through SQLAlchemy and a cursor that stays on the server, with no password in any message."""

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

MAX_CHUNK_ROWS = 100_000  # of a chunk: a row of Python objects takes ten times the memory of its numbers
_PASSWORD = re.compile(r"//[^/]*?:(.*)@|(?:password|passwd|pwd|token|secret|key)=([^&;]*)", re.IGNORECASE)
_FORM = "Write postgresql://user:password@host/database."
_PACKAGES = {"psycopg": "lstm[postgres]", "MySQLdb": "mysqlclient"}


def read_environment(variable: str) -> str:
    """The value of `env:NAME`.

    Raises:
        DataError: it is not set.
    """
    value = os.environ.get(variable.removeprefix("env:"), "").strip()
    if not value:
        fix = "Set it to the address of the data or database."
        raise DataError(f"{variable}: the variable is not set in the environment. {fix}")
    return value


def parse_database_url(variable: str, name: str) -> Any:
    """The SQLAlchemy URL that a variable holds, with the driver that is installed; messages call it `name`.

    Raises:
        DataError: the variable is not set, or holds no such URL.
    """
    from sqlalchemy.engine import make_url

    value = read_environment(variable)
    try:
        url = make_url(value)
    except Exception:  # an ArgumentError, or a ValueError for a port that is no number
        raise DataError(f"{name}: the variable's value (not shown) is no database URL. {_FORM}") from None
    if url.drivername in ("postgres", "postgresql"):  # the driver that lstm[postgres] brings
        return url.set(drivername="postgresql+psycopg")
    return url


@dataclass(frozen=True)
class Query:
    """A query. Where the database is, is read from the environment at each use and kept nowhere."""

    sql: str
    variable: str
    name: str

    def columns(self) -> list[str]:
        """Names of all columns, without a row."""
        with self._result(1) as result:
            return self._names(result)

    def frames(
        self, columns: Sequence[str] | None, text: Sequence[str], rows: int, _: WantedValues = MappingProxyType({})
    ) -> Iterator[pd.DataFrame]:
        """The rows, as the database orders them."""
        with self._result(min(rows, MAX_CHUNK_ROWS)) as result:
            names = self._names(result)
            rows, wanted = limit_rows(min(rows, MAX_CHUNK_ROWS), 10 * len(names)), select_columns(names, columns)
            part = self._fetched(result, rows)
            yield self._frame(part, names)[wanted]
            while part := self._fetched(result, rows):
                yield self._frame(part, names)[wanted]

    def _frame(self, part: list[tuple[Any, ...]], names: list[str]) -> pd.DataFrame:
        return pd.DataFrame.from_records(part, columns=names, coerce_float=True)

    def _names(self, result: Any) -> list[str]:
        names = list(map(str, result.keys()))
        check_unique_columns(names, self.name)
        return names

    def _fetched(self, result: Any, rows: int) -> list[tuple[Any, ...]]:
        with self._told():
            return [tuple(row) for row in result.fetchmany(rows)]

    @contextmanager
    def _result(self, rows: int) -> Iterator[Any]:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        options = {"stream_results": True, "max_row_buffer": rows, "no_parameters": True}  # a % stays a %
        with self._told():
            engine = create_engine(self._url(), poolclass=NullPool, hide_parameters=True)
            connection = engine.connect().execution_options(**options)
        with ExitStack() as stack:
            stack.callback(_closed, connection)
            with self._told():
                result = connection.exec_driver_sql(self.sql)
                stack.callback(_closed, result)
                result.keys()  # a statement without rows is told here
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
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except Exception as error:  # SQLAlchemy's and each driver's own
            raise DataError(f"{self.name}: {_explained(error, read_environment(self.variable))}") from None


def _closed(what: Any) -> None:
    from sqlalchemy.exc import SQLAlchemyError

    with suppress(SQLAlchemyError):  # of a connection that is broken already
        what.close()


def _explained(error: Exception, secret: str) -> str:
    from sqlalchemy.exc import NoSuchModuleError, OperationalError, ResourceClosedError

    if isinstance(error, ImportError):
        package = (error.name or "psycopg").partition(".")[0]
        return f"the database needs the package {package}. Run: pip install '{_PACKAGES.get(package, package)}'"
    if isinstance(error, NoSuchModuleError):
        return f"SQLAlchemy knows no such database or driver as the variable's value (not shown) names. {_FORM}"
    if isinstance(error, ResourceClosedError):
        return "the statement gives no rows. Write a SELECT."
    what = "the database can't be reached or refuses" if isinstance(error, OperationalError) else "the query failed"
    return f"{what} ({scrub_secrets(error, secret)}). Check data.source.sql and the address in the variable."


def scrub_secrets(error: Exception, secret: str) -> str:
    """The first line of a driver's message without any part of the address; or only its kind, if a password is left."""
    text = next(iter(str(getattr(error, "orig", None) or error).strip().splitlines()), "")
    forms = (secret, unquote(secret), unquote_plus(secret))
    words = {word for form in forms for word in re.split(r"[:/@?&=;,\s]+", form) if word}
    for word in sorted(words, key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(word)}(?!\w)", "***", text)
    passwords = {word for form in forms for match in _PASSWORD.finditer(form) for word in match.groups() if word}
    return type(error).__name__ if any(word in text for word in passwords) else text[:200]
