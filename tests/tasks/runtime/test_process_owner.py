"""Process owners and when a process counts as dead."""

import os
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import psutil
import pytest

from tasks.runtime import process_owner
from tasks.runtime.process_owner import heartbeat, is_process_dead, this_process
from tests.support.paths import ROOT

HERE = socket.gethostname()
ON_LINUX = pytest.mark.skipif(sys.platform != "linux", reason="boot id and ticks are Linux's")


def ago(**spans):
    return (datetime.now(UTC) - timedelta(**spans)).isoformat()


@pytest.fixture
def other():
    """A waiting process, and the owner text that it printed."""
    command = [
        sys.executable,
        "-c",
        "from tasks.runtime.process_owner import this_process as t; print(t(), flush=True); input()",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    yield process, process.stdout.readline().strip()
    process.kill()
    process.communicate()


def test_a_process_is_alive_until_it_is_killed_and_then_dead_even_as_a_zombie(other):
    process, name = other
    assert not is_process_dead(name) and not is_process_dead(this_process()) and name != this_process()
    process.kill()
    deadline = time.monotonic() + 10
    while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)
    assert is_process_dead(name)
    process.wait()
    assert is_process_dead(name)


@ON_LINUX
def test_a_jump_of_the_clock_changes_no_identity(monkeypatch):
    name, heartbeat_a_day_ago = this_process(), ago(days=1)
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 86_400)
    assert this_process() == name
    assert not is_process_dead(name, heartbeat_a_day_ago)


@ON_LINUX
def test_a_reused_pid_is_another_process():
    start, _, ticks = this_process().rpartition("/")
    assert is_process_dead(f"{start}/{int(ticks) - 1}")


@ON_LINUX
def test_after_a_reboot_a_process_is_dead_unless_its_heartbeat_is_fresh():
    host, pid, _ = this_process().split(":")
    before = f"{host}:{pid}:00000000-0000-0000-0000-000000000000/1/1"
    assert is_process_dead(before) and is_process_dead(before, ago(minutes=6))
    assert not is_process_dead(before, ago(minutes=1))  # another machine of the same name


@ON_LINUX
def test_pids_of_another_container_are_not_looked_up():
    host, _, start = this_process().split(":")
    boot = start.split("/")[0]
    there = f"{host}:999999999:{boot}/1/1"
    assert not is_process_dead(there)
    assert is_process_dead(there, ago(minutes=6)) and not is_process_dead(there, ago(minutes=4))


def test_a_process_of_another_host_is_dead_when_its_heartbeat_is_stale():
    there = "elsewhere:1:b/1/1"
    assert not is_process_dead(there)
    assert not is_process_dead(there, ago(minutes=4)) and is_process_dead(there, ago(minutes=6))
    assert is_process_dead(there, ago(minutes=2), max_age=timedelta(minutes=1))
    assert not is_process_dead(there, "2024-01-01T00:00:00") and not is_process_dead(
        there, "long ago"
    )  # of no zone, no time


def test_owners_of_earlier_versions_are_understood():
    created = psutil.Process().create_time()
    assert not is_process_dead(f"{HERE}:{os.getpid()}:{created:.2f}")
    assert is_process_dead(f"{HERE}:{os.getpid()}:{created - 5:.2f}")
    assert is_process_dead(f"{HERE}:4000000:{created:.2f}")


@pytest.mark.parametrize("text", ["", "alice", f"{HERE}:", f"{HERE}:12", f"{HERE}:x:1", f"{HERE}:-1:1", "::"])
def test_a_text_that_names_no_process_is_never_dead(text):
    assert not is_process_dead(text, ago(days=9))


def test_a_process_that_can_not_be_inspected_is_not_dead(monkeypatch):
    def hidden(*_):
        raise PermissionError

    monkeypatch.setattr(process_owner.os, "kill", hidden)
    monkeypatch.setattr(process_owner, "_state_and_ticks", hidden)
    monkeypatch.setattr(process_owner.psutil, "Process", lambda _: hidden())
    name = f"{HERE}:{os.getpid()}:{process_owner._pid_namespace()}/12".replace(":/", ":")
    assert not is_process_dead(name)


def test_heartbeats_continue_after_errors_and_stop_with_the_block():
    beats = []

    def beat():
        beats.append(len(beats))
        raise OSError("the store is away")

    with heartbeat(beat, interval=0.01):
        deadline = time.monotonic() + 10
        while len(beats) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
    assert len(beats) >= 3
    time.sleep(0.05)
    count = len(beats)
    time.sleep(0.1)
    assert len(beats) == count
