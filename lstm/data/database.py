"""Aggregation with DuckDB for tables that don't fit into memory: reads Parquet files, spills to disk."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb

from lstm.errors import DataError

_MEMORY_LIMITS = ("192MB", "768MB", "3GB")  # before DuckDB spills; the next one is tried when it runs out
_THREADS = 1  # a fixed order of summation makes results reproducible to the bit


def query(scratch: Path, *statements: str) -> list[tuple[Any, ...]]:
    """Run SQL statements and return the rows of the last one.

    Args:
        scratch: folder to spill into.
        statements: SQL, run one after the other.

    Raises:
        DataError: the largest memory limit is not enough.
    """
    for memory_limit in _MEMORY_LIMITS:
        settings: dict[str, Any] = {
            "memory_limit": memory_limit,
            "temp_directory": str(scratch),
            "threads": _THREADS,
            "preserve_insertion_order": False,
        }
        with duckdb.connect(config=settings) as database, suppress(duckdb.OutOfMemoryException):
            for statement in statements:
                database.execute(statement)
            return database.fetchall()
    raise DataError(f"the table can't be aggregated in {_MEMORY_LIMITS[-1]} of memory. Name fewer columns or series.")


def from_parquet(path: Path, columns: Sequence[str] = ()) -> str:
    """Return the SQL relation of a Parquet file, with columns renamed: DuckDB can't tell `Temp` from `temp`."""
    return f"read_parquet({quote_path(path)})" + (f" AS source({', '.join(columns)})" if columns else "")


def quote_path(path: Path) -> str:
    """Return a path as an SQL string literal."""
    text = str(path).replace("'", "''")
    return f"'{text}'"
