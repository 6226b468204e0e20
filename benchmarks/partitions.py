"""Many small models side by side: benchmarks/partitions.py [--segments 20] [--series 10] [--days 90] [--slots 3]

Hourly waves with noise, one Parquet file in order of segments, `data.partition_by` on its column. All segments are
trained by the flow `train` as `lstm train` runs it (the preset's networks, embedded Prefect server, SQLite stores), one
after the other; then the forecast flow makes one slot after the other for all of them. Processor seconds are those of
this process and of what it started, the Prefect server left out; "resident" is this process between two segments.

The second table, for docs/scaling.md, is what these figures come to for --models models. Prices are assumptions:
--core-hour and --gb-month, in dollars.
"""

import argparse
import math
import os
import resource
import sqlite3
import tempfile
import time
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import psutil
import yaml
from tables import machine, publish, table

GUIDE = Path(__file__).resolve().parent.parent / "docs" / "scaling.md"
HORIZON, RUNS_KEPT = 24, 50
HOURS_A_MONTH, HOURS_A_YEAR, WEEKS_A_MONTH = 730, 8760, 4.35
TABLES = ("runs", "metrics", "params", "tags", "latest_metrics")


def waves(segments: int, series: int, days: int) -> pd.DataFrame:
    """Segments in order, in each some series with a daily and a weekly wave."""
    random, hours = np.random.default_rng(0), np.arange(days * 24)
    times = pd.date_range("2024-01-01", periods=len(hours), freq="h", tz="UTC")
    parts = []
    for number in range(segments * series):
        level = 10 + random.random() * 10
        wave = 3 * np.sin(2 * np.pi * hours / 24) + np.sin(2 * np.pi * hours / 168)
        values = level + wave + random.normal(0, 0.5, len(hours))
        names = {"segment": f"s{number // series:04d}", "series": f"{number:05d}"}
        parts.append(pd.DataFrame({"time": times, **names, "load": values}))
    return pd.concat(parts, ignore_index=True)


def configuration(folder: Path) -> Path:
    values = {
        "name": "many",
        "data": {
            "source": str(folder / "many.parquet"), "time": "time", "series": "series", "target": "load",
            "partition_by": "segment", "calendar": {"features": ["hour", "dayofweek"]},
        },
        "split": {"validation": "7d", "test": "7d"},
        "window": {"horizon": HORIZON},
        "search": {"trials": 2},
        "ensemble": {"size": 2},
    }  # fmt: skip
    path = folder / "many.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def cpu() -> float:
    """Processor seconds of this process, and of its children that have ended."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def size(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*") if folder.is_dir() else [folder]:
        with suppress(OSError):
            total += path.stat().st_size if path.is_file() else 0
    return total


def trained(config: Path) -> dict[str, Any]:
    """Seconds, processor seconds, and resident MiB after each segment."""
    from flows.services.prefect_server import prefect_server, wait_until_ready

    with prefect_server():
        from flows import partitions
        from flows.train import train

        wait_until_ready()
        process, held = psutil.Process(), []
        row = partitions._segment_row

        def watched(*arguments: Any) -> Any:
            held.append(process.memory_info().rss / 2**20)
            return row(*arguments)

        partitions._segment_row = watched
        before, started = cpu(), time.perf_counter()
        outcome = train(str(config))
        spent = time.perf_counter() - started
        # The Prefect server is still running, and so not among the children that have ended.
        return {"rows": outcome.rows, "seconds": spent, "cpu": cpu() - before, "held": held}


def forecast(config: Path, last: pd.Timestamp, slots: int) -> tuple[list[float], float]:
    """Seconds of each slot, for all segments, and processor seconds of all slots."""
    from flows.forecast import forecast

    seconds, before = [], cpu()
    for back in range(slots - 1, -1, -1):
        started = time.perf_counter()
        forecast.fn(str(config), (), (last - pd.Timedelta(back, "h")).to_pydatetime())
        seconds.append(time.perf_counter() - started)
    return seconds, cpu() - before


def written(database: Path) -> dict[str, int]:
    with closing(sqlite3.connect(database)) as connection:
        return {name: connection.execute(f"select count(*) from {name}").fetchone()[0] for name in TABLES}


def measured(options: argparse.Namespace, folder: Path) -> dict[str, float]:
    frame, home = waves(options.segments, options.series, options.days), folder / "mlruns"
    frame.to_parquet(folder / "many.parquet", row_group_size=options.series * options.days * 24)
    os.environ["LSTM_HOME"], config, count = str(home), configuration(folder), options.segments
    training = trained(config)
    rows = written(home / "mlflow.db")
    kept = {name: size(home / name) / count for name in ("artifacts", "mlflow.db", "studies", "work")}
    slots, spent = forecast(config, frame["time"].max(), options.slots)
    files = list((home / "forecasts").rglob("*.parquet"))
    held = training["held"]
    return {
        "seconds a model": training["seconds"] / count,
        "of them processor, s": training["cpu"] / count,
        "slowest model, s": max(row.seconds for row in training["rows"]),
        "champions": sum(row.champion for row in training["rows"]),
        "resident after the second, MiB": held[min(1, count - 1)],
        "resident after the last, MiB": held[-1],
        "artifacts a model, MiB": kept["artifacts"] / 2**20,
        "MLflow's database a model, MiB": kept["mlflow.db"] / 2**20,
        "studies a model, MiB": kept["studies"] / 2**20,
        "prepared data a model, MiB": kept["work"] / 2**20,
        "MLflow runs a model": rows["runs"] / count,
        "MLflow rows a model": sum(rows.values()) / count,
        "a slot of a model, s": median(slots) / count,
        "of it processor, s": spent / (count * options.slots),
        "rows a slot of a model": len(pd.read_parquet(files[0])),
        "a slot of a model, KiB": sum(path.stat().st_size for path in files) / len(files) / 1024,
    }


def estimate(figures: dict[str, float], options: argparse.Namespace) -> list[tuple[str, str, str]]:
    """What, by which formula, how much."""
    models = options.models
    training = models * figures["of them processor, s"] / 3600 * WEEKS_A_MONTH
    forecasts = models * figures["of it processor, s"] / 3600 * HOURS_A_MONTH
    slot = models * figures["a slot of a model, s"]
    machines = math.ceil(slot / (options.share * 3600))
    log = models * HOURS_A_YEAR * figures["a slot of a model, KiB"] / 2**20
    runs = models * RUNS_KEPT * figures["artifacts a model, MiB"] / 1024
    work = models * (figures["prepared data a model, MiB"] + figures["studies a model, MiB"]) / 1024
    money = (training + forecasts) * options.core_hour + (log + runs + work) * options.gb_month
    return [
        ("a slot on one machine, min", "models × seconds a slot ÷ 60", f"{slot / 60:.0f}"),
        ("machines for the slots", f"÷ (60 min × {options.share:.0%}), rounded up", f"{machines}"),
        ("all models trained on one machine, h", "models × seconds a model ÷ 3600",
         f"{models * figures['seconds a model'] / 3600:.1f}"),
        ("training, core-hours a month", "models × processor s ÷ 3600 × 4.35 weeks", f"{training:,.0f}"),
        ("forecasts, core-hours a month", "models × processor s ÷ 3600 × 730 slots", f"{forecasts:,.0f}"),
        ("forecast log, GiB a year", "models × 8760 × KiB a slot", f"{log:,.0f}"),
        ("artifacts of 50 runs a model, GiB", "models × 50 × MiB a model", f"{runs:,.0f}"),
        ("prepared data and studies, GiB", "models × MiB a model", f"{work:,.0f}"),
        ("rows into MLflow's database a week", "models × rows a model",
         f"{models * figures['MLflow rows a model']:,.0f}"),
        ("dollars a month", f"core-hours × {options.core_hour} + GiB × {options.gb_month}", f"{money:,.0f}"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="many models side by side")
    parser.add_argument("--segments", type=int, default=20)
    parser.add_argument("--series", type=int, default=10, help="of a segment")
    parser.add_argument("--days", type=int, default=90, help="of hourly rows")
    parser.add_argument("--slots", type=int, default=3)
    parser.add_argument("--models", type=int, default=1000, help="of the estimate")
    parser.add_argument("--share", type=float, default=0.5, help="of an hour that the slots may take, in the estimate")
    parser.add_argument("--core-hour", type=float, default=0.05, help="dollars, an assumption")
    parser.add_argument("--gb-month", type=float, default=0.025, help="dollars, an assumption")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = measured(options, Path(folder))
    machine_text = machine({name: version(name) for name in ("torch", "prefect", "mlflow", "optuna")})
    asked = f"{options.segments} segments of {options.series} series, {options.days} days of hourly rows."
    rows = [(name, f"{value:,.2f}" if value % 1 else f"{value:,.0f}") for name, value in figures.items()]
    publish("partitions", f"{machine_text} {asked}\n\n{table(('', ''), rows)}")
    heads = ("", "formula", f"{options.models:,} models of {options.series} series")
    publish("estimate", f"{machine_text} {asked}\n\n{table(heads, estimate(figures, options))}", GUIDE)


if __name__ == "__main__":
    main()
