"""Shared parts of the readers of files and queries: columns, chunk sizes, and error messages."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pandas.errors import EmptyDataError, ParserError, ParserWarning

from lstm.errors import DataError

# By column and comparison key: the values whose rows are kept.
WantedValues = Mapping[str, Mapping[str, Any]]
FILE = "file"  # in `attrs` of a chunk: its file, if there are several
PLACE = "place"  # in `attrs` of a chunk: rows of the source before it, and rows of the files before its own
MAX_CELLS = 20_000_000  # of a chunk: wide tables have fewer rows in one


def select_columns(names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Return those of `names` that are in `columns` (None: all), in the order of `names`."""
    return [name for name in names if columns is None or name in columns]


def limit_rows(rows: int, columns: int) -> int:
    """Return the rows of a chunk: `rows`, or fewer if there are many columns."""
    return max(1, min(rows, MAX_CELLS // max(1, columns)))


def check_unique_columns(names: Sequence[str], label: str) -> None:
    """Check that no two columns have the same name.

    Raises:
        DataError: two have.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{label}: column {name!r} is there twice. Give each column its own name.")
        seen.add(name)


def check_same_columns(columns: dict[str, list[str]], name: str) -> None:
    """Check that all files have the columns of the first, in any order.

    Raises:
        DataError: one has not; the message names the file and the column.
    """
    (first, expected), *others = columns.items()
    for label, names in others:
        fix = f"Give all files of {name} the same columns."
        for column in sorted(set(expected) - set(names)):
            raise DataError(f"{label}: column {column!r} is not there, but is in {first}. {fix}")
        for column in sorted(set(names) - set(expected)):
            raise DataError(f"{label}: column {column!r} is there, but is not in {first}. {fix}")


@contextmanager
def read_errors(label: str) -> Iterator[None]:
    """Raise errors of a reader of files as DataError with a message of one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pandas, pyarrow, gzip and csv raise many types
        raise DataError(f"{label}: {_read_error(error)}") from None


def _read_error(error: Exception) -> str:
    if isinstance(error, UnicodeDecodeError):
        return f"is not UTF-8 text (byte 0x{error.object[error.start]:02x}). Save it as UTF-8."
    if isinstance(error, EmptyDataError):
        return "holds no header. Name the columns in the first line."
    if isinstance(error, ParserWarning):
        return "a row has more fields than the header has names. Name every column, or set data.csv.separator."
    if isinstance(error, ParserError | csv.Error):
        reason = _first_line(error).removeprefix("Error tokenizing data. C error: ")
        return f"is no regular table ({reason}). Mend that line, or set data.csv.separator."
    if isinstance(error, EOFError | zlib.error | gzip.BadGzipFile):
        return "its gzip stream is cut off or damaged. Copy or make it again."
    if isinstance(error, OSError) and error.errno and error.strerror:
        return f"can't be read ({error.strerror}). Check the file and the right to read it."
    return f"can't be read as a table ({_first_line(error)}). Write it again."


def _first_line(error: Exception) -> str:
    """Return the first line of the message, or the type if it may contain a path, which may be a secret."""
    line = next(iter(str(error).strip().splitlines()), "")[:150].rstrip(". ")
    return line if line and "/" not in line and "\\" not in line else type(error).__name__
