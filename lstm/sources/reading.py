"""What the readers of files and queries have in common: which columns are read, and how what is wrong is told."""

import csv
import gzip
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from pandas.errors import EmptyDataError, ParserError, ParserWarning

from lstm.errors import DataError

WantedValues = Mapping[
    str, Mapping[str, Any]
]  # by column, and by the text a value is compared by: rows that will be kept
PLACE = "place"  # in `attrs` of a chunk: rows of the source, and those of other files, before it
MAX_CELLS = 20_000_000  # of a chunk: a wide table comes in fewer rows


def select_columns(names: Sequence[str], columns: Sequence[str] | None) -> list[str]:
    """Those of `names` that are wanted, in their own order."""
    return [name for name in names if columns is None or name in columns]


def limit_rows(rows: int, columns: int) -> int:
    """Rows of a chunk."""
    return max(1, min(rows, MAX_CELLS // max(1, columns)))


def check_unique_columns(names: Sequence[str], label: str) -> None:
    """Every column must have a name of its own.

    Raises:
        DataError: one has not.
    """
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"{label}: column {name!r} is there twice. Give each column its own name.")
        seen.add(name)


def check_same_columns(columns: dict[str, list[str]], name: str) -> None:
    """All files must have the columns of the first, in any order.

    Raises:
        DataError: one has not; the message names the file and the column.
    """
    (first, wanted), *others = columns.items()
    for label, found in others:
        fix = f"Give all files of {name} the same columns."
        for column in sorted(set(wanted) - set(found)):
            raise DataError(f"{label}: column {column!r} is not there, but is in {first}. {fix}")
        for column in sorted(set(found) - set(wanted)):
            raise DataError(f"{label}: column {column!r} is there, but is not in {first}. {fix}")


@contextmanager
def read_errors(label: str) -> Iterator[None]:
    """Tell what a reader of files raises, in one line that names the file."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pandas, pyarrow, gzip and csv raise a dozen kinds
        raise DataError(f"{label}: {_told(error)}") from None


def _told(error: Exception) -> str:
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
    """The reason, unless it may hold a path: the path may be a secret of the environment."""
    line = next(iter(str(error).strip().splitlines()), "")[:150].rstrip(". ")
    return line if line and "/" not in line and "\\" not in line else type(error).__name__
