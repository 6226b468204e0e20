"""`lstm train` on a disk that is full in the middle of it."""

import json
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from tests.support.stores import copy_stores
from tests.support.workspace import LSTM, Place

# In a mount namespace of its own, so that whatever becomes of it nothing stays mounted. The disk is filled when one
# trial has ended, and kept full; then room is made and the same command is run again.
FULL = r"""
set -u
mount -t tmpfs -o size=60m tmpfs disk
cp -r stores/. disk/
"$@" >full.out 2>full.err & train=$!
until ls disk/studies/shops/*/trial-*/result.json >/dev/null 2>&1 || ! kill -0 $train 2>/dev/null; do sleep 0.05; done
while kill -0 $train 2>/dev/null; do cat /dev/zero >>disk/filler; sleep 0.02; done 2>/dev/null
wait $train; echo $? >full.code
rm disk/filler
ls disk/studies/shops/*/trial-*/result.json | wc -l >full.ended
find disk -name '*.making' -o -name '.*.[0-9]*' >full.torn
"$@" >again.out 2>again.err; echo $? >again.code
cp disk/mlflow.db* .
"""


SMALL = {"sequence_length": 24, "hidden_size": 16, "num_layers": 1, "epochs": 30, "patience": None}


def may_mount() -> bool:
    command = ["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    try:
        return sys.platform == "linux" and subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except OSError:
        return False


@pytest.mark.slow
def test_a_full_disk_is_told_in_one_line_and_with_room_again_the_search_goes_on(trained, place: Place):
    if not may_mount():
        pytest.skip("a small disk is a tmpfs in a mount namespace, which takes root on Linux")
    place.write(search={"trials": 4, "pruner": "none"}, model=SMALL)
    copy_stores(trained[0].folder / "mlruns", place.folder / "stores", "studies")
    copy_stores(trained[0].folder / "prefect", place.folder / "prefect")
    (place.folder / "disk").mkdir()
    environment = {**place.environment, "LSTM_HOME": str(place.folder / "disk")}
    command = ["unshare", "-m", "bash", "-c", FULL, "full", *LSTM, "train", "shops.yaml", "--json"]
    subprocess.run(command, cwd=place.folder, env=environment, check=True, timeout=600)

    def left(name: str) -> str:
        return (place.folder / name).read_text().strip()

    assert left("full.code") == "2", left("full.err")
    assert left("full.out") == ""
    assert left("full.err").startswith("lstm: ") and "\n" not in left("full.err")
    assert "Make room" in left("full.err") or "full" in left("full.err")
    assert left("full.torn") == ""
    assert left("again.code") == "0", left("again.err")
    assert json.loads(left("again.out"))["search"].startswith(
        f"4 of 4 trials, 0 of them pruned, {left('full.ended')} known"
    )
    with closing(sqlite3.connect(place.folder / "mlflow.db")) as connection:
        statuses = [status for (status,) in connection.execute("SELECT DISTINCT status FROM runs")]
    assert statuses and "RUNNING" not in statuses
