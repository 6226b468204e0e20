"""Kill -9 a search and its workers at random moments, and see that nothing is lost: benchmarks/chaos.py [--kills 20]

A search of some small networks by two workers is started again and again. At a random moment one of its workers is
killed, or the search itself; a killed worker is left to the search, a killed search is started anew. When it has ended
by itself:

- every trial is in the study once, and complete or pruned; none has gone on after it had ended (by the results' times);
- every network is trained once more, undisturbed, and its weights are compared with those of the search bit for bit.

Exit code 1 where any of this does not hold. Prints the seed; writes the table to benchmarks/README.md.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import optuna
import pandas as pd
import psutil
import torch
from tables import machine, publish, table

ROOT = Path(__file__).resolve().parent.parent
TRIALS = 24
_CONFIG = {
    "name": "chaos",
    "data": {"source": "waves.csv", "time": "time", "series": "name", "target": "value", "frequency": "1h"},
    "split": {"validation": "5d", "test": "5d"},
    "window": {"horizon": 12},
    "model": {"sequence_length": 24, "epochs": 150, "patience": 150, "device": "cpu"},
    "ensemble": {"members": []},
    "search": {
        "trials": TRIALS,
        "timeout": "1h",
        "workers": 2,
        "space": {
            "hidden_size": [16, 24, 32],
            "num_layers": {"low": 1, "high": 2},
            "dropout": {"low": 0.0, "high": 0.5},
            "learning_rate": {"low": 1e-3, "high": 1e-2, "log": True},
        },
    },
}


def prepared():
    """Configuration and windows of the search, in the working directory."""
    from lstm.pipeline_config import PipelineConfig
    from tasks.ingest import ingest
    from tasks.normalize import normalize
    from tasks.window import window

    config = PipelineConfig.parse(_CONFIG)
    table = ingest.fn(config)
    return config, table, window.fn(config, normalize.fn(config, table))


def search() -> None:
    """What is killed: the search with its tracking, without Prefect's server."""
    from tasks import tracking
    from tasks.train import train

    config, table, windows = prepared()
    with tracking.parent_run(config, table, ["cpu"] * 2, "") as run:
        train.fn(config, windows, run, ["cpu"] * 2)


def waves(path: Path) -> None:
    generator, hours = np.random.default_rng(0), np.arange(60 * 24)
    parts = [
        pd.DataFrame(
            {
                "time": pd.date_range("2024-01-01", periods=len(hours), freq="h", tz="UTC"),
                "name": name,
                "value": np.sin(2 * np.pi * hours / 24 + shift) + generator.normal(0, 0.3, len(hours)),
            }
        )
        for shift, name in enumerate("ab")
    ]
    pd.concat(parts).to_csv(path, index=False)


class Place:
    """A folder with data and stores, and the search that runs there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        waves(folder / "waves.csv")
        hidden = ("MLFLOW_", "PREFECT_", "LSTM_")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
        self.environment = {**kept, "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}

    def start(self) -> subprocess.Popen:
        command = [sys.executable, "-c", "import chaos; chaos.search()"]
        return subprocess.Popen(command, cwd=self.folder, env=self.environment, start_new_session=True)

    @property
    def study_folder(self) -> Path | None:
        return next(iter(self.folder.glob("mlruns/studies/chaos/*/")), None)

    def study(self) -> optuna.Study:
        from tasks.study import load_study

        place = self.study_folder
        assert place is not None
        found = load_study(f"chaos/{place.name}", place)
        assert found is not None
        return found


def disturbed(place: Place, kills: int, dice: random.Random) -> dict[str, int]:
    """Run the search to its end, with so many kills before."""
    counts = {"search": 0, "worker": 0}
    running = place.start()
    for _ in range(kills):
        wanted = dice.choice(["search", "worker"])
        busy = _workers_of(running) if wanted == "worker" else []
        time.sleep(dice.uniform(0, 4) if busy else dice.uniform(0, 14))
        if running.poll() is not None:
            break
        if busy := [worker for worker in busy if worker.is_running()]:
            dice.choice(busy).kill()
        else:
            running.kill()
            running.wait()
            running = place.start()
        counts["worker" if busy else "search"] += 1
    if running.wait() != 0:
        raise SystemExit("the search did not end well")
    return counts


def _workers_of(search: subprocess.Popen) -> list[psutil.Process]:
    """Its workers, once there are some; none where it ends before."""
    while search.poll() is None:
        if found := psutil.Process(search.pid).children():
            return found
        time.sleep(0.05)
    return []


def checked(place: Place) -> dict[str, object]:
    """What holds of the study, and of every network."""
    os.chdir(place.folder)
    study, folder = place.study(), place.study_folder
    assert folder is not None
    states = [trial.state.name for trial in study.trials]
    results = {path.parent.name: path.stat().st_mtime for path in folder.glob("trial-*/result.json")}
    late = [
        trial.number
        for trial in study.trials
        if trial.datetime_complete and results[f"trial-{trial.number:03d}"] > trial.datetime_complete.timestamp()
    ]
    networks = _finished(study)
    same = [number for number in networks if _retrained_is_same(folder, study.trials[number])]
    return {
        "trials": len(states),
        "complete": states.count("COMPLETE"),
        "pruned": states.count("PRUNED"),
        "others": len(states) - states.count("COMPLETE") - states.count("PRUNED"),
        "ended twice": len(late),
        "networks": len(networks),
        "same bits": len(same),
    }


def _finished(study: optuna.Study) -> list[int]:
    return [
        trial.number for trial in study.trials if trial.state.name == "COMPLETE" and "same_as" not in trial.user_attrs
    ]


def _retrained_is_same(folder: Path, trial: optuna.trial.FrozenTrial) -> bool:
    from lstm.networks.checkpoint import load_checkpoint
    from tasks.worker import Job
    from tasks.worker import train as train_network

    torch.set_num_threads(1)
    config, _, windows = prepared()
    with tempfile.TemporaryDirectory() as other:
        network = config.network(trial.user_attrs["changes"]).replace(device="cpu")
        counts = {"n_targets": 1, "n_known": windows.n_known, "n_series": windows.n_series, "stride": 1}
        train_network(Job(network, windows.folder, **counts, folder=Path(other), timed=False))
        (ours, _), (again, _) = (
            load_checkpoint(place / "network.safetensors")
            for place in (folder / f"trial-{trial.number:03d}", Path(other))
        )
    return all(torch.equal(ours[name], again[name]) for name in ours)


def main() -> None:
    parser = argparse.ArgumentParser(description="kill -9 a search at random moments")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        place = Place(Path(folder))
        counts = disturbed(place, options.kills, random.Random(options.seed))
        found = checked(place)
        os.chdir(ROOT)
    print({**counts, **found})
    rows = [
        ("kills of a worker", counts["worker"]),
        ("kills of the search, with its workers", counts["search"]),
        ("trials planned", TRIALS),
        *((f"trials {name}" if name in ("complete", "pruned") else name, value) for name, value in found.items()),
    ]
    versions = {"torch": torch.__version__, "optuna": optuna.__version__}
    publish("chaos", f"{machine(versions)} Seed {options.seed}.\n\n" + table(["", ""], [[k, str(v)] for k, v in rows]))
    if found["trials"] != TRIALS or found["others"] or found["ended twice"] or found["same bits"] != found["networks"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
