"""What Prefect, MLflow and Optuna cost: the flow against the bare library on the same trials: benchmarks/overhead.py

    benchmarks/overhead.py [--trials 8] [--epochs 20] [--rounds 2]

The weather example's data and one network with as many seeds as there are trials, by as many workers as there are
cores:

- bare: that many processes that import the library and call `fit`, one network after the other, and nothing else;
- embedded: `lstm train` with stores that are there, which starts a Prefect server of its own;
- servers: the same against a Prefect server and an MLflow server that run already.

Interleaved, medians. "Search" is the bare wall time from the start of the processes to their end, and the flow's step
`train`. "Start" is what passes from the start of the command to the first trial, less what `import torch` takes.
"After" is evaluation, registration and exit. Each flow run forgets the study before (`--fresh`), so that it trains.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import yaml
from tables import machine, publish, table

from tasks.settings import ALLOCATOR_SETTINGS

ROOT = Path(__file__).resolve().parent.parent
CORES = len(os.sched_getaffinity(0))
EPOCHS_LOGGED = 100


def configuration(trials: int, epochs: int) -> dict:
    example = yaml.safe_load((ROOT / "examples" / "nyc_weather.yaml").read_text())
    network = {"sequence_length": 48, "patch_length": 1, "hidden_size": 64, "num_layers": 1, "anchor": "last"}
    return {
        **{key: example[key] for key in ("data", "split", "window") if key in example},
        "name": "overhead",
        "model": {**network, "epochs": epochs, "patience": None, "batch_size": 64, "device": "cpu"},
        "ensemble": {"members": [{"seed": seed} for seed in range(trials)], "size": 2},
        "search": {"trials": trials, "space": {}, "timeout": "2h"},
    }


def bare(folder: Path) -> float:
    """Seconds of the trainings alone."""
    from lstm.data.panel_store import PanelStore
    from lstm.load_config import load_config
    from lstm.presets.presets import with_defaults
    from lstm.profiling.run_lengths import RunLengths
    from tasks.ingest import ingest
    from tasks.normalize import normalize
    from tasks.search.worker_pool import make_job
    from tasks.window import window

    config = load_config(folder / "overhead.yaml")
    panel = normalize.fn(config, ingest.fn(config))
    config = with_defaults(
        config, RunLengths.of(PanelStore.load(panel.folder), config.evaluate.season, config.window.horizon)
    )
    windows = window.fn(config, panel)
    jobs = [make_job(config, windows, config.network_config(member), folder / "unused") for member in config.members]
    os.environ.update(ALLOCATOR_SETTINGS)  # as the search's workers have it
    started = time.perf_counter()
    with get_context("spawn").Pool(CORES, initializer=one_thread) as pool:
        for _ in pool.imap_unordered(fitted, jobs):
            pass
    return time.perf_counter() - started


def one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def fitted(job) -> int:
    from tasks.search import worker

    training, validation = worker._load_windows(job)
    sized = job.config.model_copy(update={"input_size": training.features.shape[1], "output_size": job.n_targets})
    network = worker.ForecastNetwork(sized, range(job.n_targets), job.n_known, job.n_series)
    return len(worker.fit(network, training, validation).history)


def flow(folder: Path, environment: dict[str, str]) -> dict[str, float]:
    """Seconds of `lstm train`, by stage."""
    command = [str(Path(sys.executable).with_name("lstm")), "train", "overhead.yaml", "--json", "--fresh"]
    started, begun = time.time(), time.perf_counter()
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    whole = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(done.stderr)
    search = json.loads(done.stdout)["seconds"]["train"]
    journal = max((folder / "mlruns" / "studies" / "overhead").glob("*/study.journal"), key=os.path.getmtime)
    entries = (json.loads(line) for line in journal.read_text().splitlines())
    first = next(entry["datetime_start"] for entry in entries if entry.get("datetime_start"))
    begin = datetime.fromisoformat(first).timestamp() - started - import_seconds()
    return {"search": search, "start": begin, "whole": whole}


def import_seconds() -> float:
    """Of torch, in a process of its own."""
    code = "import time; s = time.perf_counter(); import torch; print(time.perf_counter() - s)"
    seconds = [float(subprocess.check_output([sys.executable, "-c", code])) for _ in range(3)]
    return median(seconds)


@contextmanager
def servers(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """The environment with a Prefect and an MLflow server."""
    prefect, mlflow = free_port(), free_port()
    binaries = Path(sys.executable).parent
    quiet = {**environment, "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    commands = (
        [str(binaries / "prefect"), "server", "start", "--port", str(prefect)],
        [
            *(str(binaries / "mlflow"), "server", "--port", str(mlflow), "--workers", "1"),
            *("--backend-store-uri", f"sqlite:///{folder / 'served.db'}"),
            *("--artifacts-destination", str(folder / "served")),
        ],
    )
    with (folder / "servers.log").open("wb") as log:
        running = [subprocess.Popen(c, cwd=folder, env=quiet, stdout=log, stderr=log) for c in commands]
    try:
        answers(f"http://127.0.0.1:{prefect}/api/health")
        answers(f"http://127.0.0.1:{mlflow}/health")
        api, uri = f"http://127.0.0.1:{prefect}/api", f"http://127.0.0.1:{mlflow}"
        yield {**environment, "PREFECT_API_URL": api, "MLFLOW_TRACKING_URI": uri}
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(url: str) -> None:
    for _ in range(600):
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return
        except OSError:
            time.sleep(0.2)
    raise SystemExit(f"{url} does not answer")


def tracking_per_epoch(folder: Path) -> tuple[float, float]:
    """Milliseconds an epoch: what the search waits for, and what the thread beside it then works."""
    os.environ["LSTM_HOME"] = str(folder / "tracked")
    from lstm.config.model import ModelConfig
    from tasks.handles import RunHandle
    from tasks.search.trial_logger import trial_logger
    from tasks.tracking import runs

    parent = runs.start_run(runs.experiment_id("epochs"), "parent", {"kind": "train"})
    keys = ("train_loss", "val_loss", "val_rmse", "learning_rate", "gradient_norm", "seconds")
    started = time.perf_counter()
    with trial_logger(RunHandle(parent.run_id, parent.experiment_id, "parent")) as logger:
        logger.start(0, ModelConfig())
        logger.flush()
        started = time.perf_counter()
        for epoch in range(1, EPOCHS_LOGGED + 1):
            logger.log_epochs(0, [{"epoch": epoch, **dict.fromkeys(keys, 0.1)}])
        logger.end(0)
        waited = time.perf_counter() - started
    return 1000 * waited / EPOCHS_LOGGED, 1000 * (time.perf_counter() - started) / EPOCHS_LOGGED


def main() -> None:
    parser = argparse.ArgumentParser(description="the flow against the bare library")
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    hidden = ("MLFLOW_", "PREFECT_", "LSTM_")
    kept = {key: value for key, value in os.environ.items() if not key.startswith(hidden)}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        environment = {**kept, "LSTM_HOME": str(folder / "mlruns"), "PREFECT_HOME": str(folder / "prefect")}
        text = yaml.safe_dump(configuration(2, 1))
        (folder / "overhead.yaml").write_text(text)
        flow(folder, environment)  # makes the stores
        (folder / "overhead.yaml").write_text(yaml.safe_dump(configuration(options.trials, options.epochs)))
        os.environ["LSTM_HOME"] = str(folder / "mlruns")
        alone, embedded, served = [], [], []
        for _ in range(options.rounds):
            alone.append(bare(folder))
            embedded.append(flow(folder, environment))
            with servers(folder, environment) as there:
                served.append(flow(folder, there))
        waited, worked = tracking_per_epoch(folder)
    rows = [["bare library", f"{median(alone):.1f}", "–", "–", "–"]]
    for label, durations in (("embedded", embedded), ("servers running", served)):
        search, start, whole = (median(run[key] for run in durations) for key in ("search", "start", "whole"))
        ratio = median(run["search"] / bare_seconds for run, bare_seconds in zip(durations, alone, strict=True))
        rows.append(
            [label, f"{search:.1f}", f"{100 * (ratio - 1):+.1f} %", f"{start:.1f}", f"{whole - search - start:.1f}"]
        )
    packages = {name: version(name) for name in ("torch", "prefect", "mlflow", "optuna")}
    text = (
        f"{machine(packages)} {options.trials} trials of {options.epochs} epochs, {CORES} workers, {options.rounds} "
        f"rounds.\n\n{table(['', 'search, s', 'more than bare', 'start without torch, s', 'rest, s'], rows)}\n\n"
        f"Tracking of an epoch: the search waits {waited:.3f} ms; the thread beside it works {worked:.2f} ms."
    )
    publish("overhead", text)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    main()
