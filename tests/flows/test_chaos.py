"""kill -9 of each part of a deployed training, on real servers: what benchmarks/chaos.py does at many more moments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.service, pytest.mark.slow]
_SEED = 7
_CHAOS = """
import json, signal, sys
from pathlib import Path
from chaos import chaos
signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
found = chaos(Path(sys.argv[1]), kills=5, seed=int(sys.argv[2]), trials=6)
print(json.dumps({"kills": found.kills, "looked": found.looked, "wrong": found.wrong}))
"""


def test_each_part_of_a_deployed_training_may_be_killed_and_nothing_is_lost(tmp_path: Path):
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-c", _CHAOS, str(tmp_path), str(_SEED)]
    with subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
        try:
            output, _ = process.communicate(timeout=600)
        finally:
            process.terminate()  # it clears the stage
    assert process.returncode == 0, output
    report = json.loads(output.splitlines()[-1])
    assert sorted(report["kills"].values()) == [1, 1, 1, 1, 1]
    assert report["wrong"] == []
    assert report["looked"] > 10
