"""CSV files as frames, a bounded number of rows at a time."""

import csv
import gzip
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any, Literal

import pandas as pd
from pandas.errors import ParserWarning

from lstm.config.source import CsvSpec
from lstm.errors import DataError
from lstm.sources.files import Files
from lstm.sources.reading import (
    WantedValues,
    check_same_columns,
    check_unique_columns,
    limit_rows,
    read_errors,
    select_columns,
)

_SEPARATORS = (",", ";", "\t", "|")
_MAGIC = {b"\x1f\x8b": "gzip", b"PAR1": "Parquet", b"PK\x03\x04": "a ZIP archive, such as .xlsx"}
_MARKUP = (b"<!doctype", b"<html", b"<?xml")


@dataclass(frozen=True)
class CsvFiles:
    """CSV files with the same columns."""

    files: Files
    separators: dict[str, str]  # by file
    decimal: str
    names: list[str]  # of all columns

    @classmethod
    def open(cls, files: Files, spec: CsvSpec, time: str) -> "CsvFiles":
        """Read the header of each file.

        Raises:
            DataError: a file is not CSV, or has other columns than the first.
        """
        separators, headers = {}, {}
        for part in files.parts:
            label, path = files.label(part), files.path(part)
            with read_errors(label):
                _check_content(path, label)
                separators[part] = _separator(path, spec.separator, time)
                headers[part] = _header(path, separators[part])
                check_unique_columns([name for name in headers[part] if name], label)
                _check_end(path, separators[part], len(headers[part]), label)
        check_same_columns({files.label(part): names for part, names in headers.items()}, files.name)
        first = files.parts[0]
        with read_errors(files.label(first)):
            names = list(pd.read_csv(files.path(first), nrows=0, **_options(files.path(first), separators[first])))
        return cls(files, separators, spec.decimal, names)

    def columns(self) -> list[str]:
        """Return the names of all columns."""
        return self.names

    def frames(
        self, columns: Sequence[str] | None, text: Sequence[str], rows: int, _: WantedValues = MappingProxyType({})
    ) -> Iterator[pd.DataFrame]:
        """Yield the rows in the order of the files.

        All columns are parsed: with `usecols`, pandas would accept rows with too many fields.
        """
        wanted, rows = select_columns(self.names, columns), limit_rows(rows, len(self.names))
        for part, separator in self.separators.items():
            label, options = self.files.label(part), _options(self.files.path(part), separator)
            with read_errors(label):
                reader = pd.read_csv(
                    self.files.path(part),
                    chunksize=rows,
                    decimal=self.decimal,
                    dtype=dict.fromkeys(text, "str"),
                    **options,
                )
            with reader:
                while (frame := _next(reader, label)) is not None:
                    yield self.files.tag_file(frame[wanted], part)


def _options(path: Path, separator: str) -> dict[str, Any]:
    return {
        "sep": separator,
        "encoding": "utf-8-sig",
        "compression": "gzip" if _zipped(path) else None,
        "low_memory": False,
        "index_col": False,  # otherwise a row with an extra field shifts all columns
    }


def _next(reader: Iterator[pd.DataFrame], label: str) -> pd.DataFrame | None:
    with read_errors(label), warnings.catch_warnings():
        warnings.simplefilter("error", ParserWarning)
        return next(reader, None)


def _zipped(path: Path) -> bool:
    return path.name.lower().endswith(".gz")


def _check_content(path: Path, label: str) -> None:
    """Check that the content fits the extension, and that it is a table."""
    with path.open("rb") as stream:
        head = stream.read(512)
    if not head:
        raise DataError(f"{label}: is empty. Name a file with data.")
    content = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "plain text")
    expected: Literal["gzip", "plain text"] = "gzip" if _zipped(path) else "plain text"
    if content != expected:
        raise DataError(
            f"{label}: is {content}, not {'gzip' if _zipped(path) else 'CSV'}. Give it the right extension."
        )
    with _open(path) as stream:
        if stream.read(512).lstrip(b"\xef\xbb\xbf \r\n\t").lower().startswith(_MARKUP):
            raise DataError(f"{label}: is a web page or XML, not CSV. Fetch the file itself (is a login needed?).")


def _check_end(path: Path, separator: str, columns: int, label: str) -> None:
    """Check that the file doesn't end within a line: pandas would read the missing fields as empty."""
    if _zipped(path):
        return  # gzip detects the end
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 1_000_000))
        last = stream.read().rsplit(b"\n", 1)[-1]
    fields = len(next(csv.reader([last.decode("utf-8", "replace")], delimiter=separator), []))
    if 0 < fields < columns:
        raise DataError(
            f"{label}: is cut off: its last line has {fields} of {columns} fields and no end. Copy or make it again."
        )


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if _zipped(path) else path.open("rb")  # type: ignore[return-value]


def _separator(path: Path, separator: str, time: str) -> str:
    """Return the given separator; for `auto`, the one that finds the time column, then the most columns."""
    if separator != "auto":
        return separator
    headers = {candidate: _header(path, candidate) for candidate in _SEPARATORS}
    return max(_SEPARATORS, key=lambda candidate: (time in headers[candidate], len(headers[candidate])))


def _header(path: Path, separator: str) -> list[str]:
    with _open(path) as stream:
        lines = (line.decode("utf-8-sig") for line in iter(lambda: stream.readline(10_000_000), b""))
        records = csv.reader(lines, delimiter=separator)
        return next((record for record in records if len(record) > 1 or "".join(record).strip()), [])
