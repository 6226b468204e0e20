"""The single `lstm up` of a home folder: a locked file that holds the addresses of its servers."""

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

_TIMEOUT_S = 1.0  # `running_instance` of another process may hold the lock for a moment


@contextmanager
def single_instance(addresses: dict[str, str]) -> Iterator[None]:
    """Hold the lock of `lstm up` while the block runs, also in children that are forked in it.

    Args:
        addresses: of the servers, for `running_instance`.

    Raises:
        ConfigError: another `lstm up` holds it.
    """
    with _lock_file().open("a+", encoding="utf-8") as file:
        deadline = time.monotonic() + _TIMEOUT_S
        while not _try_lock(file, fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise ConfigError(f"`lstm up` is running on {home()}: {_read_pid_file(file)}. Stop it first (Ctrl-C).")
            time.sleep(0.05)
        file.truncate(0)
        file.write(json.dumps({"pid": os.getpid(), **addresses}))
        file.flush()
        yield
        file.truncate(0)


def running_instance() -> dict[str, str]:
    """Return pid and addresses of the `lstm up` that runs on these stores; empty if none does."""
    if not _lock_file().exists():
        return {}
    with _lock_file().open("r", encoding="utf-8") as file:
        if _try_lock(file, fcntl.LOCK_SH):
            return {}
        try:
            return {key: str(value) for key, value in json.loads(file.read()).items()}
        except ValueError:  # it is about to write them
            return {}


def _lock_file() -> Path:
    return home() / "up.lock"


def _try_lock(file: TextIO, operation: int) -> bool:
    try:
        fcntl.flock(file, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid_file(file: TextIO) -> str:
    file.seek(0)
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(file.read()).items())
    except ValueError:
        return "it is starting"
