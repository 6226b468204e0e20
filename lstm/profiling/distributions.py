"""How the values of a canonical table of any size are spread: by series, and by column and split.

DuckDB sums over all rows. Quartiles and drift come from an even sample, which is every row of a table of up to
`_SAMPLE_ROWS`. The test span is described for people to read; nothing here flows into training.
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
class _Rows:
    """The table as DuckDB is told of it: numbered columns, since it takes `Temp` and `temp` for one."""

    table: Table
    cuts: Cuts
    scratch: Path

    @property
    def names(self) -> dict[str, str]:
        return {name: f"c{number}" for number, name in enumerate(pq.read_schema(self.table.path).names)}

    @property
    def sampled(self) -> str:
        """The condition of an even sample that is the same each time."""
        every = max(1, round(self.table.rows / _SAMPLE_ROWS))
        return f"hash({self.names[SERIES]}, {self.names[TIME]}) % {every} = 0"

    def query(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement on the view `rows`, whose `split` counts from 0; NULL before the training span."""
        ends = [f"WHEN {self.names[TIME]} < TIMESTAMPTZ '{moment}Z' THEN {number}" for moment, number in self._ends]
        view = f"CREATE VIEW rows AS SELECT *, CASE {' '.join(ends)} END AS split FROM "
        view += database.from_parquet(self.table.path, list(self.names.values()))
        return database.query(self.scratch, view, statement)

    @property
    def _ends(self) -> list[tuple[np.datetime64, str]]:
        cuts = self.cuts
        return [(cuts.start, "NULL"), (cuts.validation, "0"), (cuts.test, "1"), (cuts.end, "2")]


def series_spread(table: Table, spec: DataSpec, cuts: Cuts, scratch: Path) -> pd.DataFrame:
    """One row a series, also of those that are left out of the training.

    Args:
        table: canonical.
        spec: its roles.
        cuts: its splits.
        scratch: folder to spill into.

    Returns:
        Indexed by series: `rows`, `measured` (rows with a value of every target), `first`, `last` (UTC) and `constant`
        (no target ever changes).
    """
    rows = _Rows(table, cuts, scratch)
    time, targets = rows.names[TIME], [rows.names[name] for name in spec.target]
    every = " AND ".join(f"{name} IS NOT NULL" for name in targets)
    constant = " AND ".join(f"min({name}) = max({name})" for name in targets)
    sums = f"count(*), count(*) FILTER (WHERE {every}), epoch_us(min({time})), epoch_us(max({time})), {constant}"
    name = rows.names[SERIES]
    found = rows.query(f"SELECT {name}, {sums} FROM rows GROUP BY {name} ORDER BY {name}")
    frame = pd.DataFrame(found, columns=["series", "rows", "measured", "first", "last", "constant"]).set_index("series")
    for moment in ("first", "last"):
        frame[moment] = pd.to_datetime(frame[moment].astype(np.int64), unit="us", utc=True)
    return frame.assign(constant=frame["constant"].eq(True))


def column_spread(table: Table, spec: DataSpec, cuts: Cuts, scratch: Path) -> pd.DataFrame:
    """One row a column and split, over all series together.

    Returns:
        `column`, `split`, `rows`, `count` (rows with a value), `missing` (the share of the split's rows without one,
        0 to 1), `mean`, `std` (of the population), `min`, `q25`, `median`, `q75`, `max` in the column's unit,
        `outliers` (values more than 3 × the interquartile range outside the quartiles of the training span; NaN where
        that range is 0), and the shift from the training span: `psi` and `ks`, see `distribution_shift`. A categorical
        column has no numbers but `psi`.
    """
    rows = _Rows(table, cuts, scratch)
    sample = scratch / "sample.parquet"
    columns = ", ".join(["split", *(rows.names[name] for name in spec.values)])
    chosen = f"SELECT {columns} FROM rows WHERE split IS NOT NULL AND {rows.sampled}"
    rows.query(f"COPY ({chosen}) TO {database.quote_path(sample)} (FORMAT parquet, COMPRESSION lz4)")
    frames = {name: _sampled(sample, rows.names[name], name in spec.numeric) for name in spec.values}
    # One query for all columns: DuckDB computes them side by side.
    sums = [one for name in spec.values for one in _sums(rows.names[name], name in spec.numeric, frames[name])]
    found = rows.query(f"SELECT split, count(*), {', '.join(sums)} FROM rows WHERE split IS NOT NULL GROUP BY split")
    for split, count, *figures in found:
        for place, frame in enumerate(frames.values()):
            own = figures[place * len(_SUMMED) : (place + 1) * len(_SUMMED)]
            frame.loc[split, ["rows", *_SUMMED]] = [count, *own]
    parts = [frame.assign(column=name, split=_SPLITS) for name, frame in frames.items()]
    whole = pd.concat(parts, ignore_index=True)
    return whole.assign(missing=1 - whole["count"] / whole["rows"])[["column", "split", *_FIGURES]]


_FIGURES = ["rows", "count", "missing", "mean", "std", "min", "q25", "median", "q75", "max", "outliers", "psi", "ks"]
_SUMMED = ["count", "mean", "std", "min", "max", "outliers"]
_QUARTILES = ["q25", "median", "q75"]


def _sampled(sample: Path, column: str, numeric: bool) -> pd.DataFrame:
    """What the sample tells of one column: quartiles and drift, a row a split."""
    values = pq.read_table(sample, columns=["split", column]).to_pandas().dropna()
    codes = values[column].to_numpy(np.float64) if numeric else pd.factorize(values[column])[0].astype(np.float64)
    parts = [codes[values["split"].to_numpy() == number] for number in range(len(_SPLITS))]
    frame = pd.DataFrame(np.nan, index=range(len(_SPLITS)), columns=_FIGURES)
    frame[["rows", "count"]] = 0.0
    for number, part in enumerate(parts):
        if numeric and len(part):
            frame.loc[number, _QUARTILES] = np.quantile(part, [0.25, 0.5, 0.75])
        for measure, moved in distribution_shift(parts[0], part, numeric).items() if number else ():
            frame.loc[number, measure] = moved
    return frame


def _sums(column: str, numeric: bool, sampled: pd.DataFrame) -> list[str]:
    """What `_SUMMED` is over all rows of a split."""
    if not numeric:
        return [f"count({column})", *["NULL"] * (len(_SUMMED) - 1)]
    low, _, high = sampled.loc[0, _QUARTILES].to_numpy(float)
    margin = FENCE * (high - low)
    far = f"{column} < {low - margin} OR {column} > {high + margin}"
    outside = f"count(*) FILTER (WHERE {far})" if margin > 0 else "NULL"
    return [*(f"{function}({column})" for function in ("count", "avg", "stddev_pop", "min", "max")), outside]
