"""Small tables to spoil: a good one, and ways to change it."""

import gzip
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

Content = str | bytes | Callable[[Path], object]  # of a file; a function writes it itself
BASE = {"source": "sales.csv", "time": "time", "series": "shop", "target": "sales", "frequency": "1h"}
COLUMNS = ("time", "shop", "sales", "visitors", "weather", "area")


def frame(hours: int = 24, start: str = "2024-01-01") -> pd.DataFrame:
    """Two shops, one row an hour."""
    times = pd.date_range(start, periods=hours, freq="h").strftime("%Y-%m-%dT%H:%MZ")
    parts = []
    for area, shop in enumerate(("north", "south"), start=1):
        values = {"sales": [10.5 * area + hour for hour in range(hours)], "visitors": range(hours)}
        parts.append(pd.DataFrame({"time": times, "shop": shop, **values, "weather": "dry", "area": 100 * area}))
    return pd.concat(parts, ignore_index=True)


def csv(table: pd.DataFrame | None = None, separator: str = ",") -> str:
    """A table (the good one by default) as CSV."""
    return (frame() if table is None else table).to_csv(index=False, sep=separator)


def lines(*rows: str, header: str = "time,shop,sales") -> str:
    """CSV from its lines."""
    return "\n".join((header, *rows)) + "\n"


def cell(row: int, **values: Any) -> str:
    """The good table with other values in one row, counted from 1."""
    table = frame().astype(object)
    for column, value in values.items():
        table.loc[row - 1, column] = value
    return csv(table)


def column(**values: Any) -> str:
    """The good table with other columns."""
    return csv(frame().assign(**values))


def stamps(*times: str, shop: str = "north") -> str:
    """A table of these times."""
    return lines(*(f"{time},{shop},{number}" for number, time in enumerate(times)))


def wide(*rows: str, header: str = "time,north,south") -> str:
    """A table with a column a series."""
    return lines(*rows, header=header)


def hours(count: int = 24, **changes: str) -> list[str]:
    """Times from 2024-01-01 on, an hour apart; `at_3="x"` replaces the third."""
    times = [f"2024-01-01T{hour:02d}:00Z" for hour in range(count)]
    for place, time in changes.items():
        times[int(place.removeprefix("at_")) - 1] = time
    return times


def zipped(text: str, cut: int = 0) -> bytes:
    """A gzip stream, less its last bytes."""
    whole = gzip.compress(text.encode(), mtime=0)
    return whole[: len(whole) - cut]


def parquet(keep: float = 1.0, **columns: Any) -> Callable[[Path], object]:
    """Writes the good table as Parquet with other columns, or the first part of such a file."""

    def write(path: Path) -> None:
        table = pa.Table.from_pandas(frame(), preserve_index=False)
        for name, values in columns.items():
            column = values if isinstance(values, pa.Array) else pa.array(values)
            table = table.drop_columns([name]) if name in table.column_names else table
            table = table.append_column(name, column)
        pq.write_table(table, path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])

    return write


def saved(table: pd.DataFrame) -> Callable[[Path], object]:
    """Writes a table as pandas does, its index included."""
    return table.to_parquet


def repeated(value: Any) -> list[Any]:
    """One value a row of the good table."""
    return [value] * len(frame())


def database(path: Path) -> None:
    """Writes the good table as the table `sales` of an SQLite file."""
    with closing(sqlite3.connect(path)) as connection:
        frame().to_sql("sales", connection, index=False)


def query(sql: str) -> dict[str, str]:
    """A source that is a query."""
    return {"sql": sql, "uri": "env:SALES_DB"}


def write_files(place: Path, contents: Mapping[str, Content]) -> None:
    """Write files and their folders."""
    for name, content in contents.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if callable(content):
            content(path)
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
