"""Sources of tables: data sets of the catalogue, files, URLs, and queries.

Every source is read a bounded number of rows at a time. Errors have a message of one line that names the source. A new
type of source is a `Reader` and a branch in `open_source`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Protocol
from urllib.parse import unquote, urlsplit

import pandas as pd

from lstm.config.data import DataSpec
from lstm.config.source import SqlSource
from lstm.errors import DataError
from lstm.sources.catalogue import CATALOGUE, locate_data_set
from lstm.sources.csv_files import CsvFiles
from lstm.sources.downloads import Remote, fetch, url_scheme
from lstm.sources.files import Files, Pin, find_files
from lstm.sources.parquet_files import ParquetFiles
from lstm.sources.queries import Query, read_environment
from lstm.sources.reading import WantedValues

CHUNK_ROWS = 250_000


class Reader(Protocol):
    """Reads one type of source."""

    def columns(self) -> list[str]:
        """Return the names of all columns."""

    def frames(
        self, columns: Sequence[str] | None, text: Sequence[str], rows: int, where: WantedValues
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows of some columns. Rows that `where` excludes may be skipped. No rows: one empty frame."""


@dataclass(frozen=True)
class Source:
    """A table that can be read in chunks."""

    name: str  # in messages: without credentials and URL query
    sha256: str | None  # of the bytes of all files; None for a query
    reader: Reader = field(repr=False)

    def columns(self) -> list[str]:
        """Return the names of all columns without reading rows."""
        return list(self.reader.columns())

    def chunks(
        self,
        columns: Sequence[str] | None,
        text: Sequence[str] = (),
        rows: int = CHUNK_ROWS,
        where: WantedValues = MappingProxyType({}),
    ) -> Iterator[pd.DataFrame]:
        """Yield the table, at most `rows` rows at a time, in a bounded amount of memory. No rows: one empty frame.

        Args:
            columns: to read, in the order of the source; unknown names are ignored. None: all.
            text: columns of CSV files and folder names that stay text, such as ids: 007 is not 7.
            rows: of a chunk; chunks of wide tables are smaller.
            where: the rows that the caller keeps; others may be skipped.

        Raises:
            DataError: the source can't be read to its end.
        """
        empty, any_rows = pd.DataFrame(), False
        for frame in self.reader.frames(columns, text, rows, where):
            if len(frame):
                any_rows = True
                yield frame.reset_index(drop=True)
            else:
                empty = frame
        if not any_rows:
            yield empty


def open_source(spec: DataSpec, downloads: Path) -> Source:
    """Find the source, download it if it is remote, and read its columns.

    Args:
        spec: the source, the sha256 that it must have, and the CSV format.
        downloads: folder for files from the network.

    Raises:
        DataError: the source doesn't exist, can't be reached or read, or has another sha256.
    """
    if isinstance(spec.source, SqlSource):
        return _query(spec.source, spec.sha256)
    pin = _pin(spec.sha256)
    if spec.source.startswith("env:"):
        files = _files(read_environment(spec.source), downloads, pin, alias=spec.source)
    else:
        files = _files(spec.source, downloads, pin)
    file_format = files.check(pin).format
    reader = ParquetFiles.open(files) if file_format == "Parquet" else CsvFiles.open(files, spec.csv, spec.time)
    return Source(files.name, files.sha256, reader)


def _pin(sha256: str | None) -> Pin | None:
    fix = "Restore the pinned content, or set data.sha256 to the new one if it is meant."
    return Pin(sha256, "data.sha256", fix) if sha256 else None


def _query(source: SqlSource, sha256: str | None) -> Source:
    name = f"query on {source.uri}"
    if sha256 is not None:
        raise DataError(
            f"{name}: data.sha256 can't pin a query, whose rows change with the database. Leave it out, or write the "
            "rows to a file and pin that."
        )
    return Source(name, None, Query(source.sql, source.uri, name))


def _files(source: str, downloads: Path, pin: Pin | None, alias: str | None = None) -> Files:
    if source in CATALOGUE:
        return locate_data_set(source, downloads)
    scheme = url_scheme(source)
    if scheme in ("file", "local"):
        source, scheme = unquote(urlsplit(source).path), None
    if scheme is None:
        return find_files(source, CATALOGUE, alias)
    return fetch(Remote.secret(source, alias) if alias else Remote.of(source), downloads, pin)
