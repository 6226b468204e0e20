"""Rotate log files."""

import os
import shutil
from pathlib import Path

MAX_LOG_BYTES = 10 * 2**20
_OLD_SUFFIX = ".old.log"


def rotate_log(log: Path) -> int:
    """Copy an oversized log to NAME.old.log and truncate it, so that open handles stay valid.

    Returns:
        Bytes that the replaced older copy held.

    Raises:
        OSError: the log can't be read or the copy can't be written.
    """
    if log.stat().st_size <= MAX_LOG_BYTES:
        return 0
    old = log.with_suffix(_OLD_SUFFIX)
    replaced = old.stat().st_size if old.exists() else 0
    shutil.copyfile(log, old)
    os.truncate(log, 0)
    return replaced
