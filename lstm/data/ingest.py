"""From a source of any size to the canonical table as Parquet, in a bounded amount of memory.

Chunks are checked as they come, and sorted on disk unless they came in order; then the sorted rows are settled
(resampled, merged, held against the grid) piece by piece.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from lstm.config.data import DataSpec
from lstm.data.fingerprint import Fingerprint
from lstm.data.rows import ROW, SERIES, TIME, RowReader
from lstm.data.segments import check_matched
from lstm.data.sorting import sample_keys, sort_in_buckets, sort_rows
from lstm.data.table import INFER_SERIES, Canonicalizer, resolve_frequency
from lstm.errors import ConfigError, DataError
from lstm.scratch import scratch_folder
from lstm.sources.row_filter import RowFilter
from lstm.sources.source import CHUNK_ROWS, Source, open_source

_INFER_ROWS = 1_000_000  # that a frequency is inferred from, at most
PIECE_ROWS = 250_000  # rows of a sorted table that are in memory at a time
_WIDE_ROWS = 1_000_000  # of the long table that a chunk of a wide one becomes
_CODE = "table/4"  # changes when the same source makes another table


@dataclass(frozen=True)
class Table:
    """A canonical table on disk."""

    path: Path
    sha256: str  # of the content, not of the file
    rows: int
    series: int
    first: str  # time of the first row, ISO 8601, UTC
    last: str  # of the last one with a target: rows ahead are no part of the span
    frequency: str  # as configured, or as inferred
    notices: tuple[str, ...]  # what was changed

    def pieces(self, rows: int = PIECE_ROWS) -> Iterator[pd.DataFrame]:
        """The table in order, at most `rows` rows at a time."""
        return parquet_pieces(self.path, rows)

    def read_rows(
        self, names: Sequence[str] | None = None, since: np.datetime64 | None = None, until: np.datetime64 | None = None
    ) -> pd.DataFrame:
        """The rows of some series (all by default) in a span [since, until) of UTC."""
        conditions: list[tuple[str, str, Any]] = [] if names is None else [(SERIES, "in", list(names))]
        conditions += [] if since is None else [(TIME, ">=", pd.Timestamp(since, tz="UTC"))]
        conditions += [] if until is None else [(TIME, "<", pd.Timestamp(until, tz="UTC"))]
        return pd.read_parquet(self.path, filters=conditions or None)


def ingest_table(spec: DataSpec, work: Path, downloads: Path) -> Table:
    """Read, check and store; what is in `work` already is not read again, as long as the source's bytes are the same.

    Args:
        spec: what to read, and what its columns mean.
        work: folder for the table.
        downloads: folder for what comes over the network.

    Raises:
        DataError: the source or its content breaks a rule. Nothing is left behind then.
        ConfigError: the data are partitioned: each segment has a table of its own.
    """
    if spec.partition_by:
        key = spec.partition_by[0]
        raise ConfigError(
            f"data.partition_by makes a model for each segment, and this is about one: name it, such as data.where: "
            f"{{{key}: VALUE}}, and leave data.partition_by out (--set data.partition_by=[])."
        )
    source = open_source(spec, downloads)
    known = work / f"source-{_key(source, spec)}.json" if source.sha256 else None
    if known is not None and (table := _read_index(known)) is not None:
        return table
    try:
        with scratch_folder("ingest", work) as scratch:
            table = _stored(source, spec, scratch, work)
        if known is not None:
            _write_index(table, known)
    except OSError as error:  # of the disk: the source's own are told by then
        reason = error.strerror or str(error)
        raise DataError(f"{work}: the table can't be kept there ({reason}). Make room, or set LSTM_HOME.") from None
    return table


def _key(source: Source, spec: DataSpec) -> str:
    """What the table depends on: the bytes, and how they are read; not on gaps and calendar, which come later."""
    from hashlib import sha256

    parts = spec.model_dump(mode="json", exclude={"source", "sha256", "missing", "calendar"})
    text = json.dumps([_CODE, source.sha256, parts], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def _stored(source: Source, spec: DataSpec, scratch: Path, work: Path) -> Table:
    rows = _sorted_rows(source, spec, scratch)
    head = _head(rows, spec)
    if not head:
        raise DataError(f"{source.name}: holds no rows. Name a source with data.")
    spec = resolve_frequency(spec, pd.concat(head), source.name)
    canonicalizer, digest = Canonicalizer(spec, source.name), Fingerprint()
    made = scratch / "table.parquet"
    with _Writer(made) as writer:
        for piece in canonicalizer.process(chain(head, rows)):
            digest.update(piece)
            writer.write(piece)
    canonicalizer.check_complete()
    sha256 = digest.hexdigest()
    path = work / f"table-{sha256[:16]}.parquet"
    if not _is_whole(path, canonicalizer.rows):
        os.replace(made, path)
    return Table(
        path=path,
        sha256=sha256,
        rows=canonicalizer.rows,
        series=canonicalizer.series,
        first=canonicalizer.first.isoformat(),
        last=canonicalizer.last.isoformat(),
        frequency=spec.frequency,
        notices=canonicalizer.notices,
    )


def _head(rows: Iterator[pd.DataFrame], spec: DataSpec) -> list[pd.DataFrame]:
    """The first pieces: one, or as many as the frequency is inferred from."""
    head: list[pd.DataFrame] = []
    for piece in rows:
        head.append(piece)
        seen = sum(map(len, head))
        if spec.frequency != "infer" or seen >= _INFER_ROWS or pd.concat(head)[SERIES].nunique() > INFER_SERIES:
            break
    return head


def _sorted_rows(source: Source, spec: DataSpec, scratch: Path) -> Iterator[pd.DataFrame]:
    """Checked rows in order of series and time, in pieces."""
    chunks = _checked_rows(source, spec)
    first, second = next(chunks, None), next(chunks, None)
    if first is None or second is None:
        if first is not None:
            yield sort_rows(first)
        return
    path, ordered, before = scratch / "rows.parquet", True, ("", pd.Timestamp.min.tz_localize("UTC"))
    sample: list[tuple[str, Any]] = []
    written = 0
    with _Writer(path) as writer:
        for chunk in chain((first, second), chunks):
            rows = sort_rows(chunk)
            ordered = ordered and before <= _key_of(rows, 0) and bool((rows[ROW] == chunk[ROW]).all())
            before = _key_of(rows, -1)
            sample += sample_keys(rows)
            written += len(rows)
            writer.write(rows)
    if ordered:
        yield from parquet_pieces(path, PIECE_ROWS)
    else:
        yield from sort_in_buckets(_row_groups(path), sample, written, scratch)


def _checked_rows(source: Source, spec: DataSpec) -> Iterator[pd.DataFrame]:
    """Chunks of checked rows, none of them empty."""
    chosen = RowFilter(spec.where) if spec.where else None
    reader = RowReader(spec, source.name, source.columns, chosen)
    columns = None if spec.wide == "all" else [spec.time, *spec.series, *spec.wide, *_values(spec), *spec.where]
    text = (spec.time, *spec.series, *spec.categorical, *spec.where)  # 007 is not 7, in whichever chunk it comes
    most = _wide_rows(source, spec) if spec.wide else CHUNK_ROWS
    for chunk in source.chunks(columns, text, most, chosen.wanted if chosen else {}):
        rows = reader.read(chunk)
        if len(rows):
            yield rows
    if chosen is not None:
        check_matched(source, chosen)


def _wide_rows(source: Source, spec: DataSpec) -> int:
    """A row of a wide table becomes as many as it has series."""
    series = len(source.columns()) if spec.wide == "all" else len(spec.wide)
    return max(1, _WIDE_ROWS // max(1, series))


def _row_groups(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path, pre_buffer=False) as file:
        for number in range(file.num_row_groups):
            yield file.read_row_group(number, use_threads=False)


def _values(spec: DataSpec) -> tuple[str, ...]:
    return (*(() if spec.wide else spec.target), *spec.observed, *spec.known, *spec.static)


def _key_of(rows: pd.DataFrame, row: int) -> tuple[str, pd.Timestamp]:
    return rows[SERIES].iloc[row], rows[TIME].iloc[row]


def parquet_pieces(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """The rows of a Parquet file that this module wrote, in order, at most `rows` at a time."""
    with pq.ParquetFile(path, buffer_size=1 << 20, pre_buffer=False) as file:
        for batch in file.iter_batches(batch_size=rows, use_threads=False):
            yield batch.to_pandas()


class _Writer:
    """A Parquet file, one row group a piece."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: pq.ParquetWriter | None = None

    def __enter__(self) -> "_Writer":
        return self

    def write(self, rows: pd.DataFrame) -> None:
        table = pa.table({str(name): _arrow(rows[name]) for name in rows.columns})
        if self._file is None:
            text = [field.name for field in table.schema if pa.types.is_string(field.type)]
            self._file = pq.ParquetWriter(self.path, table.schema, compression="lz4", use_dictionary=text)
        self._file.write_table(table)

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()


def _arrow(column: pd.Series) -> pa.Array:
    """Of the same type in every piece, also where a piece of a text column is empty."""
    if column.name == TIME:
        return pa.array(column.to_numpy("datetime64[us]"), pa.timestamp("us", "UTC"))
    if pd.api.types.is_numeric_dtype(column):
        return pa.array(column.to_numpy(), from_pandas=True)
    return pa.array(column, pa.string(), from_pandas=True)


def _write_index(table: Table, path: Path) -> None:
    beside = path.with_suffix(f".{os.getpid()}")
    beside.write_text(json.dumps({**asdict(table), "path": table.path.name}), encoding="utf-8")
    os.replace(beside, path)


def _read_index(path: Path) -> Table | None:
    """The table that an index names, if both are there and whole."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        table = Table(**{**values, "path": path.parent / values["path"], "notices": tuple(values["notices"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return table if _is_whole(table.path, table.rows) else None


def _is_whole(path: Path, rows: int) -> bool:
    with suppress(OSError):
        os.utime(path)  # in use: tables that nobody has used for long are removed some day
    try:
        return bool(pq.read_metadata(path).num_rows == rows)
    except (OSError, pa.ArrowException):
        return False
