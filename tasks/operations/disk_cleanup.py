"""Files below the stores that nobody needs any more: prepared data, downloads, old logs.

Use is known by the time of change: whoever opens prepared data marks them first (`tasks.settings.mark_used`). Scratch
of dead processes is for tasks/reconcile.py.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.settings import folder

GRACE = 86_400.0  # seconds: what was written or used within them is never touched
# Only what this project names like this: the folder of the stores may hold files of other people.
_PREPARED = re.compile(r"(table|panel|windows|segments)-[0-9a-f]{16,64}(\.parquet|\.json)?")
_DOWNLOAD, _HALF = re.compile(r"[0-9a-f]{64}"), re.compile(r"\.(partial|removed)-.+")
_LOGS = ("prefect-server", "mlflow", "worker", "deployments")
_LARGEST_LOG = 10 * 2**20  # bytes; a longer one is put aside
_OLD_LOG = ".old.log"
_PUT_ASIDE = ".removed-"


@dataclass(frozen=True)
class Freed:
    """So many files or folders, and their bytes on disk."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "Freed") -> "Freed":
        return Freed(self.count + other.count, self.size + other.size)


def free_files(unused_since: float, untouched_since: float) -> Freed:
    """Remove prepared data and downloads, and what was written half; bound the logs.

    Args:
        unused_since: seconds since 1970: prepared data and downloads that were last used before go.
        untouched_since: what is hidden and was not written to since goes.
    """
    work, downloads, forecasts = folder("work"), folder("downloads"), folder("forecasts")
    prepared = [path for path in work.iterdir() if _PREPARED.fullmatch(path.name)]
    contents = [path for path in downloads.iterdir() if _DOWNLOAD.fullmatch(path.name)]
    hidden = [path for path in downloads.iterdir() if _HALF.fullmatch(path.name)]
    half = [*work.glob(f"{_PUT_ASIDE}*"), *hidden, *forecasts.glob("*/.*")]
    freed = Freed()
    for path in (*prepared, *contents):
        freed += _free_unused(path, unused_since)
    for path in (*half, *_pointless(work)):
        freed += _free(path) if _last_written(path) < untouched_since else Freed()
    for name in _LOGS:
        freed += _bounded(folder("logs") / f"{name}.log")
    return freed


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files in a folder."""
    return sum(found.st_size for found in _stats(path))


def _free_unused(path: Path, since: float) -> Freed:
    """Out of everybody's way first, and back where somebody has used it at that very moment."""
    aside = path.with_name(f"{_PUT_ASIDE}{path.name}")
    with suppress(OSError):
        if path.stat().st_mtime >= since:
            return Freed()
        path.rename(aside)
        if aside.stat().st_mtime < since:
            return _free(aside)
        aside.rename(path)
    return Freed()


def _free(path: Path) -> Freed:
    size = size_of(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return Freed() if path.exists() else Freed(1, size)


def _pointless(work: Path) -> Iterator[Path]:
    """What says that a source was read, where the table is gone."""
    for path in work.glob("source-*"):
        try:
            table = work / json.loads(path.read_text(encoding="utf-8"))["path"]
        except (OSError, ValueError, KeyError, TypeError):
            yield path
        else:
            if not table.exists():
                yield path


def _bounded(log: Path) -> Freed:
    """A long log becomes `NAME.old.log` in place of an older one; who writes to it goes on in the empty file."""
    before = log.with_suffix(_OLD_LOG)
    try:
        if log.stat().st_size <= _LARGEST_LOG:
            return Freed()
        lost = before.stat().st_size if before.exists() else 0
        shutil.copyfile(log, before)
        os.truncate(log, 0)
    except OSError:
        return Freed()
    return Freed(1 if lost else 0, lost)


def _last_written(path: Path) -> float:
    return max((found.st_mtime for found in _stats(path)), default=0.0)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Of the file, or of every file below; what vanishes meanwhile is left out."""
    for one in path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(OSError):
            if not one.is_dir():
                yield one.lstat()
