"""What normalisers and encoders learn from the training span of a canonical table of any size."""

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

_QUARTILE_ROWS = 5_000_000  # over more rows, quartiles over all series come from an even sample of about so many


def compute_training_statistics(
    path: Path,
    columns: Sequence[str],
    cuts: Cuts,
    scratch: Path,
    together: str | None,
    quartiles: bool,
    logs: Collection[str] = (),
) -> Statistics:
    """The spread of measured values, of the rows in [cuts.start, cuts.validation) alone.

    Args:
        path: canonical table.
        columns: numeric ones.
        cuts: the training span.
        scratch: folder to spill into.
        together: None: each series by itself; else the name for all of them.
        quartiles: whether to take them.
        logs: columns whose logarithm is meant.

    Returns:
        Arrays of (series, columns), in order of the series' names.

    Raises:
        DataError: a value of `logs` is not above 0.
    """
    names = _names(path)
    _check_logarithms(path, logs, cuts, scratch)
    group = names[SERIES] if together is None else "NULL"
    sums = [f"{function}({names[column]})" for column in columns for function in ("avg", "stddev_pop", "min", "max")]
    found = database.query(scratch, _training(path, cuts, logs), _grouped(group, sums, "true"))
    mean, std, low, high = np.moveaxis(_array(found).reshape(len(found), len(columns), 4), 2, 0)
    thirds = None
    if quartiles:
        wanted = [f"quantile_cont({names[column]}, {level})" for level in (0.25, 0.5, 0.75) for column in columns]
        sampled = "true" if together is None else _sample(path, cuts, scratch)
        rows = database.query(scratch, _training(path, cuts, logs), _grouped(group, wanted, sampled))
        thirds = np.moveaxis(_array(rows).reshape(len(found), 3, -1), 1, 0)
    series = tuple(row[0] if together is None else together for row in found)
    return Statistics(mean, std, low, high, thirds, series)


def frequent_categories(path: Path, column: str, cuts: Cuts, scratch: Path, most: int) -> list[str]:
    """The categories of a column in the training span, the `most` frequent ones, in alphabetical order."""
    name = _names(path)[column]
    counted = f"SELECT {name}, count(*) AS times FROM rows WHERE {name} IS NOT NULL GROUP BY {name}"
    found = database.query(scratch, _training(path, cuts), f"{counted} ORDER BY times DESC, {name} LIMIT {most}")
    return sorted(level for level, _ in found)


def _names(path: Path) -> dict[str, str]:
    return {name: f"c{number}" for number, name in enumerate(pq.read_schema(path).names)}


def _check_logarithms(path: Path, columns: Collection[str], cuts: Cuts, scratch: Path) -> None:
    names = _names(path)
    for column in columns:
        value, series, time = names[column], names[SERIES], names[TIME]
        first = f"SELECT {series}, epoch_us({time}), {value} FROM rows WHERE {value} <= 0 ORDER BY ALL LIMIT 1"
        for name, moment, found in database.query(scratch, _training(path, cuts), first):
            raise log_domain_error(name, column, found, pd.Timestamp(moment, unit="us"))


def _training(path: Path, cuts: Cuts, logs: Collection[str] = ()) -> str:
    """A view of the training span, of some columns the logarithms."""
    names = _names(path)
    time = names[TIME]
    replaced = ", ".join(f"ln({names[column]}) AS {names[column]}" for column in logs)
    columns = f"* REPLACE ({replaced})" if replaced else "*"
    return (
        f"CREATE VIEW rows AS SELECT {columns} FROM {database.from_parquet(path, list(names.values()))} "
        f"WHERE {time} >= TIMESTAMPTZ '{cuts.start}Z' AND {time} < TIMESTAMPTZ '{cuts.validation}Z'"
    )


def _grouped(group: str, sums: Sequence[str], where: str) -> str:
    return f"SELECT {group} AS name, {', '.join(sums)} FROM rows WHERE {where} GROUP BY name ORDER BY name"


def _array(found: list[tuple[Any, ...]]) -> np.ndarray:
    return np.array([row[1:] for row in found], np.float64)


def _sample(path: Path, cuts: Cuts, scratch: Path) -> str:
    """The condition of an even sample that is the same each time."""
    names = _names(path)
    ((count,),) = database.query(scratch, _training(path, cuts), "SELECT count(*) FROM rows")
    return f"hash({names[SERIES]}, {names[TIME]}) % {max(1, round(count / _QUARTILE_ROWS))} = 0"
