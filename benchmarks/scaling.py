"""How training scales with rows, series, look-back and workers: benchmarks/scaling.py [--steps 200]

One LSTM of 64 units on hourly waves, horizon 24, batch 64, one thread a process. Each case is a process of its own,
which maps the arrays of a split from disk as a search's worker does, and trains epochs of so many steps: the seconds of
the last one count. Cases are taken in turn, three rounds, medians. "Memory" is what the process holds beside mapped
pages when training has ended, less what it held when all was imported; "panel" is what the arrays take on disk.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from statistics import median

import numpy as np
from tables import machine, publish, table

from tasks.settings import worker_environment

ROOT = Path(__file__).resolve().parent.parent
HORIZON, BATCH, ROUNDS = 24, 64, 3
CASES = {
    "rows": [{"rows": 10**power} for power in (4, 5, 6, 7)],
    "series": [{"rows": 10**6, "series": 10**power} for power in (0, 2, 4)],
    "look-back": [{"look_back": steps} for steps in (24, 48, 96, 168, 336, 720)],
    "workers": [{"workers": count} for count in (1, 2)],
}


def waves(folder: Path, rows: int, series: int) -> int:
    """The arrays of a split on disk, and their bytes."""
    folder.mkdir()
    length = rows // series
    values = np.sin(2 * np.pi * np.arange(rows, dtype=np.float32) / 24)[:, None].astype(np.float32)
    numbers = np.repeat(np.arange(series, dtype=np.int32), length)
    arrays = {
        "features": values,
        "targets": values,
        "allowed": np.ones(rows, bool),
        "segment": numbers,
        "series": numbers,
        "times": np.arange(rows).astype("datetime64[us]"),
    }
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array[:rows])
    return sum(path.stat().st_size for path in folder.iterdir())


def held() -> int:
    """Bytes of this process that are no file's."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))


def measured(folder: str, look_back: int, steps: int) -> dict[str, float]:
    """What one process prints."""
    import torch

    from lstm.config.model import ModelConfig
    from lstm.data.arrays import SplitArrays
    from lstm.networks.network import ForecastNetwork
    from lstm.networks.training import fit

    torch.set_num_threads(1)
    before, started = held(), time.perf_counter()
    train = SplitArrays.load(Path(folder)).windows(look_back, HORIZON, 0)
    check = SplitArrays.load(Path(folder).with_name("validation")).windows(look_back, HORIZON, 0)
    prepared = time.perf_counter() - started
    config = ModelConfig(
        sequence_length=look_back, horizon=HORIZON, hidden_size=64, num_layers=1, dropout=0.0, batch_size=BATCH,
        epochs=3, steps_per_epoch=steps, input_size=1, output_size=1, device="cpu",
    )  # fmt: skip
    fitted = fit(ForecastNetwork(config, [0]), train, check)
    seconds = fitted.history[-1]["seconds"]
    return {
        "windows": len(train),
        "microseconds": 1e6 * seconds / (steps * BATCH),
        "prepared": prepared,
        "mib": (held() - before) / 2**20,
    }


def run(case: dict[str, int], folder: Path, steps: int) -> dict[str, float]:
    """One case, by as many processes at a time as it says; the mean of them, and their windows a second together."""
    rows, series = case.get("rows", 10**5), case.get("series", 1)
    place = folder / f"{rows}-{series}" / "train"
    if not place.exists():
        place.parent.mkdir()
        waves(place.with_name("validation"), 1000, 1)
        waves(place, rows, series)
    arguments = (str(place), case.get("look_back", 48), steps)
    call = f"import json, scaling; print(json.dumps(scaling.measured(*{arguments!r})))"
    environment = {**worker_environment(1), "PYTHONPATH": f"{ROOT}:{ROOT / 'benchmarks'}"}
    command = [sys.executable, "-c", call]
    count = case.get("workers", 1)
    running = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(count)]
    figures = [json.loads(process.communicate()[0]) for process in running]
    mean = {key: sum(worker[key] for worker in figures) / count for key in figures[0]}
    panel = sum(path.stat().st_size for path in place.iterdir())
    return {**mean, "together": sum(1e6 / worker["microseconds"] for worker in figures), "panel": panel / 2**20}


def lines(results: dict[str, list[tuple[dict, list[dict]]]]) -> Iterator[list[str]]:
    for name, cases in results.items():
        for case, runs in cases:
            value = {key: median(run[key] for run in runs) for key in runs[0]}
            label = ", ".join(f"{key} {number:,}" for key, number in case.items()).replace("_", "-")
            yield [
                name, label, f"{value['windows']:,.0f}", f"{value['microseconds']:.1f}", f"{value['together']:,.0f}",
                f"{value['prepared']:.2f}", f"{value['mib']:.0f}", f"{value['panel']:.1f}",
            ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="training against rows, series, look-back and workers")
    parser.add_argument("--steps", type=int, default=200, help="of the optimiser, an epoch")
    options = parser.parse_args()
    results: dict[str, list] = {name: [(case, []) for case in cases] for name, cases in CASES.items()}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(ROUNDS):
            for cases in results.values():
                for case, runs in cases:
                    runs.append(run(case, Path(folder), options.steps))
    heads = ["", "case", "windows", "µs a window", "windows a second", "origins, s", "memory, MiB", "panel, MiB"]
    text = f"{machine({'torch': version('torch')})}\n\n{table(heads, lines(results))}"
    publish("scaling", text)


if __name__ == "__main__":
    main()
