"""DuckDB for sums over what does not fit into memory: straight from Parquet files, spilling to disk."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from lstm.errors import DataError

_MEMORY = ("192MB", "768MB", "3GB")  # what it may hold before it writes to disk; more where that is not enough
_THREADS = 1  # sums in one order: the same to the last bit each time


def query(scratch: Path, *statements: str) -> list[tuple[Any, ...]]:
    """The rows of the last statement.

    Args:
        scratch: folder to spill into.
        statements: SQL, done one after the other.

    Raises:
        DataError: there is not enough memory.
    """
    for allowance in _MEMORY:
        settings: dict[str, Any] = {
            "memory_limit": allowance,
            "temp_directory": str(scratch),
            "threads": _THREADS,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=settings) as database, suppress(duckdb.OutOfMemoryException):
            for statement in statements:
                database.execute(statement)
            return database.fetchall()
    raise DataError(f"the table can't be summed in {_MEMORY[-1]} of memory. Name fewer columns or series.")


def from_parquet(path: Path, columns: Sequence[str] = ()) -> str:
    """A Parquet file in a FROM clause, its columns under other names: DuckDB takes `Temp` and `temp` for one."""
    return f"read_parquet({quote_path(path)})" + (f" AS source({', '.join(columns)})" if columns else "")


def quote_path(path: Path) -> str:
    """A path as SQL writes text."""
    text = str(path).replace("'", "''")
    return f"'{text}'"
