"""Scratch folders that say whether somebody is still at them."""

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_NEW = 60.0  # seconds within which a folder may not be locked yet


@contextmanager
def scratch_folder(name: str, place: Path) -> Iterator[Path]:
    """A folder `.NAME-…` in `place` that goes with the block. It is locked, and a lock ends with its process."""
    with tempfile.TemporaryDirectory(prefix=f".{name}-", dir=place, ignore_cleanup_errors=True) as made:
        lock = os.open(made, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks: what is left there is never told from what is used
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield Path(made)
        finally:
            os.close(lock)


def orphaned_folders(place: Path) -> list[Path]:
    """The scratch folders in `place` that no process has locked any more."""
    return [path for path in place.glob(".*-*") if path.is_dir() and not path.is_symlink() and _is_left(path)]


def _is_left(path: Path) -> bool:
    try:
        if time.time() - path.stat().st_mtime < _NEW:
            return False
        lock = os.open(path, os.O_RDONLY)
    except OSError:  # somebody was faster
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
