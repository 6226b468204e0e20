"""Sums over a canonical table of any size: SQL by DuckDB, straight from the Parquet file."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow.parquet as pq

from lstm.data.normalize import Statistics
from lstm.data.rows import SERIES, TIME
from lstm.data.splits import Cuts

_MEMORY = "256MB"  # what DuckDB may hold before it writes to disk
_QUARTILE_ROWS = 5_000_000  # over more rows, quartiles over all series come from an even sample of about so many


@contextmanager
def connected(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that spills into `scratch`."""
    settings: dict[str, Any] = {
        "memory_limit": _MEMORY,
        "temp_directory": str(scratch),
        "preserve_insertion_order": False,
    }
    with duckdb.connect(config=settings) as database:
        yield database


@contextmanager
def training_rows(path: Path, cuts: Cuts, scratch: Path) -> Iterator[tuple[duckdb.DuckDBPyConnection, dict[str, str]]]:
    """A view `rows` of a canonical table's training span [start, validation), and its column's names there.

    DuckDB takes `Temp` and `temp` for the same name, so every column goes by its number.
    """
    names = {name: f"c{number}" for number, name in enumerate(pq.read_schema(path).names)}
    time = names[TIME]
    with connected(scratch) as database:
        database.execute(
            f"CREATE VIEW rows AS SELECT * FROM read_parquet('{path}') AS source({', '.join(names.values())}) "
            f"WHERE {time} >= TIMESTAMPTZ '{cuts.start}Z' AND {time} < TIMESTAMPTZ '{cuts.validation}Z'"
        )
        yield database, names


def training_statistics(
    path: Path, columns: Sequence[str], cuts: Cuts, scratch: Path, together: str | None, quartiles: bool
) -> Statistics:
    """What normalisers need to know, of the rows in [cuts.start, cuts.validation) alone.

    Args:
        path: canonical table.
        columns: numeric ones.
        cuts: the training span.
        scratch: folder that DuckDB may spill into.
        together: None: each series by itself; else the name for all of them.
        quartiles: whether to take them.

    Returns:
        Arrays of (series, columns), in order of the series' names.
    """
    with training_rows(path, cuts, scratch) as (database, names):
        sums = [
            f"avg({names[column]}), stddev_pop({names[column]}), min({names[column]}), max({names[column]})"
            for column in columns
        ]
        group = names[SERIES] if together is None else "NULL"
        found = _rows(database, group, sums, "true")
        wanted = [f"quantile_cont({names[column]}, {level})" for level in (0.25, 0.5, 0.75) for column in columns]
        sampled = "true" if together is None else _sample(database, names)
        thirds = _rows(database, group, wanted, sampled) if quartiles else None
    mean, std, low, high = np.moveaxis(_array(found).reshape(len(found), len(columns), 4), 2, 0)
    return Statistics(
        mean,
        std,
        low,
        high,
        quartiles=None if thirds is None else np.moveaxis(_array(thirds).reshape(len(found), 3, -1), 1, 0),
        names=tuple(row[0] if together is None else together for row in found),
    )


def _rows(database: duckdb.DuckDBPyConnection, group: str, sums: Sequence[str], where: str) -> list[tuple[Any, ...]]:
    return database.execute(
        f"SELECT {group} AS name, {', '.join(sums)} FROM rows WHERE {where} GROUP BY name ORDER BY name"
    ).fetchall()


def _array(found: list[tuple[Any, ...]]) -> np.ndarray:
    return np.array([row[1:] for row in found], np.float64)


def _sample(database: duckdb.DuckDBPyConnection, names: dict[str, str]) -> str:
    """The condition of an even sample that is the same each time."""
    counted = database.execute("SELECT count(*) FROM rows").fetchone()
    every = max(1, round((counted[0] if counted else 0) / _QUARTILE_ROWS))
    return f"hash({names[SERIES]}, {names[TIME]}) % {every} = 0"


def training_levels(path: Path, columns: Sequence[str], cuts: Cuts, scratch: Path, most: int) -> dict[str, list[str]]:
    """The categories of each column in the training span, the `most` frequent ones, in alphabetical order."""
    with training_rows(path, cuts, scratch) as (database, names):
        return {column: _levels(database, names[column], most) for column in columns}


def _levels(database: duckdb.DuckDBPyConnection, column: str, most: int) -> list[str]:
    counted = f"SELECT {column} AS level, count(*) AS times FROM rows WHERE {column} IS NOT NULL GROUP BY level"
    return sorted(
        level for level, _ in database.execute(f"{counted} ORDER BY times DESC, level LIMIT {most}").fetchall()
    )
