"""From a source of any size to the canonical table as Parquet, in a bounded amount of memory.

Chunks of the source are checked, and sorted on disk unless they come in order. The sorted rows are then resampled,
merged and checked against the grid, piece by piece.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstm.atomic import write_atomic
from lstm.config.data import DataSpec
from lstm.data.canonicalizer import Canonicalizer
from lstm.data.fingerprint import Fingerprint
from lstm.data.parquet import FrameWriter, is_complete, read_pieces, read_row_groups
from lstm.data.rows import ROW, SERIES, TIME, RowReader
from lstm.data.segments import check_matched
from lstm.data.sorting import sample_keys, sort_in_buckets, sort_rows
from lstm.data.table import INFER_SERIES, resolve_frequency
from lstm.errors import ConfigError, DataError
from lstm.scratch import scratch_folder
from lstm.sources.row_filter import RowFilter
from lstm.sources.source import CHUNK_ROWS, Source, open_source

_INFER_ROWS = 1_000_000  # at most so many rows are read to infer a frequency
PIECE_ROWS = 250_000  # rows of a sorted table that are in memory at a time
_WIDE_ROWS = 1_000_000  # rows of the long table that one chunk of a wide table becomes
_CODE = "table/4"  # change it when the same source gives another table


@dataclass(frozen=True)
class Table:
    """A canonical table on disk."""

    path: Path
    sha256: str  # fingerprint: of the content, not of the file
    rows: int
    series: int
    first: str  # time of the first row, ISO 8601, UTC
    last: str  # time of the last row with a target; later rows hold known columns only
    frequency: str  # as configured or inferred
    notices: tuple[str, ...]  # what was changed in the rows

    def pieces(self, rows: int = PIECE_ROWS) -> Iterator[pd.DataFrame]:
        """Yield the table in order, at most `rows` rows at a time."""
        return read_pieces(self.path, rows)

    def read_rows(
        self, names: Sequence[str] | None = None, since: np.datetime64 | None = None, until: np.datetime64 | None = None
    ) -> pd.DataFrame:
        """Return the rows of some series (default: all) in [since, until), UTC."""
        conditions: list[tuple[str, str, Any]] = [] if names is None else [(SERIES, "in", list(names))]
        conditions += [] if since is None else [(TIME, ">=", pd.Timestamp(since, tz="UTC"))]
        conditions += [] if until is None else [(TIME, "<", pd.Timestamp(until, tz="UTC"))]
        return pd.read_parquet(self.path, filters=conditions or None)


def ingest_table(spec: DataSpec, work: Path, downloads: Path) -> Table:
    """Read a source, check it, and store the canonical table. A stored table of the same bytes is reused.

    Args:
        spec: the source, and the roles of its columns.
        work: folder for the table.
        downloads: folder for files from the network.

    Raises:
        DataError: the source or its content breaks a rule. No file is left then.
        ConfigError: the data are partitioned: each segment has its own table.
    """
    if spec.partition_by:
        key = spec.partition_by[0]
        raise ConfigError(
            f"data.partition_by makes a model for each segment, and this is about one: name it, such as data.where: "
            f"{{{key}: VALUE}}, and leave data.partition_by out (--set data.partition_by=[])."
        )
    source = open_source(spec, downloads)
    index = work / f"source-{_cache_key(source, spec)}.json" if source.sha256 else None
    if index is not None and (table := _read_index(index)) is not None:
        return table
    try:
        with scratch_folder("ingest", work) as scratch:
            table = _build_table(source, spec, scratch, work)
        if index is not None:
            content = json.dumps({**asdict(table), "path": table.path.name})
            write_atomic(index, content.encode(), durable=False)
    except OSError as error:  # of the disk; errors of the source are DataErrors by now
        reason = error.strerror or str(error)
        raise DataError(f"{work}: the table can't be kept there ({reason}). Make room, or set LSTM_HOME.") from None
    return table


def _cache_key(source: Source, spec: DataSpec) -> str:
    """Hash what the table depends on: the bytes, and how they are read. Gaps and calendar are applied later."""
    parts = spec.model_dump(mode="json", exclude={"source", "sha256", "missing", "calendar"})
    text = json.dumps([_CODE, source.sha256, parts], sort_keys=True)
    return sha256(text.encode()).hexdigest()[:16]


def _read_index(path: Path) -> Table | None:
    """Return the table that an index names, if both exist and are complete."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        table = Table(**{**values, "path": path.parent / values["path"], "notices": tuple(values["notices"])})
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return table if _is_stored(table.path, table.rows) else None


def _is_stored(path: Path, rows: int) -> bool:
    with suppress(OSError):
        os.utime(path)  # marks the table as used: unused ones are removed after a while
    return is_complete(path, rows)


def _build_table(source: Source, spec: DataSpec, scratch: Path, work: Path) -> Table:
    rows = _sorted_rows(source, spec, scratch)
    head = _first_pieces(rows, spec)
    if not head:
        raise DataError(f"{source.name}: holds no rows. Name a source with data.")
    spec = resolve_frequency(spec, pd.concat(head), source.name)
    canonicalizer, fingerprint = Canonicalizer(spec, source.name), Fingerprint()
    file = scratch / "table.parquet"
    with FrameWriter(file) as writer:
        for piece in canonicalizer.process(chain(head, rows)):
            fingerprint.update(piece)
            writer.write(piece)
    canonicalizer.check_complete()
    digest = fingerprint.hexdigest()
    path = work / f"table-{digest[:16]}.parquet"
    if not _is_stored(path, canonicalizer.rows):
        os.replace(file, path)
    return Table(
        path=path,
        sha256=digest,
        rows=canonicalizer.rows,
        series=canonicalizer.series,
        first=canonicalizer.first.isoformat(),
        last=canonicalizer.last.isoformat(),
        frequency=spec.frequency,
        notices=canonicalizer.notices,
    )


def _first_pieces(rows: Iterator[pd.DataFrame], spec: DataSpec) -> list[pd.DataFrame]:
    """Return the first piece, or as many as the frequency is inferred from."""
    head: list[pd.DataFrame] = []
    for piece in rows:
        head.append(piece)
        count = sum(map(len, head))
        if spec.frequency != "infer" or count >= _INFER_ROWS or pd.concat(head)[SERIES].nunique() > INFER_SERIES:
            break
    return head


def _sorted_rows(source: Source, spec: DataSpec, scratch: Path) -> Iterator[pd.DataFrame]:
    """Yield checked rows sorted by series and time, in pieces."""
    chunks = _checked_rows(source, spec)
    first, second = next(chunks, None), next(chunks, None)
    if first is None or second is None:
        if first is not None:
            yield sort_rows(first)
        return
    path, in_order, last_key = scratch / "rows.parquet", True, ("", pd.Timestamp.min.tz_localize("UTC"))
    sample: list[tuple[str, Any]] = []
    written = 0
    with FrameWriter(path) as writer:
        for chunk in chain((first, second), chunks):
            rows = sort_rows(chunk)
            in_order = in_order and last_key <= _sort_key(rows, 0) and bool((rows[ROW] == chunk[ROW]).all())
            last_key = _sort_key(rows, -1)
            sample += sample_keys(rows)
            written += len(rows)
            writer.write(rows)
    if in_order:
        yield from read_pieces(path, PIECE_ROWS)
    else:
        yield from sort_in_buckets(read_row_groups(path), sample, written, scratch)


def _checked_rows(source: Source, spec: DataSpec) -> Iterator[pd.DataFrame]:
    """Yield chunks of checked rows, none of them empty."""
    row_filter = RowFilter(spec.where) if spec.where else None
    reader = RowReader(spec, source.name, source.columns, row_filter)
    columns = None if spec.wide == "all" else [spec.time, *spec.series, *spec.wide, *_value_columns(spec), *spec.where]
    text = (spec.time, *spec.series, *spec.categorical, *spec.where)  # 007 is not 7, in any chunk
    chunk_rows = _wide_chunk_rows(source, spec) if spec.wide else CHUNK_ROWS
    for chunk in source.chunks(columns, text, chunk_rows, row_filter.wanted if row_filter else {}):
        rows = reader.read(chunk)
        if len(rows):
            yield rows
    if row_filter is not None:
        check_matched(source, row_filter)


def _wide_chunk_rows(source: Source, spec: DataSpec) -> int:
    """Return the rows of a chunk of a wide table; each becomes one row for each series."""
    series = len(source.columns()) if spec.wide == "all" else len(spec.wide)
    return max(1, _WIDE_ROWS // max(1, series))


def _value_columns(spec: DataSpec) -> tuple[str, ...]:
    return (*(() if spec.wide else spec.target), *spec.observed, *spec.known, *spec.static)


def _sort_key(rows: pd.DataFrame, row: int) -> tuple[str, pd.Timestamp]:
    return rows[SERIES].iloc[row], rows[TIME].iloc[row]
