"""Copies of stores that may be open in this process."""

import subprocess
from pathlib import Path


def copy_stores(source: Path, target: Path, *left_out: str) -> None:
    """Copy a folder's content to `target`, which is created, without the names in `left_out`.

    Another process copies: closing an SQLite file drops all locks that this process holds on it, and then a third
    process may remove the write-ahead log while it is in use.
    """
    target.mkdir(parents=True, exist_ok=True)
    names = [path for path in source.iterdir() if path.name not in left_out]
    subprocess.run(["cp", "-a", *map(str, names), str(target)], check=True)
