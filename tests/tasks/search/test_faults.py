"""Faults of the machine during a search: a locked store, a truncated checkpoint, a clock that jumps."""

import errno
import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from contextlib import closing

import pytest
from mlflow.exceptions import MlflowException
from sqlalchemy import text

from lstm.config.model import ModelConfig
from lstm.errors import StoreError
from tasks.runtime.process_owner import this_process
from tasks.search.worker import train
from tasks.search.worker_pool import make_job
from tasks.tracking import runs, sqlite_timeout
from tests.support.paths import ROOT
from tests.support.prepared_data import prepare
from tests.support.searches import NETWORK, RATES, SEARCH

LOCKED = 30.0  # seconds; MLflow itself waits for 20


@pytest.fixture
def job(hourly, home, tmp_path):
    """A function that returns the job of a network in a folder of that name."""
    config, _, _, windows = prepare(hourly, tmp_path)
    network = ModelConfig(**{**NETWORK, "epochs": 6, "horizon": config.window.horizon})
    return lambda name: make_job(config, windows, network, tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_network_with_a_truncated_checkpoint_is_trained_again_to_the_same_result(job, kept):
    undisturbed = train(job("undisturbed"))
    interrupted = train(job("truncated"), lambda record: "finish" if record["epoch"] == 3 else "continue")
    assert interrupted.state == "interrupted"
    progress = job("truncated").folder / "progress.safetensors"
    os.truncate(progress, int(progress.stat().st_size * kept))
    epochs = []
    result = train(job("truncated"), lambda record: epochs.append(record["epoch"]) or "continue")
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert result.state == "done"
    assert result.metrics.val_rmse_normalized == undisturbed.metrics.val_rmse_normalized


def test_the_busy_timeout_of_the_store_is_longer_than_that_of_mlflow(store):
    with runs.client()._tracking_client.store.ManagedSessionMaker() as session:
        timeout = session.execute(text("PRAGMA busy_timeout")).scalar()
    assert timeout == sqlite_timeout.TIMEOUT_S * 1000 > LOCKED * 1000


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), "x.npy: can't be written (No space left"),
        (MlflowException("database or disk is full"), "does not accept what is logged (database or disk is full)"),
    ],
)
def test_an_error_of_the_disk_or_the_store_is_reported_in_one_line(hourly, store, tmp_path, error, message):
    config, table, *_ = prepare(hourly, tmp_path)
    with pytest.raises(StoreError) as caught, runs.parent_run(config, table, ["cpu"], "") as run:
        raise error
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert caught.value.__cause__ is error
    assert runs.client().get_run(run.run_id).info.status == "FAILED"


def test_an_unreachable_store_does_not_hide_the_error_of_the_run(hourly, store, tmp_path, monkeypatch):
    def unreachable(*_):
        raise MlflowException("unreachable")

    config, table, *_ = prepare(hourly, tmp_path)
    with pytest.raises(ZeroDivisionError), runs.parent_run(config, table, ["cpu"], "") as run:
        monkeypatch.setattr(runs, "end", unreachable)
        raise ZeroDivisionError
    assert runs.client().get_run(run.run_id).data.tags["owner"] == this_process()


def environment_of(home, variables):
    """Return the environment of a process with its own stores."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "LSTM_"))}
    return {**kept, "LSTM_HOME": str(home), "PYTHONPATH": str(ROOT), **variables}


@pytest.fixture
def start_search(hourly, tmp_path):
    """A function that starts a search of five trials; it returns its home, of that name, and the process."""
    hourly.to_csv(tmp_path / "shops.csv", index=False)
    search = {"trials": 5, "space": RATES}
    sections = json.dumps({"model": {**NETWORK, "epochs": 12}, "search": search})

    def start(name, **variables):
        environment = environment_of(tmp_path / name, variables)
        command = [sys.executable, "-c", SEARCH, sections]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return tmp_path / name, subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    return start


def wait_for_trials(process, home, ended):
    """Wait until so many trials have ended."""
    while len(list(home.glob("studies/shops/*/trial-*/result.json"))) < ended and process.poll() is None:
        time.sleep(0.02)


def result(process):
    """Return what the process has printed, from JSON."""
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return json.loads(output)


def statuses(home):
    with closing(sqlite3.connect(home / "mlflow.db")) as connection:
        return {status for (status,) in connection.execute("SELECT status FROM runs")}


def lock_while_stopped(other, process):
    """Lock the store at a moment at which the process does not write; else its writes would leave no gap."""
    while True:
        process.send_signal(signal.SIGSTOP)
        try:
            other.execute("BEGIN EXCLUSIVE")
            return
        except sqlite3.OperationalError:
            time.sleep(0.02)
        finally:
            process.send_signal(signal.SIGCONT)


@pytest.mark.slow
def test_a_search_survives_a_store_that_is_locked_for_thirty_seconds(start_search):
    home, process = start_search("locked")
    wait_for_trials(process, home, 1)
    with closing(sqlite3.connect(home / "mlflow.db", isolation_level=None, timeout=0)) as other:
        lock_while_stopped(other, process)
        locked = time.monotonic()
        time.sleep(LOCKED)
        waited = process.poll() is None
        other.execute("COMMIT")
    assert waited and time.monotonic() - locked >= LOCKED
    n_ended, n_cached, errors = result(process)
    assert (n_ended, n_cached) == (5, 0) and errors
    assert statuses(home) == {"FINISHED"}


JUMP = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) {
    static volatile long *seconds;
    if (!seconds) seconds = mmap(0, 8, PROT_READ, MAP_SHARED, open(getenv("CLOCK_JUMP"), O_RDONLY), 0);
    return *seconds;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += jump();
    return failed;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    now->tv_sec = found.tv_sec;
    now->tv_usec = found.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec found;
    clock_gettime(CLOCK_REALTIME, &found);
    if (now) *now = found.tv_sec;
    return found.tv_sec;
}
"""
RECONCILE = "import time; from tasks.operations.reconcile import reconcile; print(time.time()); print(reconcile())"


@pytest.fixture
def clock(tmp_path):
    """The variables of a process whose wall clock jumps, and a function that lets it jump by so many seconds."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("needs a C compiler on Linux")
    (tmp_path / "jump.c").write_text(JUMP)
    library, file = tmp_path / "jump.so", tmp_path / "jump"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "jump.c"], check=True)
    file.write_bytes(bytes(8))

    def jump(seconds):
        with file.open("r+b") as opened:
            opened.write(struct.pack("l", seconds))

    return {"LD_PRELOAD": str(library), "CLOCK_JUMP": str(file)}, jump


@pytest.mark.slow
def test_a_search_has_the_same_result_while_the_clock_jumps_a_day_ahead_and_back(start_search, clock):
    variables, jump = clock
    _, process = start_search("steady")
    expected = result(process)
    home, process = start_search("jumping", **variables)
    wait_for_trials(process, home, 1)
    jump(86_400)
    wait_for_trials(process, home, 3)
    process.send_signal(signal.SIGSTOP)  # else it may end before `reconcile` runs
    environment = environment_of(home, variables)
    reconciled = subprocess.run(
        [sys.executable, "-c", RECONCILE], env=environment, capture_output=True, text=True, check=True
    )
    alive = process.poll() is None
    process.send_signal(signal.SIGCONT)
    jump(-86_400)
    actual = result(process)
    jumped_time, repairs = reconciled.stdout.splitlines()
    assert float(jumped_time) - time.time() > 80_000
    assert alive and repairs == "Repairs(runs=0, aliases=0, flow_runs=0, leftovers=0, lines=(), left=())"
    assert actual == expected and statuses(home) == {"FINISHED"}
