"""Bad configuration and data: one line, exit code 2, no traceback, no server and no run."""

import os
import signal
import sqlite3
import subprocess
import time

import pytest

from tests.support.tables import DATA, make_hourly
from tests.support.workspace import LSTM, Place


def changed(**columns):
    return make_hourly().assign(**columns)


@pytest.mark.parametrize(
    ("sections", "frame", "message"),
    [
        ({"modle": {}}, None, "shops.yaml: unknown key 'modle'. Did you mean 'model'"),
        ({"search": {"trails": 3}}, None, "unknown key 'search.trails'. Did you mean 'trials'"),
        ({"data": {**DATA, "source": "shops.csv", "target": "sale"}}, None, "column 'sale' is not there"),
        ({"data": {**DATA, "source": "gone.csv"}}, None, "gone.csv: no such file"),
        ({}, changed(sales="many"), "shops.csv: column 'sales', row 1: 'many' is no number"),
        ({}, changed(time="soon"), "shops.csv: column 'time', row 1: 'soon' is no time"),
        ({"window": {"horizon": 5000}}, None, "holds no window of lookback 24 + window.horizon 5000"),
        ({"model": {"device": "cuda:7"}}, None, "device='cuda:7' is not on this machine"),
        ({"search": {"workers": 500}}, None, "`search.workers <= cores` must hold on the CPU"),
    ],
)
def test_bad_input_is_refused_in_one_line_before_a_server_starts(place: Place, sections, frame, message):
    place.write(**sections)
    if frame is not None:
        frame.to_csv(place.folder / "shops.csv", index=False)
    done = place.run("train", "shops.yaml", check=False)
    assert message in done.stderr
    assert done.returncode == 2
    assert done.stderr.startswith("lstm: ") and done.stderr.count("\n") == 1
    assert done.stdout == ""
    assert not list((place.folder / "mlruns").glob("*.db*")) and not (place.folder / "mlruns" / "logs").exists()


def test_usage_errors_have_exit_code_2(place: Place):
    assert place.run("train", check=False).returncode == 2
    assert place.run("tain", check=False).returncode == 2


def statuses(place: Place) -> list[str]:
    database = place.folder / "mlruns" / "mlflow.db"
    if not database.exists():
        return []
    connection = sqlite3.connect(database)
    try:
        return [status for (status,) in connection.execute("SELECT status FROM runs")]
    except sqlite3.OperationalError:  # the tables are still being made
        return []
    finally:
        connection.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_marked_killed_and_leaves_no_process(place: Place, how):
    place.write(search={"trials": 50}, model={"sequence_length": 24, "epochs": 500, "patience": None})
    process = subprocess.Popen(
        [*LSTM, "train", "shops.yaml"],
        cwd=place.folder,
        env=place.environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs the suite in the background has SIGINT ignored, and children inherit that.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while len(statuses(place)) < 3 and time.monotonic() < deadline:
        time.sleep(0.2)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert set(statuses(place)) == {"KILLED"}
    time.sleep(1)
    command = ["pgrep", "--runstates", "D,R,S,T", "-a", "-f", str(place.folder)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
    command = ["pgrep", "--runstates", "D,R,S,T", "-a", "-s", str(process.pid)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == ""
