"""Start, stop and check processes."""

import ctypes
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from tasks.runtime.log_rotation import rotate_log

_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1


def start(
    command: Sequence[str],
    log: Path,
    environment: Mapping[str, str],
    inherit: Sequence[int] = (),
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a program in a new session, so that the terminal's Ctrl-C does not reach it.

    On Linux the kernel sends it SIGTERM when the thread that started it dies.

    Args:
        command: the program and its arguments.
        log: file that its output is appended to.
        environment: its whole environment.
        inherit: file descriptors that it inherits.
        folder: its working directory; default: this process's.
    """
    if log.exists():
        rotate_log(log)
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


def stop(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Terminate a program; kill it if it has not ended after `timeout` seconds."""
    process.terminate()
    try:
        process.wait(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def terminate_children(process: subprocess.Popen[bytes], timeout: float) -> None:
    """Terminate a program's children and wait for them for at most `timeout` seconds."""
    try:
        children = psutil.Process(process.pid).children()
    except psutil.NoSuchProcess:
        return
    for child in children:
        with suppress(psutil.NoSuchProcess):
            child.terminate()
    psutil.wait_procs(children, timeout)


def stop_trees(processes: Sequence[subprocess.Popen[bytes]], timeout: float) -> None:
    """Terminate programs with all their descendants; kill those that have not ended after `timeout` seconds."""
    alive = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(process.pid)
            alive += [root, *root.children(recursive=True)]
    for send in (psutil.Process.terminate, psutil.Process.kill):
        for target in alive:
            with suppress(psutil.NoSuchProcess):
                send(target)
        _, alive = psutil.wait_procs(alive, timeout)
    for process in processes:
        process.wait()  # psutil has reaped it: let Popen notice


def descendants(pid: int) -> list[psutil.Process]:
    """Return all descendants of a process; none if it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill(processes: Sequence[psutil.Process]) -> None:
    """Kill the processes that still run, and wait until they are gone."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, 2)


def answers(url: str, timeout: float = 5.0) -> bool:
    """Return whether `url` answers with 200 within `timeout` seconds."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as response:
            return bool(response.status == 200)
    except OSError:
        return False


def _end_with_parent() -> None:
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
