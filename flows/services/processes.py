"""Processes that this one starts and ends, and whether they answer."""

import ctypes
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

_LARGEST_LOG = 10 * 2**20  # bytes; beyond that the next start begins a new one, and keeps the old one beside
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    inherit: Sequence[int] = (),
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own, out of reach of the terminal's Ctrl-C.

    What it says goes to the end of `log`; `inherit` are file descriptors that it shall have; it
    works in `folder`, by default where this process does. On Linux the kernel asks
    it to end when the thread that has started it dies, however it dies.
    """
    if log.exists() and log.stat().st_size > _LARGEST_LOG:
        os.replace(log, log.with_suffix(".old.log"))
    with log.open("ab") as out:
        return subprocess.Popen(
            command,
            cwd=folder,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
            pass_fds=tuple(inherit),
            preexec_fn=_end_with_parent,
        )


def end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Ask a program to end, and kill it where it has not within `patience` seconds."""
    process.terminate()
    try:
        process.wait(timeout=patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def ask_children_to_end(process: subprocess.Popen[bytes], patience: float) -> None:
    """Ask what a program has started to end, and wait for it, but no longer than `patience` seconds."""
    try:
        children = psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return
    for one in children:
        with suppress(psutil.NoSuchProcess):
            one.terminate()
    psutil.wait_procs(children, patience)


def end_trees(processes: Sequence[subprocess.Popen[bytes]], patience: float) -> None:
    """Ask programs and all that they have started to end, and kill what has not within `patience` seconds."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            found += [root, *root.children(recursive=True)]
    for act in (psutil.Process.terminate, psutil.Process.kill):
        for one in found:
            with suppress(psutil.NoSuchProcess):
                act(one)
        _, found = psutil.wait_procs(found, patience)
    for process in processes:
        process.wait()  # psutil has taken its exit code: Popen has to see that it is gone


def descendants(number: int) -> list[psutil.Process]:
    """What a program has started, and what that has; nothing where it is no more."""
    try:
        return psutil.Process(number).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill those that are left of some processes, and see them gone."""
    for one in processes:
        with suppress(psutil.NoSuchProcess):
            one.kill()
    psutil.wait_procs(processes, 2)


def answers(url: str, patience: float = 5.0) -> bool:
    """Whether somebody answers 200 there within `patience` seconds."""
    try:
        with urllib.request.urlopen(url, timeout=patience) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
