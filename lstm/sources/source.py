"""Where a table comes from: a data set of the catalogue, files, addresses on the network, or a query.

Whatever it is, it is read a bounded number of rows at a time, and what is wrong with it is one line that names it.
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
    """One kind of source."""

    def columns(self) -> list[str]:
        """Names of all columns."""

    def frames(
        self, columns: Sequence[str] | None, text: Sequence[str], rows: int, where: WantedValues
    ) -> Iterator[pd.DataFrame]:
        """The rows of some columns, or some more than those of `where`; without rows, one empty frame."""


@dataclass(frozen=True)
class Source:
    """A table somewhere."""

    name: str  # what messages call it: no credentials, nor the query of a URL
    sha256: str | None  # of the bytes of all files; None for a query
    reader: Reader = field(repr=False)

    def columns(self) -> list[str]:
        """Names of all columns, without reading rows."""
        return list(self.reader.columns())

    def chunks(
        self,
        columns: Sequence[str] | None,
        text: Sequence[str] = (),
        rows: int = CHUNK_ROWS,
        where: WantedValues = MappingProxyType({}),
    ) -> Iterator[pd.DataFrame]:
        """The table, at most `rows` rows at a time, in a bounded amount of memory; without rows, one empty frame.

        Args:
            columns: what to read, in the source's own order; a name that is not there is left out. None: all.
            text: columns of a CSV, or of a folder's name, that stay text, such as ids: 007 is not 7.
            rows: the largest chunk; a wide table comes in smaller ones.
            where: rows that will be kept: what surely holds none of them may be left out, and need not be.

        Raises:
            DataError: the source can't be read, or not to its end.
        """
        without, some = pd.DataFrame(), False
        for frame in self.reader.frames(columns, text, rows, where):
            if len(frame):
                some = True
                yield frame.reset_index(drop=True)
            else:
                without = frame
        if not some:
            yield without


def open_source(spec: DataSpec, downloads: Path) -> Source:
    """Find the source, fetch it where it is remote, and look at its columns.

    Args:
        spec: what to open, the sha256 that it must have, and how a CSV is written.
        downloads: folder for what comes over the network.

    Raises:
        DataError: there is no such source, it can't be reached or read, or it is not the pinned one.
    """
    if isinstance(spec.source, SqlSource):
        return _query(spec.source, spec.sha256)
    pin = _pin(spec.sha256)
    if spec.source.startswith("env:"):
        files = _files(read_environment(spec.source), downloads, pin, alias=spec.source)
    else:
        files = _files(spec.source, downloads, pin)
    kind = files.check(pin).format
    reader = ParquetFiles.open(files) if kind == "Parquet" else CsvFiles.open(files, spec.csv, spec.time)
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
