"""Delete unused files below the home folder: prepared data, downloads, partial files; rotate logs.

The modification time says when prepared data were last used, see `tasks.settings.mark_used`. Scratch folders of dead
processes are deleted by tasks/operations/reconcile.py.
"""

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tasks.runtime.log_rotation import rotate_log
from tasks.settings import store_folder

GRACE_S = 86_400.0  # files written or used within this time are never deleted
# Exact patterns of this project's file names: the home folder may hold other files.
_PREPARED = re.compile(r"(table|panel|windows|segments)-[0-9a-f]{16,64}(\.parquet|\.json)?")
_DOWNLOAD, _PARTIAL = re.compile(r"[0-9a-f]{64}"), re.compile(r"\.(partial|removed)-.+")
_LOGS = ("prefect-server", "mlflow", "worker", "deployments")
_REMOVED_PREFIX = ".removed-"


@dataclass(frozen=True)
class DiskUsage:
    """Number of files or folders, and their bytes on disk."""

    count: int = 0
    size: int = 0

    def __add__(self, other: "DiskUsage") -> "DiskUsage":
        return DiskUsage(self.count + other.count, self.size + other.size)


def delete_unused_files(unused_since: float, untouched_since: float) -> DiskUsage:
    """Delete unused prepared data and downloads, and partial files; rotate the logs.

    Args:
        unused_since: seconds since 1970; prepared data and downloads last used before are deleted.
        untouched_since: seconds since 1970; partial files last written before are deleted.

    Returns:
        What was deleted.
    """
    work, downloads, forecasts = store_folder("work"), store_folder("downloads"), store_folder("forecasts")
    prepared = [path for path in work.iterdir() if _PREPARED.fullmatch(path.name)]
    contents = [path for path in downloads.iterdir() if _DOWNLOAD.fullmatch(path.name)]
    downloading = [path for path in downloads.iterdir() if _PARTIAL.fullmatch(path.name)]
    partial = [*work.glob(f"{_REMOVED_PREFIX}*"), *work.glob(".*.json.*"), *downloading, *forecasts.glob("*/.*")]
    deleted = DiskUsage()
    for path in (*prepared, *contents):
        deleted += _delete_unused(path, unused_since)
    for path in (*partial, *_orphan_indexes(work)):
        deleted += _delete(path) if _last_write(path) < untouched_since else DiskUsage()
    for name in _LOGS:
        deleted += _rotate(store_folder("logs") / f"{name}.log")
    return deleted


def disk_size(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    return sum(stat.st_size for stat in _stats(path))


def _delete_unused(path: Path, since: float) -> DiskUsage:
    """Rename first, then delete; rename back if it was used in between."""
    renamed = path.with_name(f"{_REMOVED_PREFIX}{path.name}")
    with suppress(OSError):
        if path.stat().st_mtime >= since:
            return DiskUsage()
        path.rename(renamed)
        if renamed.stat().st_mtime < since:
            return _delete(renamed)
        renamed.rename(path)
    return DiskUsage()


def _delete(path: Path) -> DiskUsage:
    size = disk_size(path)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
    return DiskUsage() if path.exists() else DiskUsage(1, size)


def _orphan_indexes(work: Path) -> Iterator[Path]:
    """Yield index files of sources (`source-*`) whose table was deleted, and unreadable ones."""
    for path in work.glob("source-*"):
        try:
            table = work / json.loads(path.read_text(encoding="utf-8"))["path"]
        except (OSError, ValueError, KeyError, TypeError):
            yield path
        else:
            if not table.exists():
                yield path


def _rotate(log: Path) -> DiskUsage:
    try:
        replaced = rotate_log(log)
    except OSError:  # no such log, or no space for the copy
        return DiskUsage()
    return DiskUsage(1 if replaced else 0, replaced)


def _last_write(path: Path) -> float:
    return max((stat.st_mtime for stat in _stats(path)), default=0.0)


def _stats(path: Path) -> Iterator[os.stat_result]:
    """Yield the stat of a file, or of all files in a folder, except those deleted meanwhile."""
    for file in path.rglob("*") if path.is_dir() and not path.is_symlink() else [path]:
        with suppress(OSError):
            if not file.is_dir():
                yield file.lstat()
