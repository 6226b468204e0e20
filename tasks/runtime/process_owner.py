"""Who a piece of work belongs to, and whether that process is dead: by what no clock that jumps can change."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

EVERY = 60.0  # seconds between two heartbeats
LIMIT = timedelta(minutes=5)  # a heartbeat older than this is that of a dead process
_PROC = Path("/proc")


def this_process() -> str:
    """`host:pid:start`, which no other process ever has.

    On Linux `start` is `boot/namespace/ticks`: the boot's id, the PID namespace, and when the process was started in
    ticks since that boot (proc(5), field 22 of `stat`). psutil's seconds, which are used elsewhere, follow the wall
    clock there.
    """
    pid = os.getpid()
    start = f"{_place()}/{_state_and_ticks(pid)[1]}" if _place() else f"{psutil.Process(pid).create_time():.2f}"
    return f"{socket.gethostname()}:{pid}:{start}"


def is_dead(owner: str, seen: str | None = None, limit: timedelta = LIMIT) -> bool:
    """Whether the owner is a process that is no more. What can't be known is not dead.

    Args:
        owner: as `this_process` gave it, there.
        seen: when it last gave a sign of life (ISO 8601). It decides where the process table of this machine can't:
            for another host or container. Clocks of machines that share a store must agree within minutes.
        limit: how old that may be.
    """
    host, _, process = owner.partition(":")
    number, _, start = process.partition(":")
    if not (host and number.isdigit() and start):
        return False
    place, _, moment = start.rpartition("/")
    if host == socket.gethostname() and place in ("", _place()):
        return _is_gone(int(number), moment)
    rebooted = host == socket.gethostname() and place.partition("/")[0] != _place().partition("/")[0]
    return _is_old(seen, limit, without=rebooted)


def now() -> str:
    """A sign of life: the time in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def heartbeat(beat: Callable[[], object], every: float = EVERY) -> Iterator[None]:
    """Call `beat` in a thread now and then, as long as the block runs. An error of it ends nothing: the next may do."""
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(every):
            with suppress(Exception):
                beat()

    threading.Thread(target=go_on, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _place() -> str:
    """Boot and PID namespace, within which a number and its ticks are one process; empty where that can't be told."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat(_PROC / 'self/ns/pid').st_ino}"
    except OSError:
        return ""


def _is_gone(pid: int, start: str) -> bool:
    """Whether no living process has this number and this start, in ticks or in seconds."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # another user's
    try:
        if start.isdigit():
            state, ticks = _state_and_ticks(pid)
            return state in "ZX" or ticks != start
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != start
    except (OSError, psutil.Error):  # it is there, but hidden
        return False


def _state_and_ticks(pid: int) -> tuple[str, str]:
    """Of `/proc/PID/stat`, whose second field may hold spaces and parentheses."""
    fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], fields[19]


def _is_old(seen: str | None, limit: timedelta, without: bool) -> bool:
    """Whether a sign of life is too old; `without`: what is said where there is none."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(seen or "")
    except (ValueError, TypeError):  # no time, or one of no zone
        return without
    return age > limit
