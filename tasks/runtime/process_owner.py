"""Process identity (host, pid, boot id, start ticks) and liveness, independent of the wall clock."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

HEARTBEAT_INTERVAL_S = 60.0
MAX_HEARTBEAT_AGE = timedelta(minutes=5)  # an older heartbeat is stale
_PROC = Path("/proc")


def this_process() -> str:
    """Return `host:pid:start`, unique among all processes.

    On Linux `start` is `boot/namespace/ticks`: the boot id, the PID namespace, and the start time in clock ticks since
    boot (proc(5), field 22 of `stat`), which don't depend on the wall clock. Elsewhere it is psutil's `create_time` in
    seconds.
    """
    pid = os.getpid()
    start = (
        f"{_pid_namespace()}/{_state_and_ticks(pid)[1]}"
        if _pid_namespace()
        else f"{psutil.Process(pid).create_time():.2f}"
    )
    return f"{socket.gethostname()}:{pid}:{start}"


def is_process_dead(owner: str, last_heartbeat: str | None = None, max_age: timedelta = MAX_HEARTBEAT_AGE) -> bool:
    """Return whether a process has ended; False if that is unknown.

    Args:
        owner: as returned by `this_process` in that process.
        last_heartbeat: time of its last heartbeat (ISO 8601). Decides for processes of another host or container, whose
            process table can't be read. Clocks of machines that share a store must agree within minutes.
        max_age: age beyond which the heartbeat is stale.
    """
    host, _, process = owner.partition(":")
    number, _, start = process.partition(":")
    if not (host and number.isdigit() and start):
        return False
    namespace, _, time = start.rpartition("/")
    if host == socket.gethostname() and namespace in ("", _pid_namespace()):
        return _has_ended(int(number), time)
    rebooted = host == socket.gethostname() and namespace.partition("/")[0] != _pid_namespace().partition("/")[0]
    return _is_stale(last_heartbeat, max_age, default=rebooted)


def heartbeat_time() -> str:
    """Return the current time in UTC (ISO 8601, seconds)."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def heartbeat(beat: Callable[[], object], interval: float = HEARTBEAT_INTERVAL_S) -> Iterator[None]:
    """Call `beat` in a thread every `interval` seconds while the block runs. Its errors are ignored."""
    finished = threading.Event()

    def run() -> None:
        while not finished.wait(interval):
            with suppress(Exception):
                beat()

    threading.Thread(target=run, name="heartbeat", daemon=True).start()
    try:
        yield
    finally:
        finished.set()


def _pid_namespace() -> str:
    """Return `boot id/PID namespace`, within which pid and start ticks identify a process; empty if unavailable."""
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.stat(_PROC / 'self/ns/pid').st_ino}"
    except OSError:
        return ""


def _has_ended(pid: int, start: str) -> bool:
    """Return whether no living process has this pid and this start (ticks or seconds)."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        pass  # it belongs to another user
    try:
        if start.isdigit():
            state, ticks = _state_and_ticks(pid)
            return state in "ZX" or ticks != start
        process = psutil.Process(pid)
        return process.status() == psutil.STATUS_ZOMBIE or f"{process.create_time():.2f}" != start
    except (OSError, psutil.Error):  # it exists, but can't be inspected
        return False


def _state_and_ticks(pid: int) -> tuple[str, str]:
    """Read state and start ticks from `/proc/PID/stat`; its second field may hold spaces and parentheses."""
    fields = (_PROC / str(pid) / "stat").read_text(errors="replace").rpartition(")")[2].split()
    return fields[0], fields[19]


def _is_stale(last_heartbeat: str | None, max_age: timedelta, default: bool) -> bool:
    """Return whether a heartbeat is too old; `default` if there is none."""
    try:
        age = datetime.now(UTC) - datetime.fromisoformat(last_heartbeat or "")
    except (ValueError, TypeError):  # no time, or one without a time zone
        return default
    return age > max_age
