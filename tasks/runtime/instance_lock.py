"""Which `lstm up` runs on these stores: a locked file that says where its servers are."""

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from lstm.errors import ConfigError
from tasks.settings import home

_PATIENCE = 1.0  # seconds: others hold the lock for a moment, to see whether it is held


@contextmanager
def only_one(addresses: dict[str, str]) -> Iterator[None]:
    """Be the `lstm up` of these stores while the block runs, children that are forked in it included.

    Raises:
        ConfigError: another one runs.
    """
    with _lock_file().open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + _PATIENCE
        while not _locked(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise ConfigError(f"`lstm up` is running on {home()}: {_told(file)}. End that one first (Ctrl-C).")
            time.sleep(0.05)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), **addresses}))
        file.flush()
        yield
        file.truncate(0)


def running() -> dict[str, str]:
    """The addresses of the `lstm up` that runs on these stores; empty: none does."""
    if not _lock_file().exists():
        return {}
    with _lock_file().open("r", encoding="utf-8") as file:
        if _locked(file, fcntl.LOCK_SH):
            return {}
        try:
            return {key: str(value) for key, value in json.loads(file.read()).items()}
        except ValueError:  # it is just starting
            return {}


def _lock_file() -> Path:
    return home() / "up.lock"


def _locked(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(file: TextIO) -> str:
    file.seek(0)
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(file.read()).items())
    except ValueError:
        return "it is just starting"
