"""Does an unattended pipeline stay as it is? benchmarks/endurance.py [--cycles 200]

One process runs the flows `forecast`, `monitor` and `train` of a small model again and again, with a Prefect server
beside it as `lstm train` starts one. Each cycle is a day: 24 rows come, those of 60 days before go, and the files that
age by the clock are made a day older. Every few cycles it is noted what the process holds (memory, files, threads,
processes) and what lies on disk.

Flat: the line fitted to the second half rises by less than 5 % of its mean from its first point to its last (of files,
threads and processes: by less than one). In the first half caches fill, and `retention` is not reached yet. Exit code 1
where something is not flat. `prefect.db` is told, but not judged: Prefect's server keeps flow runs for 90 days, which
no clock here shortens.

Writes the table to benchmarks/README.md.
"""

import argparse
import gc
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from tables import machine, publish, table

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # flows, tasks and lstm of this checkout
EVERY = 10  # cycles between two looks
_DAY = pd.Timedelta(1, "D")
_KEPT = 60  # days of data
_RISE = 0.05  # of the mean
_WHOLE = ("open files", "threads", "processes")  # less than one more is none
_NOT_JUDGED = "prefect.db"
_CONFIG = {
    "name": "endurance",
    "data": {"source": "waves.csv", "time": "time", "series": "name", "target": "value", "frequency": "1h"},
    "split": {"validation": "8d", "test": "8d"},
    "window": {"horizon": 6},
    "model": {"sequence_length": 24, "hidden_size": 16, "num_layers": 1, "epochs": 6, "device": "cpu"},
    "search": {"trials": 2, "workers": 1, "space": {"learning_rate": {"low": 1e-2, "high": 3e-2, "log": True}}},
    "ensemble": {"members": [], "size": 2},
    "evaluate": {"season": 24},
    "forecast": {"every": "1d"},
    "monitor": {"window": "10d"},
    "retention": {"runs": 10, "work": "10d"},
}
_FORECASTS_KEPT = "retention.forecasts=20d"  # by the flow that is told the time: `train` goes by a clock of its own


class Endurance:
    """A pipeline with a source that grows by a day a cycle."""

    def __init__(self, folder: Path, cycles: int) -> None:
        """Make stores and data in a folder; the last of so many cycles ends before this day."""
        self.folder, self.config = folder, folder / "endurance.yaml"
        self.first = pd.Timestamp.now("UTC").floor("D") - (cycles + 1) * _DAY
        source = {**_CONFIG["data"], "source": str(folder / "waves.csv")}
        self.config.write_text(json.dumps({**_CONFIG, "data": source}))

    def cycle(self, number: int, train: bool = True) -> None:
        """A day: train where there is no champion yet, forecast, judge what was forecast before, train."""
        from flows.forecast import forecast
        from flows.monitor import monitor
        from flows.train import train as train_flow

        now = self.first + number * _DAY
        _waves(self.folder / "waves.csv", now)
        if number == 0:
            train_flow(str(self.config))
        forecast(str(self.config), slot=now.to_pydatetime())
        monitor(str(self.config), (_FORECASTS_KEPT,), now=now.to_pydatetime())
        if train and number:
            train_flow(str(self.config))
        _age(self.folder / "mlruns")

    def look(self) -> dict[str, float]:
        """What this process holds, and what the stores hold, in MB."""
        gc.collect()
        process, stores = psutil.Process(), self.folder / "mlruns"
        sizes: dict[str, float] = {}
        for path in sorted(stores.iterdir()):
            name = path.name.removesuffix("-wal").removesuffix("-shm")  # SQLite's, beside the database
            sizes[name] = sizes.get(name, 0.0) + _megabytes(path)
        return {
            "memory, MB": process.memory_info().rss / 1e6,
            "open files": process.num_fds(),
            "threads": process.num_threads(),
            "processes": len(process.children(recursive=True)),
            "training runs": self._runs(),
            "mlruns without prefect.db, MB": sum(size for name, size in sizes.items() if name != _NOT_JUDGED),
            **{f"{name}, MB": size for name, size in sizes.items() if not name.startswith(".")},
        }

    def _runs(self) -> int:
        """Those that are kept: `retention.runs`, and that of each version that was champion once."""
        from tasks.tracking import runs

        client = runs.client()
        experiment = client.get_experiment_by_name("endurance").experiment_id
        return len(client.search_runs([experiment], "tags.kind = 'train'"))


@contextmanager
def served(folder: Path) -> Iterator[None]:
    """The environment of the flows, and a Prefect server of their own."""
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "LSTM_"))]:
        del os.environ[name]
    os.environ |= {"LSTM_HOME": str(folder / "mlruns"), "PREFECT_HOME": str(folder / "prefect")}
    os.environ["PREFECT_LOGGING_LEVEL"] = "ERROR"
    from flows.services.prefect_server import prefect_server, wait_until_ready
    from tasks.settings import set_default_environment

    set_default_environment()
    with prefect_server():
        wait_until_ready()
        yield


def _waves(path: Path, now: pd.Timestamp) -> None:
    """Two series, the newest `_KEPT` days; a moment's value is the same each time."""
    times = pd.date_range(now - _KEPT * _DAY, now, freq="h")
    hours = (times - pd.Timestamp("2020-01-01", tz="UTC")) // pd.Timedelta(1, "h")
    parts = []
    for shift, name in enumerate("ab"):
        noise = np.sin(hours * 12.9898 + shift) * 43758.5453 % 1 - 0.5
        parts.append(
            pd.DataFrame({"time": times, "name": name, "value": np.sin(2 * np.pi * hours / 24 + shift) + noise})
        )
    pd.concat(parts).to_csv(path, index=False)


def _age(stores: Path) -> None:
    """A day passes for what is kept by the time of its last use."""
    for place in ("work", "downloads"):
        for path in (stores / place).iterdir():
            stat = path.stat()
            os.utime(path, (stat.st_atime, stat.st_mtime - _DAY.total_seconds()))


def _megabytes(path: Path) -> float:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files) / 1e6


def rises(cycles: list[int], looks: list[Mapping[str, float]]) -> dict[str, tuple[float, float, bool]]:
    """Of each measure over the second half of the cycles: its mean, how much the fitted line rises, and whether that
    is flat."""
    half = len(looks) // 2
    trends = {}
    for name in looks[-1]:
        values = np.array([look.get(name, 0.0) for look in looks[half:]])
        rise = float(np.polyfit(cycles[half:], values, 1)[0] * (cycles[-1] - cycles[half]))
        limit = 1.0 if name in _WHOLE else _RISE * max(float(values.mean()), 1.0)
        trends[name] = float(values.mean()), rise, rise < limit
    return trends


def main() -> None:
    parser = argparse.ArgumentParser(description="forecast, monitor, train, again and again")
    parser.add_argument("--cycles", type=int, default=200)
    cycles = parser.parse_args().cycles
    if cycles < 4 * EVERY:
        parser.error(f"--cycles {cycles}: a line needs {4 * EVERY} at least")
    numbers, looks, started = [], [], time.monotonic()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, served(Path(folder)):
        pipeline = Endurance(Path(folder), cycles)
        for number in range(cycles + 1):
            pipeline.cycle(number)
            if number % EVERY == 0:
                numbers.append(number)
                looks.append(pipeline.look())
                figures = ", ".join(f"{name} {value:.1f}" for name, value in looks[-1].items())
                print(f"cycle {number}, {time.monotonic() - started:.0f} s: {figures}", flush=True)
    seconds = (time.monotonic() - started) / (cycles + 1)
    trends = rises(numbers, looks)
    shown = [0, len(looks) // 4, len(looks) // 2, 3 * len(looks) // 4, len(looks) - 1]
    rows = []
    for name, (_, rise, flat) in trends.items():
        judged = "not judged" if name.startswith(_NOT_JUDGED) else "flat" if flat else "**not flat**"
        rows.append([name, *(f"{looks[index].get(name, 0):.1f}" for index in shown), f"{rise:+.1f}", judged])
    heads = ["", *(f"cycle {numbers[index]}" for index in shown), "rise over the second half", ""]
    import mlflow
    import prefect
    import torch

    versions = {"torch": torch.__version__, "prefect": prefect.__version__, "mlflow": mlflow.__version__}
    publish("endurance", f"{machine(versions)} {seconds:.1f} s a cycle.\n\n" + table(heads, rows))
    if not all(flat for name, (_, _, flat) in trends.items() if not name.startswith(_NOT_JUDGED)):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
