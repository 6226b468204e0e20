"""What the flows leave behind in the process that runs them: nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT

pytestmark = [pytest.mark.service, pytest.mark.slow]
_CYCLES = """
import json, sys
from pathlib import Path
from endurance import Endurance, served
folder, cycles = Path(sys.argv[1]), int(sys.argv[2])
with served(folder):
    pipeline = Endurance(folder, cycles)
    looks = []
    for number in range(cycles):
        pipeline.cycle(number, train=number % 2 == 1)
        looks.append(pipeline.look())
print(json.dumps(looks))
"""


def test_files_threads_and_processes_do_not_grow_over_forecasts_judgements_and_trainings(tmp_path: Path):

    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-c", _CYCLES, str(tmp_path), "6"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    looks = json.loads(done.stdout.splitlines()[-1])
    warm, last = looks[1], looks[-1]
    for name in ("open files", "threads", "processes"):
        # what Prefect's client holds comes and goes; what is left by a cycle or a training adds up to four or more
        assert last[name] <= warm[name] + 2, [look[name] for look in looks]
    assert last["forecasts, MB"] > 0
