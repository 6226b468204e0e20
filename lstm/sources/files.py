"""The files of one source: a single one, a folder, or what matches a pattern."""

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

FileFormat = Literal["CSV", "Parquet"]
_KINDS: dict[str, FileFormat] = {".csv": "CSV", ".csv.gz": "CSV", ".parquet": "Parquet"}


@dataclass(frozen=True)
class Pin:
    """The content that is wanted."""

    sha256: str
    source: str  # where it is stated, in messages
    fix: str


@dataclass(frozen=True)
class Files:
    """The files of one source, in the order of their relative paths."""

    name: str  # of the source, in messages
    base: Path
    parts: tuple[str, ...]  # paths below `base`, with /
    many: bool = False  # a folder or a pattern: messages then name the single file
    digest: str | None = None  # the sha256 where it is known already

    def path(self, part: str) -> Path:
        """Where a file is."""
        return self.base / part

    def label(self, part: str) -> str:
        """What messages call a file."""
        return part if self.many else self.name

    @property
    def format(self) -> FileFormat:
        """The one kind of all files.

        Raises:
            DataError: an unknown kind, or two.
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
        """Of the bytes: one file's own; of several what `sha256sum FILE… | sha256sum` prints, in order of their paths.

        The paths are in it, since a folder such as year=2024 is a column of the table.
        """
        if self.digest:
            return self.digest
        hashes = {part: _file_sha256(self.path(part), self.label(part)) for part in self.parts}
        if len(hashes) == 1 and not any("=" in part for part in self.parts):
            return next(iter(hashes.values()))
        lines = "".join(f"{digest}  {part}\n" for part, digest in hashes.items())
        return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()

    def tag_file(self, frame: pd.DataFrame, part: str) -> pd.DataFrame:
        """A frame that says which file it comes from, where there are several."""
        if self.many:
            frame.attrs["file"] = self.label(part)
        return frame

    def check(self, pin: Pin | None) -> "Files":
        """Self, if the content is the pinned one or there is no pin.

        Raises:
            DataError: it is another one.
        """
        if pin is not None and self.sha256 != pin.sha256:
            raise DataError(f"{self.name}: its sha256 is {self.sha256}, but {pin.source} says {pin.sha256}. {pin.fix}")
        return self


def table_suffix(path: str) -> str:
    """`.csv`, `.csv.gz` or `.parquet`; nothing for another name."""
    return next((suffix for suffix in _KINDS if path.lower().endswith(suffix)), "")


def file_format(path: str, label: str) -> FileFormat:
    """What a file is, by its name."""
    suffix = table_suffix(path)
    if not suffix:
        raise DataError(f"{label}: must end in .csv, .csv.gz or .parquet. Convert it, or rename it.")
    return _KINDS[suffix]


def find_tables(base: Path, name: str) -> Files:
    """All tables in a folder and its folders; files of other kinds, and those marked as no data (_x, .x), are left out.

    Raises:
        DataError: there is none.
    """
    parts = (path.relative_to(base).as_posix() for path in base.rglob("*") if path.is_file())
    return _several(name, base, (part for part in parts if is_table(part)), "holds no .csv, .csv.gz or .parquet file")


def is_table(part: str) -> bool:
    """Whether a file of a folder is a table: no `_SUCCESS`, no `.crc`, no README."""
    return bool(table_suffix(part)) and not re.search(r"(?:^|/)[_.]", part)


def find_files(source: str, known: Iterable[str] = (), alias: str | None = None) -> Files:
    """The files that a path, a folder or a pattern names.

    Args:
        source: the path.
        known: what else the user may have meant.
        alias: what messages say instead of the path, which then stays unsaid.

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
        return _several(
            alias or source, base, (match.relative_to(base).as_posix() for match in matches), "no file fits"
        )
    if alias:
        raise DataError(f"{alias}: names no file that is there (not shown). Check the variable's value.")
    raise DataError(f"{source}: no such file, nor a data set of the catalogue.{_meant(path, list(known))}")


def _several(name: str, base: Path, parts: Iterable[str], nothing: str) -> Files:
    found = tuple(sorted(set(parts)))
    if not found:
        raise DataError(f"{name}: {nothing}. Check the path.")
    return Files(name, base, found, many=True)


def _meant(path: Path, known: list[str]) -> str:
    """The closest table of the same folder, or name of the catalogue."""
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
