"""How good the forecasts are: .venv/bin/python benchmarks/accuracy.py TASK [TASK ...] (without one: lists them)

Each task trains through the whole pipeline (`lstm train`, in stores of its own) by defaults and the preset that it
names, and is scored once, on the test span. Data: LSTM_DATA_DIR names a folder with ETTh1.csv, vic_electricity.csv and
stocks_10x1000.csv (the first two are downloaded without it); the tasks `series-…` need the extra `series`. The figures
go to benchmarks/accuracy.json, and from there as tables into benchmarks/README.md.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import accuracy_tables
import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parent.parent
RESULTS, README = ROOT / "benchmarks" / "accuracy.json", ROOT / "benchmarks" / "README.md"
LSTM = str(Path(sys.executable).with_name("lstm"))
Config = dict[str, Any]
TRIAL = ("name", "network", "in_ensemble", "val_rmse", "best_epoch", "parameters", "seconds")
SHOWN = ("mse_normalized", "rmse", "mape", "r2", "rmse_skill")


def etth1(folder: Path, horizon: int) -> Config:
    """The papers' protocol: 8,640 hours to train, 2,880 to validate, 2,880 to test; all windows, nothing dropped."""
    targets = ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"]
    return {
        "data": {"source": "etth1", "time": "date", "target": targets, "frequency": "1h"},
        "split": {"train": 8640, "validation": 2880, "test": 2880},
        "window": {"horizon": horizon},
        "evaluate": {"season": 24},
    }


def victoria(folder: Path, horizon: int, temperature_ahead: bool = False) -> Config:
    """Hourly means of demand, April 2012 to March 2014 (local time), the last tenth to test: it holds the heat wave of
    January 2014."""
    path = folder / "victoria.csv"
    raw = pd.read_csv(_file("vic_electricity.csv"))
    rows = raw.assign(time=pd.to_datetime(raw["Time"])).set_index("time")
    hours = rows[["Demand", "Temperature"]].resample("1h").mean()
    hours.loc["2012-03-31T13:00:00Z":"2014-03-31T12:00:00Z"].to_csv(path, date_format="%Y-%m-%dT%H:%M:%SZ")  # type: ignore
    return {
        "data": {
            "source": str(path),
            "time": "time",
            "target": "Demand",
            "known": ["Temperature"] if temperature_ahead else [],
            "frequency": "1h",
            "timezone": "Australia/Melbourne",
            "calendar": {"features": ["hour", "dayofweek"], "holidays": "AU-VIC"},
        },
        "normalize": {"log": True},
        "window": {"horizon": horizon},
        "evaluate": {"season": 24},
    }


def stocks(folder: Path, **changes: Any) -> Config:
    """Ten daily closing prices, the last fifth to test, one day ahead."""
    config: Config = {
        "data": {
            "source": str(_file("stocks_10x1000.csv")),
            "time": "Date",
            "target": "price",
            "wide": "all",
            "frequency": "B",
            "missing": {"max_gap": 5, "method": "forward"},
        },
        "split": {"validation": 0.1, "test": 0.2},
        "window": {"horizon": 1},
        "evaluate": {"season": 1},
    }
    return {**config, **changes}


SEED = {"hidden_size": 64, "num_layers": 2, "dropout": 0.2, "learning_rate": 0.001, "epochs": 100, "batch_size": 32}
SEED_STOCKS = {
    "model": {**SEED, "sequence_length": 20, "patch_length": 1, "anchor": "none", "loss": "mse", "patience": 10},
    "search": {"trials": 1, "space": {}},
}


def weather(folder: Path) -> Config:
    """The example, with the presets' own models."""
    config: Config = yaml.safe_load((ROOT / "examples" / "nyc_weather.yaml").read_text())
    return {key: config[key] for key in ("data", "split", "window", "evaluate")}


def series(folder: Path, name: str) -> Config:
    """What `lstm init` writes for a table of benchmarks/series.py."""
    subprocess.run([sys.executable, str(ROOT / "benchmarks" / "series.py"), str(folder)], check=True)
    command = [LSTM, "init", str(folder / f"{name}.csv"), "--out", str(folder / f"{name}.yaml")]
    subprocess.run(command, check=True, capture_output=True, cwd=folder)
    config: Config = yaml.safe_load((folder / f"{name}.yaml").read_text())
    return config


def cells(folder: Path) -> Config:
    """examples/cells.yaml."""
    config: Config = yaml.safe_load((ROOT / "examples" / "cells.yaml").read_text())
    return config


TASKS: dict[str, tuple[str, Callable[[Path], Config]]] = {
    **{
        f"etth1-{horizon}-{preset}": (preset, lambda folder, horizon=horizon: etth1(folder, horizon))
        for horizon in accuracy_tables.PUBLISHED
        for preset in ("fast", "accurate")
    },
    "energy-1h": ("fast", lambda folder: victoria(folder, 1)),
    "energy-24h": ("accurate", lambda folder: victoria(folder, 24)),
    "energy-24h-temperature": ("accurate", lambda folder: victoria(folder, 24, temperature_ahead=True)),
    "weather-fast": ("fast", weather),
    "weather-accurate": ("accurate", weather),
    "cells": ("fast", cells),
    "stocks-seed": ("fast", lambda folder: stocks(folder, **SEED_STOCKS)),
    "stocks-returns": ("fast", lambda folder: stocks(folder, normalize={"log": True})),
    **{
        f"series-{name}": ("fast", lambda folder, name=name: series(folder, name))
        for name in ("demand", "sea", "weather", "co2", "flights")
    },
}


def _file(name: str) -> Path:
    folder = os.environ.get("LSTM_DATA_DIR")
    if not folder:
        sys.exit(f"{name}: set LSTM_DATA_DIR to the folder that holds it.")
    return Path(folder).resolve() / name


def run(task: str) -> dict[str, Any]:
    """Train and score; everything that the tables need."""
    preset, make = TASKS[task]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = {"name": task, **make(folder), "preset": preset}
        (folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
        environment = {**os.environ, "LSTM_HOME": str(folder / "mlruns"), "PREFECT_HOME": str(folder / "prefect")}
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
        command = [LSTM, "train", str(folder / "config.yaml"), "--json"]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{task}: {done.stderr}")
        spent, after = time.perf_counter() - started, resource.getrusage(resource.RUSAGE_CHILDREN)
    outcome = json.loads(done.stdout)
    keep = [key for key in outcome["leaderboard"][0] if key.startswith(("test_", "val_rmse"))]
    return {
        "preset": preset,
        "champion": outcome["promotion"]["kind"],
        "promoted": outcome["promotion"]["champion"],
        "train_cpu_seconds": outcome["seconds"]["train_cpu"],
        "cpu_seconds": sum(after[:2]) - sum(before[:2]),
        "seconds": spent,
        "said": [*outcome["advisories"], *(notice for notice in outcome["notices"] if notice.startswith("ridge"))],
        "trials": [{key: trial[key] for key in TRIAL} for trial in outcome["trials"]],
        "rows": {_row_name(row): {key: row[key] for key in keep} for row in outcome["leaderboard"]},
    }


def _row_name(row: dict[str, Any]) -> str:
    return str(row["name"] if row["kind"] == "baseline" else row["kind"].removeprefix("best-"))


def main(tasks: list[str]) -> None:
    """Run the tasks one after the other; each one's result is kept at once."""
    if not tasks:
        print("\n".join(TASKS))
    for task in tasks:
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        results[task] = {**run(task), "machine": machine()}
        RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n")
        accuracy_tables.write(README, results)
        for name, row in results[task]["rows"].items():
            print(task, name, {key: round(row[f"test_{key}"], 4) for key in SHOWN}, flush=True)
        print(task, {key: round(results[task][key], 1) for key in ("train_cpu_seconds", "cpu_seconds", "seconds")})


def machine() -> str:
    """What it ran on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "prefect", "mlflow", "optuna"))
    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {packages}"


if __name__ == "__main__":
    main(sys.argv[1:])
