"""Copies of stores that somebody may have open."""

import subprocess
from pathlib import Path


def copy_stores(source: Path, target: Path, *left_out: str) -> None:
    """Copy what is in a folder into another one, which is made; names in `left_out` stay behind.

    By another process: a process that opens and closes an SQLite file drops its own locks on it, and a third one then
    takes the write-ahead log away from under its connections.
    """
    target.mkdir(parents=True, exist_ok=True)
    names = [path for path in source.iterdir() if path.name not in left_out]
    subprocess.run(["cp", "-a", *map(str, names), str(target)], check=True)
