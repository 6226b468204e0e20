"""Descriptive statistics of a canonical table of any size: by series, and by column and split.

DuckDB aggregates all rows. Quartiles and shifts come from an even sample, which is the whole table up to
`_SAMPLE_ROWS` rows. The test span is described for people to read; nothing here is used in training.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

from lstm.config.data import DataSpec
from lstm.data import database
from lstm.data.ingest import Table
from lstm.data.rows import SERIES, TIME
from lstm.data.splits import Cuts
from lstm.metrics.shift import distribution_shift
from lstm.profiling.coverage import FENCE

_SAMPLE_ROWS = 500_000
_SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class _TableView:
    """The table as a DuckDB view. Columns are numbered, since DuckDB ignores the case of names."""

    table: Table
    cuts: Cuts
    scratch: Path

    @property
    def names(self) -> dict[str, str]:
        return {name: f"c{number}" for number, name in enumerate(pq.read_schema(self.table.path).names)}

    @property
    def sampled(self) -> str:
        """SQL condition of an even, repeatable sample."""
        every = max(1, round(self.table.rows / _SAMPLE_ROWS))
        return f"hash({self.names[SERIES]}, {self.names[TIME]}) % {every} = 0"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on the view `rows`, whose column `split` counts from 0; NULL before the training span."""
        ends = [f"WHEN {self.names[TIME]} < TIMESTAMPTZ '{moment}Z' THEN {number}" for moment, number in self._ends]
        view = f"CREATE VIEW rows AS SELECT *, CASE {' '.join(ends)} END AS split FROM "
        view += database.from_parquet(self.table.path, list(self.names.values()))
        return database.query(self.scratch, view, statement)

    @property
    def _ends(self) -> list[tuple[np.datetime64, str]]:
        cuts = self.cuts
        return [(cuts.start, "NULL"), (cuts.validation, "0"), (cuts.test, "1"), (cuts.end, "2")]


def describe_series(table: Table, spec: DataSpec, cuts: Cuts, scratch: Path) -> pd.DataFrame:
    """Return one row per series, also for series that are left out of training.

    Args:
        table: canonical.
        spec: roles of its columns.
        cuts: its splits.
        scratch: folder for DuckDB's temporary files.

    Returns:
        Indexed by series: `rows`, `measured` (rows with a value of every target), `first`, `last` (UTC) and `constant`
        (no target ever changes).
    """
    view = _TableView(table, cuts, scratch)
    time, targets = view.names[TIME], [view.names[name] for name in spec.target]
    measured = " AND ".join(f"{name} IS NOT NULL" for name in targets)
    constant = " AND ".join(f"min({name}) = max({name})" for name in targets)
    sums = f"count(*), count(*) FILTER (WHERE {measured}), epoch_us(min({time})), epoch_us(max({time})), {constant}"
    name = view.names[SERIES]
    rows = view.query(f"SELECT {name}, {sums} FROM rows GROUP BY {name} ORDER BY {name}")
    frame = pd.DataFrame(rows, columns=["series", "rows", "measured", "first", "last", "constant"]).set_index("series")
    for moment in ("first", "last"):
        frame[moment] = pd.to_datetime(frame[moment].astype(np.int64), unit="us", utc=True)
    return frame.assign(constant=frame["constant"].eq(True))


def describe_columns(table: Table, spec: DataSpec, cuts: Cuts, scratch: Path) -> pd.DataFrame:
    """Return one row per column and split, over all series.

    Args:
        table: canonical.
        spec: roles of its columns.
        cuts: its splits.
        scratch: folder for the sample and DuckDB's temporary files.

    Returns:
        `column`, `split`, `rows`, `count` (rows with a value), `missing` (the share of the split's rows without one,
        0 to 1), `mean`, `std` (of the population), `min`, `q25`, `median`, `q75`, `max` in the column's unit,
        `outliers` (values more than 3 × the interquartile range outside the quartiles of the training span; NaN where
        that range is 0), and the shift from the training span: `psi` and `ks`, see `distribution_shift`. A categorical
        column has only `psi`.
    """
    view = _TableView(table, cuts, scratch)
    sample = scratch / "sample.parquet"
    columns = ", ".join(["split", *(view.names[name] for name in spec.values)])
    sampled_rows = f"SELECT {columns} FROM rows WHERE split IS NOT NULL AND {view.sampled}"
    view.query(f"COPY ({sampled_rows}) TO {database.quote_path(sample)} (FORMAT parquet, COMPRESSION lz4)")
    frames = {name: _sample_statistics(sample, view.names[name], name in spec.numeric) for name in spec.values}
    # One query for all columns: DuckDB computes them in parallel.
    aggregates = [
        aggregate
        for name in spec.values
        for aggregate in _aggregates(view.names[name], name in spec.numeric, frames[name])
    ]
    rows = view.query(
        f"SELECT split, count(*), {', '.join(aggregates)} FROM rows WHERE split IS NOT NULL GROUP BY split"
    )
    for split, count, *values in rows:
        for number, frame in enumerate(frames.values()):
            column_values = values[number * len(_AGGREGATED) : (number + 1) * len(_AGGREGATED)]
            frame.loc[split, ["rows", *_AGGREGATED]] = [count, *column_values]
    parts = [frame.assign(column=name, split=_SPLITS) for name, frame in frames.items()]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(missing=1 - whole["count"] / whole["rows"])[["column", "split", *_STATISTICS]]


_STATISTICS = ["rows", "count", "missing", "mean", "std", "min", "q25", "median", "q75", "max", "outliers", "psi", "ks"]
_AGGREGATED = ["count", "mean", "std", "min", "max", "outliers"]
_QUARTILES = ["q25", "median", "q75"]


def _sample_statistics(sample: Path, column: str, numeric: bool) -> pd.DataFrame:
    """Return quartiles and shift of one column, one row per split; the other statistics are NaN."""
    values = pq.read_table(sample, columns=["split", column]).to_pandas().dropna()
    codes = values[column].to_numpy(np.float64) if numeric else pd.factorize(values[column])[0].astype(np.float64)
    parts = [codes[values["split"].to_numpy() == number] for number in range(len(_SPLITS))]
    frame = pd.DataFrame(np.nan, index=range(len(_SPLITS)), columns=_STATISTICS)
    frame[["rows", "count"]] = 0.0
    for number, part in enumerate(parts):
        if numeric and len(part):
            frame.loc[number, _QUARTILES] = np.quantile(part, [0.25, 0.5, 0.75])
        for measure, size in distribution_shift(parts[0], part, numeric).items() if number else ():
            frame.loc[number, measure] = size
    return frame


def _aggregates(column: str, numeric: bool, sampled: pd.DataFrame) -> list[str]:
    """Return the SQL of `_AGGREGATED`, over all rows of a split."""
    if not numeric:
        return [f"count({column})", *["NULL"] * (len(_AGGREGATED) - 1)]
    low, _, high = sampled.loc[0, _QUARTILES].to_numpy(float)
    margin = FENCE * (high - low)
    far_out = f"{column} < {low - margin} OR {column} > {high + margin}"
    outliers = f"count(*) FILTER (WHERE {far_out})" if margin > 0 else "NULL"
    return [*(f"{function}({column})" for function in ("count", "avg", "stddev_pop", "min", "max")), outliers]
