"""One study worked off by one process, by two, and by a Dask cluster: benchmarks/cluster.py [--trials 200]

Small networks (some tenths of a CPU-second each, proposed by TPE, no pruner) on two hourly series of 40 days, one
thread a process. Each case is a process of its own with new stores; PostgreSQL is started for it and runs on this
machine, as does everything else: two processes share the cores with the database. "Trained twice" are networks of
which two trials hold weights, "lost" are trials that were asked for and have not ended. Throughput is from the first
trial's start to the last one's end; "seconds" hold the start of the processes and the end of the tracking, too.
"""

import argparse
import json
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

from tables import machine, publish, table

ROOT = Path(__file__).resolve().parent.parent
WORK = """
import pickle, sys
from tasks.search.distributed import run_on_node
run_on_node(pickle.load(sys.stdin.buffer), 1)
"""
MODEL = {"sequence_length": 48, "num_layers": 1, "epochs": 4, "patience": None, "device": "cpu", "dropout": 0.0}
SPACE = {
    "hidden_size": {"low": 16, "high": 48},
    "learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
    "weight_decay": {"low": 1e-6, "high": 1e-2, "log": True},
}
CASES = {  # study kept in, runner, processes
    "one process, journal": (False, "local", 1),
    "two workers of one process, journal": (False, "local", 2),
    "one process, PostgreSQL": (True, "local", 1),
    "two processes, PostgreSQL": (True, "processes", 2),
    "Dask, two workers, PostgreSQL": (True, "dask", 2),
}


def measured(runner: str, count: int, trials: int) -> dict[str, float]:
    """What one case comes to, in a process of its own."""
    from tasks.ingest import ingest
    from tasks.normalize import normalize
    from tasks.search.study import load_study
    from tasks.tracking import runs
    from tasks.train import train
    from tasks.window import window

    config = _config(runner, count, trials)
    ingested = ingest.fn(config)
    windows = window.fn(config, normalize.fn(config, ingested))
    started = time.perf_counter()
    with runs.parent_run(config, ingested, ["cpu"], "") as run:
        if runner == "processes":
            _by_processes(config, windows, run, count)
        else:
            train.fn(config, windows, run, ["cpu"] * count)
    seconds = time.perf_counter() - started
    folder = next(Path(os.environ["LSTM_HOME"], "studies", config.name).iterdir())
    study = load_study(f"{config.name}/{folder.name}", folder)
    assert study is not None
    return {"seconds": seconds, **_counted(study.trials, folder, trials)}


def _config(runner: str, count: int, trials: int):
    from lstm.config.pipeline import PipelineConfig

    return PipelineConfig.parse(
        {
            "name": "cluster",
            "data": {"source": "shops.csv", "time": "time", "series": "shop", "target": "sales", "frequency": "1h"},
            "split": {"validation": "5d", "test": "5d"},
            "window": {"horizon": 12},
            "model": MODEL,
            "search": {"trials": trials, "pruner": "none", "workers": 1, "space": SPACE},
            "execution": {"runner": runner, "workers": count} if runner == "dask" else {},
        }
    )


def _by_processes(config, windows, run, count: int) -> None:
    """Shares in processes that are started by hand."""
    from tasks.search.leases import search_session
    from tasks.search.search_job import SearchJob
    from tasks.search.workspace import study_workspace

    with study_workspace(config, windows, False) as (study, folder), search_session(study) as owner_run_id:
        job = SearchJob.of(config, windows, run, study, folder, owner_run_id)
        running = [subprocess.Popen([sys.executable, "-c", WORK], stdin=subprocess.PIPE) for _ in range(count)]
        for process in running:
            assert process.stdin is not None
            with process.stdin as pipe:
                pickle.dump(job, pipe)
        if any([process.wait() for process in running]):
            raise SystemExit("a process of the search has failed")


def _counted(trials, folder: Path, planned: int) -> dict[str, float]:
    from tasks.handles import trial_name
    from tasks.search.trial_folder import result_of

    ended = [trial for trial in trials if trial.datetime_complete]
    trained = [trial for trial in ended if result_of(folder / trial_name(trial.number))]
    networks = Counter(trial.user_attrs["network"] for trial in trained)
    first = min(trial.datetime_start for trial in ended)
    span = (max(trial.datetime_complete for trial in ended) - first).total_seconds()
    return {
        "trials": len(trials),
        "twice": sum(networks.values()) - len(networks),
        "lost": planned - len(ended) if len(ended) < planned else len(trials) - len(ended),
        "throughput": len(ended) / span,
        "training": sum(result_of(folder / trial_name(trial.number)).metrics.seconds for trial in trained)
        / len(trained),
    }


def run(runner: str, count: int, trials: int, address: str) -> dict[str, float]:
    """One case, with new stores."""
    from tests.support.tables import make_hourly

    with tempfile.TemporaryDirectory() as folder:
        make_hourly().to_csv(Path(folder, "shops.csv"), index=False)
        environment = {
            **{name: value for name, value in os.environ.items() if name not in ("MLFLOW_TRACKING_URI", "LSTM_HOME")},
            "LSTM_HOME": f"{folder}/stores",
            "LSTM_STUDY_STORAGE": address,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}",
            "OMP_NUM_THREADS": "1",
        }
        call = f"import json, cluster; print(json.dumps(cluster.measured({runner!r}, {count}, {trials})))"
        done = subprocess.run(
            [sys.executable, "-c", call], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True, check=True
        )
    return json.loads(done.stdout.splitlines()[-1])


def lines(results: dict[str, dict[str, float]]) -> Iterator[list[str]]:
    first = next(iter(results.values()))["throughput"]
    for name, value in results.items():
        yield [
            name, f"{value['trials']:.0f}", f"{value['twice']:.0f}", f"{value['lost']:.0f}", f"{value['seconds']:.0f}",
            f"{value['training']:.2f}", f"{value['throughput']:.2f}", f"{value['throughput'] / first:.2f}",
        ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="one study, one process or several")
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    from tests.support.postgres import postgres_server

    results = {}
    for name, (in_database, runner, count) in CASES.items():
        if in_database:
            with postgres_server() as address:
                results[name] = run(runner, count, options.trials, address)
        else:
            results[name] = run(runner, count, options.trials, "")
        print(name, results[name], file=sys.stderr, flush=True)
    heads = ["", "trials", "trained twice", "lost", "seconds", "s of training a trial", "trials a second", "ratio"]
    versions = {name: version(name) for name in ("torch", "optuna", "distributed")}
    publish("cluster", f"{machine(versions)} PostgreSQL 15.\n\n{table(heads, lines(results))}")


if __name__ == "__main__":
    main()
