"""Temporary folders that are locked while their process lives, so that orphaned ones can be removed."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_GRACE_S = 60.0  # age up to which a folder may not be locked yet


@contextmanager
def scratch_folder(name: str, parent: Path) -> Iterator[Path]:
    """Make a folder `.NAME-…` in `parent`, locked by this process, and remove it after the block."""
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=parent, ignore_cleanup_errors=True) as folder:
        lock = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(folder)
        finally:
            os.close(lock)


def orphaned_folders(parent: Path) -> list[Path]:
    """Return the scratch folders in `parent` whose process has ended."""
    return [path for path in parent.glob(".*-*") if path.is_dir() and not path.is_symlink() and _is_orphaned(path)]


def _is_orphaned(path: Path) -> bool:
    try:
        if time.time() - path.stat().st_mtime < _GRACE_S:
            return False
        lock = os.open(path, os.O_RDONLY)
    except OSError:  # removed in between
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
