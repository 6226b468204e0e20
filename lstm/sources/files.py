"""The files of one source: a single file, a folder, or the matches of a pattern."""

import glob
import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import takewhile
from pathlib import Path
from typing import Literal

import pandas as pd

from lstm.errors import DataError, did_you_mean
from lstm.sources.reading import FILE

FileFormat = Literal["CSV", "Parquet"]
_FORMATS: dict[str, FileFormat] = {".csv": "CSV", ".csv.gz": "CSV", ".parquet": "Parquet"}


@dataclass(frozen=True)
class Pin:
    """The sha256 that a content must have."""

    sha256: str
    source: str  # where it is stated, in messages
    fix: str  # in messages, if it has another one


@dataclass(frozen=True)
class Files:
    """The files of one source, in the order of their relative paths."""

    name: str  # of the source, in messages
    base: Path
    parts: tuple[str, ...]  # paths relative to `base`, with /
    many: bool = False  # a folder or a pattern: messages name the file
    digest: str | None = None  # the sha256, if known already

    def path(self, part: str) -> Path:
        """Return the path of a file."""
        return self.base / part

    def label(self, part: str) -> str:
        """Return the name of a file in messages."""
        return part if self.many else self.name

    @property
    def format(self) -> FileFormat:
        """The format of all files.

        Raises:
            DataError: the format is unknown, or there are two.
        """
        firsts: dict[FileFormat, str] = {}
        for part in self.parts:
            firsts.setdefault(file_format(part, self.label(part)), part)
        if len(firsts) > 1:
            both = " and ".join(repr(part) for part in firsts.values())
            raise DataError(f"{self.name}: holds two kinds of files ({both}). Name one kind by a pattern: *.csv.")
        return next(iter(firsts))

    @cached_property
    def sha256(self) -> str:
        """sha256 of a single file; of several, the output of `sha256sum FILE… | sha256sum` in order of their paths.

        It includes the paths, since a folder such as year=2024 is a column of the table.
        """
        if self.digest:
            return self.digest
        hashes = {part: _file_sha256(self.path(part), self.label(part)) for part in self.parts}
        if len(hashes) == 1 and not any("=" in part for part in self.parts):
            return next(iter(hashes.values()))
        lines = "".join(f"{digest}  {part}\n" for part, digest in hashes.items())
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

    def tag_file(self, frame: pd.DataFrame, part: str) -> pd.DataFrame:
        """Note in `attrs` which file a frame comes from, if there are several."""
        if self.many:
            frame.attrs[FILE] = self.label(part)
        return frame

    def check(self, pin: Pin | None) -> "Files":
        """Return self if the content has the pinned sha256, or there is no pin.

        Raises:
            DataError: it has another sha256.
        """
        if pin is not None and self.sha256 != pin.sha256:
            raise DataError(f"{self.name}: its sha256 is {self.sha256}, but {pin.source} says {pin.sha256}. {pin.fix}")
        return self


def table_suffix(path: str) -> str:
    """Return `.csv`, `.csv.gz` or `.parquet`, or an empty string for other names."""
    return next((suffix for suffix in _FORMATS if path.lower().endswith(suffix)), "")


def file_format(path: str, label: str) -> FileFormat:
    """Return the format of a file by its extension.

    Raises:
        DataError: the extension is not that of a table.
    """
    suffix = table_suffix(path)
    if not suffix:
        raise DataError(f"{label}: must end in .csv, .csv.gz or .parquet. Convert it, or rename it.")
    return _FORMATS[suffix]


def find_tables(base: Path, name: str) -> Files:
    """Return all tables below a folder, without other files and those named _x or .x.

    Raises:
        DataError: there is none.
    """
    parts = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return _collect(name, base, (part for part in parts if is_table(part)), "holds no .csv, .csv.gz or .parquet file")


def is_table(part: str) -> bool:
    """Return whether a file in a folder is a table, unlike `_SUCCESS`, `.crc` files and README."""
    return bool(table_suffix(part)) and not re.search(r"(?:^|/)[_.]", part)


def find_files(source: str, known: Iterable[str] = (), alias: str | None = None) -> Files:
    """Return the files that a path or a pattern names.

    Args:
        source: path of a file or folder, or a pattern.
        known: names that the user may have meant instead.
        alias: what messages show instead of the path.

    Raises:
        DataError: there is no such file.
    """
    source = os.path.expanduser(source)
    path = Path(source)
    if os.path.isfile(source):
        return Files(alias or path.name, path.parent, (path.name,))
    if os.path.isdir(source):
        return find_tables(path, alias or path.name or source)
    if glob.has_magic(source):
        base = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
        matches = (Path(match) for match in glob.iglob(source, recursive=True) if os.path.isfile(match))
        return _collect(
            alias or source, base, (match.relative_to(base).as_posix() for match in matches), "no file fits"
        )
    if alias:
        raise DataError(f"{alias}: names no file that is there (not shown). Check the variable's value.")
    raise DataError(f"{source}: no such file, nor a data set of the catalogue.{_suggest(path, list(known))}")


def _collect(name: str, base: Path, parts: Iterable[str], problem: str) -> Files:
    paths = tuple(sorted(set(parts)))
    if not paths:
        raise DataError(f"{name}: {problem}. Check the path.")
    return Files(name, base, paths, many=True)


def _suggest(path: Path, known: list[str]) -> str:
    """Return a hint at the closest table of the folder or known name."""
    folder = path.parent
    tables = [other for other in os.listdir(folder) if table_suffix(other)] if os.path.isdir(folder) else []
    close = did_you_mean(path.name, [*known, *tables])
    return close if close.startswith(" Did you mean") else did_you_mean(path.name, known)


def _file_sha256(path: Path, label: str) -> str:
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{label}: can't be read ({error.strerror}). Allow this user to read it.") from None
