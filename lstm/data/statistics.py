"""Statistics and categories of the training span, for canonical tables of any size."""

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lstm.data import database
from lstm.data.normalize import Statistics
from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import log_domain_error
from lstm.data.splits import Cuts

_QUARTILE_ROWS = 5_000_000  # quartiles over all series come from a sample of about so many rows


def compute_training_statistics(
    path: Path,
    columns: Sequence[str],
    cuts: Cuts,
    scratch: Path,
    pool_name: str | None,
    quartiles: bool,
    logs: Collection[str] = (),
) -> Statistics:
    """Compute statistics of the rows in [cuts.start, cuts.validation).

    Args:
        path: of the canonical table.
        columns: numeric columns.
        cuts: the training span.
        scratch: folder to spill into.
        pool_name: None: per series; else over all series, under this name.
        quartiles: whether to compute them.
        logs: columns of which the statistics are those of the logarithm.

    Returns:
        Arrays (series, columns), in order of the series' names.

    Raises:
        DataError: a value in a column of `logs` is not above 0.
    """
    names = _sql_names(path)
    _check_logarithms(path, logs, cuts, scratch)
    group = names[SERIES] if pool_name is None else "NULL"
    aggregates = [
        f"{function}({names[column]})" for column in columns for function in ("avg", "stddev_pop", "min", "max")
    ]
    rows = database.query(scratch, _training_view(path, cuts, logs), _group_query(group, aggregates, "true"))
    mean, std, low, high = np.moveaxis(_to_array(rows).reshape(len(rows), len(columns), 4), 2, 0)
    quartile_values = None
    if quartiles:
        aggregates = [f"quantile_cont({names[column]}, {level})" for level in (0.25, 0.5, 0.75) for column in columns]
        where = "true" if pool_name is None else _sample_condition(path, cuts, scratch)
        quartile_rows = database.query(
            scratch, _training_view(path, cuts, logs), _group_query(group, aggregates, where)
        )
        quartile_values = np.moveaxis(_to_array(quartile_rows).reshape(len(rows), 3, -1), 1, 0)
    series = tuple(row[0] if pool_name is None else pool_name for row in rows)
    return Statistics(mean, std, low, high, quartile_values, series)


def frequent_categories(path: Path, column: str, cuts: Cuts, scratch: Path, limit: int) -> list[str]:
    """Return the `limit` most frequent categories of a column in the training span, sorted by name."""
    name = _sql_names(path)[column]
    counts = f"SELECT {name}, count(*) AS times FROM rows WHERE {name} IS NOT NULL GROUP BY {name}"
    rows = database.query(scratch, _training_view(path, cuts), f"{counts} ORDER BY times DESC, {name} LIMIT {limit}")
    return sorted(category for category, _ in rows)


def _sql_names(path: Path) -> dict[str, str]:
    """Return the column names in SQL, which are safe to use unquoted."""
    return {name: f"c{number}" for number, name in enumerate(pq.read_schema(path).names)}


def _check_logarithms(path: Path, columns: Collection[str], cuts: Cuts, scratch: Path) -> None:
    names = _sql_names(path)
    for column in columns:
        value, series, time = names[column], names[SERIES], names[TIME]
        first = f"SELECT {series}, epoch_us({time}), {value} FROM rows WHERE {value} <= 0 ORDER BY ALL LIMIT 1"
        for name, time_us, number in database.query(scratch, _training_view(path, cuts), first):
            raise log_domain_error(name, column, number, pd.Timestamp(time_us, unit="us"))


def _training_view(path: Path, cuts: Cuts, logs: Collection[str] = ()) -> str:
    """Return the SQL of a view of the training span, with the logarithms of some columns."""
    names = _sql_names(path)
    time = names[TIME]
    logarithms = ", ".join(f"ln({names[column]}) AS {names[column]}" for column in logs)
    columns = f"* REPLACE ({logarithms})" if logarithms else "*"
    return (
        f"CREATE VIEW rows AS SELECT {columns} FROM {database.from_parquet(path, list(names.values()))} "
        f"WHERE {time} >= TIMESTAMPTZ '{cuts.start}Z' AND {time} < TIMESTAMPTZ '{cuts.validation}Z'"
    )


def _group_query(group: str, aggregates: Sequence[str], where: str) -> str:
    return f"SELECT {group} AS name, {', '.join(aggregates)} FROM rows WHERE {where} GROUP BY name ORDER BY name"


def _to_array(rows: list[tuple[Any, ...]]) -> np.ndarray:
    return np.array([row[1:] for row in rows], np.float64)


def _sample_condition(path: Path, cuts: Cuts, scratch: Path) -> str:
    """Return the SQL condition of a deterministic sample of about `_QUARTILE_ROWS` rows."""
    names = _sql_names(path)
    ((count,),) = database.query(scratch, _training_view(path, cuts), "SELECT count(*) FROM rows")
    return f"hash({names[SERIES]}, {names[TIME]}) % {max(1, round(count / _QUARTILE_ROWS))} = 0"
