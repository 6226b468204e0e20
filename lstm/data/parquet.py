"""Canonical tables and checked rows as Parquet files."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lstm.data.rows import TIME


class FrameWriter:
    """Writes frames with the same columns to a Parquet file, one row group for each frame."""

    def __init__(self, path: Path) -> None:
        """Write to `path`; the file is created with the first frame."""
        self.path = path
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "FrameWriter":
        """Return self."""
        return self

    def write(self, rows: pd.DataFrame) -> None:
        """Append a frame."""
        table = pa.table({str(name): _to_arrow(rows[name]) for name in rows.columns})
        if self._file is None:
            text = [field.name for field in table.schema if pa.types.is_string(field.type)]
            self._file = pq.ParquetWriter(self.path, table.schema, compression="lz4", use_dictionary=text)
        self._file.write_table(table)

    def __exit__(self, *_: object) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()


def _to_arrow(column: pd.Series) -> pa.Array:
    """Convert a column to an Arrow type that doesn't depend on its values, even if it is empty."""
    if column.name == TIME:
        return pa.array(column.to_numpy("datetime64[us]"), pa.timestamp("us", "UTC"))
    if pd.api.types.is_numeric_dtype(column):
        return pa.array(column.to_numpy(), from_pandas=True)
    return pa.array(column, pa.string(), from_pandas=True)


def read_pieces(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Yield the rows of a file in order, at most `rows` at a time."""
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            yield batch.to_pandas()


def read_row_groups(path: Path) -> Iterator[pa.Table]:
    """Yield the row groups of a file."""
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, use_threads=False)


def is_complete(path: Path, rows: int) -> bool:
    """Return whether the file exists and has this number of rows."""
    try:
        return bool(pq.read_metadata(path).num_rows == rows)
    except (OSError, pa.ArrowException):
        return False
