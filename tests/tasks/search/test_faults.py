"""A search goes through what happens to machines: a locked store, a torn checkpoint, a clock that jumps."""

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
from tasks.search.worker import Job, train
from tasks.tracking import runs, sqlite_timeout
from tests.support.paths import ROOT
from tests.support.prepared_data import prepare
from tests.support.searches import NETWORK, RATES, SEARCH

LOCKED = 30.0  # seconds; MLflow itself waits for twenty


@pytest.fixture
def job(hourly, home, tmp_path):
    """A network to train in a folder of that name."""
    config, _, _, windows = prepare(hourly, tmp_path)
    model = ModelConfig(**{**NETWORK, "epochs": 6, "horizon": config.window.horizon})
    shape = (len(config.data.target), windows.n_known, windows.n_series, config.window.stride)
    return lambda name: Job(model, windows.folder, *shape, tmp_path / name, False)


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
def test_a_network_whose_checkpoint_is_truncated_is_trained_anew_to_the_same_result(job, kept):
    whole = train(job("whole"))
    cut = train(job("torn"), lambda record: "finish" if record["epoch"] == 3 else "go")
    assert cut["state"] == "cut"
    progress = job("torn").folder / "progress.safetensors"
    os.truncate(progress, int(progress.stat().st_size * kept))
    told = []
    again = train(job("torn"), lambda record: told.append(record["epoch"]) or "go")
    assert told == [1, 2, 3, 4, 5, 6]
    assert (again["state"], again["val_rmse"]) == ("done", whole["val_rmse"])


def test_a_locked_store_is_waited_for_longer_than_mlflow_does(store):
    with runs.client()._tracking_client.store.ManagedSessionMaker() as session:
        waits = session.execute(text("PRAGMA busy_timeout")).scalar()
    assert waits == sqlite_timeout.SECONDS * 1000 > LOCKED * 1000


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "x.npy"), "x.npy: can't be written (No space left"),
        (MlflowException("database or disk is full"), "MLflow does not take what is logged (database or disk is full)"),
    ],
)
def test_what_the_disk_or_the_store_does_not_take_is_told_in_one_line(hourly, store, tmp_path, error, said):
    config, table, *_ = prepare(hourly, tmp_path)
    with pytest.raises(StoreError) as told, runs.parent_run(config, table, ["cpu"], "") as run:
        raise error
    assert said in str(told.value) and "\n" not in str(told.value) and told.value.__cause__ is error
    assert runs.client().get_run(run.run_id).info.status == "FAILED"


def test_a_store_that_is_away_at_the_end_does_not_hide_what_went_wrong(hourly, store, tmp_path, monkeypatch):
    def away(*_):
        raise MlflowException("away")

    config, table, *_ = prepare(hourly, tmp_path)
    with pytest.raises(ZeroDivisionError), runs.parent_run(config, table, ["cpu"], "") as run:
        monkeypatch.setattr(runs, "end", away)
        raise ZeroDivisionError
    assert runs.client().get_run(run.run_id).data.tags["owner"] == this_process()


def environment_of(home, variables):
    """Of a process with stores of its own, whatever other tests, or MLflow, have set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_", "LSTM_"))}
    return {**kept, "LSTM_HOME": str(home), "PYTHONPATH": str(ROOT), **variables}


@pytest.fixture
def searching(hourly, tmp_path):
    """A way to start a search of five trials in a home of that name, with more variables in its environment."""
    hourly.to_csv(tmp_path / "shops.csv", index=False)
    search = {"trials": 5, "space": RATES}
    sections = json.dumps({"model": {**NETWORK, "epochs": 12}, "search": search})

    def start(name, **variables):
        environment = environment_of(tmp_path / name, variables)
        command = [sys.executable, "-c", SEARCH, sections]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return tmp_path / name, subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes)

    return start


def until(process, home, ended):
    """Until so many trials have ended; the process is alive then."""
    while len(list(home.glob("studies/shops/*/trial-*/result.json"))) < ended and process.poll() is None:
        time.sleep(0.02)


def result(process):
    """What it has found, and what it said."""
    out, said = process.communicate(timeout=240)
    assert process.returncode == 0, said
    return json.loads(out)


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
def test_a_search_goes_through_a_store_that_is_locked_for_thirty_seconds(searching):
    home, process = searching("locked")
    until(process, home, 1)
    with closing(sqlite3.connect(home / "mlflow.db", isolation_level=None, timeout=0)) as other:
        lock_while_stopped(other, process)
        locked = time.monotonic()
        time.sleep(LOCKED)
        waited = process.poll() is None
        other.execute("COMMIT")
    assert waited and time.monotonic() - locked >= LOCKED
    ended, answered, found = result(process)
    assert (ended, answered) == (5, 0) and found
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
    """The variables of a process whose wall clock jumps, and a way to let it jump by so many seconds from now."""
    if sys.platform != "linux" or shutil.which("cc") is None:
        pytest.skip("a wall clock that jumps for some processes alone is made with a C compiler on Linux")
    (tmp_path / "jump.c").write_text(JUMP)
    library, file = tmp_path / "jump.so", tmp_path / "jump"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, tmp_path / "jump.c"], check=True)
    file.write_bytes(bytes(8))

    def jump(seconds):
        with file.open("r+b") as opened:
            opened.write(struct.pack("l", seconds))

    return {"LD_PRELOAD": str(library), "CLOCK_JUMP": str(file)}, jump


@pytest.mark.slow
def test_a_search_finds_the_same_while_the_clock_jumps_a_day_ahead_and_back(searching, clock):
    variables, jump = clock
    _, process = searching("steady")
    expected = result(process)
    home, process = searching("jumping", **variables)
    until(process, home, 1)
    jump(86_400)
    until(process, home, 3)
    process.send_signal(signal.SIGSTOP)  # else it may have ended before anybody has looked
    environment = environment_of(home, variables)
    look = subprocess.run(
        [sys.executable, "-c", RECONCILE], env=environment, capture_output=True, text=True, check=True
    )
    alive = process.poll() is None
    process.send_signal(signal.SIGCONT)
    jump(-86_400)
    found = result(process)
    clock_then, repairs = look.stdout.splitlines()
    assert float(clock_then) - time.time() > 80_000  # it did jump
    assert alive and repairs == "Repairs(runs=0, aliases=0, flow_runs=0, leftovers=0, lines=(), left=())"
    assert found == expected and statuses(home) == {"FINISHED"}
