"""What monitoring finds, and how often it is wrong: LSTM_DATA_DIR=… .venv/bin/python benchmarks/monitoring.py

Victorian demand by hours, with temperature, forecast 24 hours ahead every 12 hours by a champion of the preset `fast`
(two networks) and judged every midnight (UTC), by default settings: the flows' own tasks, the clock in accelerated
time. Once trained on data up to 14 December 2013 and watched through the heat wave of 14 to 17 January 2014, once
trained up to April 2013, so that a heat wave lies in its backtest, and watched through quiet months. For each, copies
are broken on one day, 1 January or 1 June: all values times 1.3, and noise of 600 MW added to each hour. A quiet day is
one before the break.

Then false alarms within 60 days of simulated errors without drift, and in simulated months of an input without drift,
which are AR(1) noise with a season. Writes its tables to benchmarks/README.md and the picture of 15 January to
docs/images/monitor.png. LSTM_DATA_DIR names a folder with vic_electricity.csv. Some minutes.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import yaml
from scipy.signal import lfilter
from tables import machine, publish, table

from lstm.config.operations import MonitorSpec
from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.spans import Span
from lstm.load_config import load_config
from lstm.monitoring.drift import cusum_chart, input_shifts
from tasks.forecast_slots import forecast_slots
from tasks.forecast_store.log import open_log
from tasks.monitor import monitor
from tasks.monitoring.plots import monitor_plot
from tasks.monitoring.result import MonitorResult
from tasks.reporting.plotting import save_plots

ROOT = Path(__file__).resolve().parent.parent
LSTM = str(Path(sys.executable).with_name("lstm"))
BREAKS = {"heat": pd.Timestamp("2014-01-01", tz="UTC"), "quiet": pd.Timestamp("2013-06-01", tz="UTC")}
HEAT = pd.Timestamp("2014-01-13 13:00", tz="UTC")  # 14 January in Melbourne
DEFAULTS = MonitorSpec()
TRIALS = 100


def main() -> None:
    torch.set_num_threads(1)
    demand = read()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ |= {"LSTM_HOME": str(folder / "mlruns"), "PREFECT_HOME": str(folder / "prefect")}
        rows = list(cases(demand, folder))
    heads = [
        "case",
        "days",
        "quiet days",
        "of them alarms",
        "first alarm",
        "RMSE promised",
        "live the day before",
        "then",
    ]
    text = f"{table(heads, rows)}\n\n{simulated_errors()}\n\n{simulated_inputs()}"
    publish("monitoring", f"{machine({'torch': version('torch')})}\n\n{text}")


def read() -> pd.DataFrame:
    """Hourly means."""
    folder = os.environ.get("LSTM_DATA_DIR")
    if not folder:
        sys.exit("vic_electricity.csv: set LSTM_DATA_DIR to the folder that holds it.")
    raw = pd.read_csv(Path(folder) / "vic_electricity.csv")
    hours = raw.assign(time=pd.to_datetime(raw["Time"])).set_index("time")[["Demand", "Temperature"]]
    return hours.resample("1h").mean()["2012-01-01":"2014-02-01"]  # type: ignore[misc]


def cases(demand: pd.DataFrame, folder: Path) -> Iterator[list[str]]:
    whole = written(demand, folder / "whole.csv")
    heat = trained("heat", demand[:"2013-12-14"], folder)  # type: ignore[misc]
    yield walked("heat wave", heat, whole, "2013-12-16", "2014-01-18", HEAT, ROOT / "docs" / "images")
    yield from copies(heat, demand, folder, "2013-12-16", "2014-01-08")
    quiet = trained("quiet", demand[:"2013-04-30"], folder)  # type: ignore[misc]
    yield walked("none", quiet, whole, "2013-05-02", "2013-06-15", None)
    yield from copies(quiet, demand, folder, "2013-05-22", "2013-06-08")


def copies(config: Path, demand: pd.DataFrame, folder: Path, first: str, last: str) -> Iterator[list[str]]:
    """Of broken copies."""
    day = BREAKS[config.stem]
    broken = demand.index >= day
    noise = np.random.default_rng(0).normal(0, 600, len(demand)) * broken
    changed = {"times 1.3": demand["Demand"] * np.where(broken, 1.3, 1.0), "noise": demand["Demand"] + noise}
    for name, values in changed.items():
        source = written(demand.assign(Demand=values), folder / "changed.csv")
        yield walked(f"{name} ({config.stem})", config, source, first, last, day)


def written(demand: pd.DataFrame, path: Path) -> Path:
    demand.to_csv(path, date_format="%Y-%m-%dT%H:%M:%SZ", index_label="time")
    return path


def trained(name: str, demand: pd.DataFrame, folder: Path) -> Path:
    """Its configuration, when there is a champion of that name."""
    config = {
        "name": name,
        "data": {
            "source": str(written(demand, folder / f"{name}.csv")),
            "time": "time",
            "target": "Demand",
            "observed": ["Temperature"],
            "frequency": "1h",
            "timezone": "Australia/Melbourne",
            "calendar": {"features": ["hour", "dayofweek", "dayofyear"], "holidays": "AU-VIC"},
        },
        "split": {"validation": "60d", "test": "60d"},
        "window": {"horizon": 24},
        "search": {"trials": 2},
        "evaluate": {"season": 168},
        "forecast": {"every": "12h"},
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(config))
    subprocess.run([LSTM, "train", str(path)], check=True, cwd=folder)
    return path


def walked(
    case: str,
    config: Path,
    source: Path,
    first: str,
    last: str,
    broken: pd.Timestamp | None,
    picture: Path | None = None,
) -> list[str]:
    """Forecast and judge day by day; the table's row."""
    settings = load_config(config, (f"data.source={source}",))
    open_log(settings).drop(pd.Timestamp("2100-01-01", tz="UTC"))
    results = [judged(settings, day) for day in pd.date_range(first, last, tz="UTC")]
    quiet = [result for result in results if broken is None or pd.Timestamp(result.moment) <= broken]
    alarms = [number for number, result in enumerate(results) if result.drifted and result not in quiet]
    at = alarms[0] if alarms else len(results) - 1
    if picture is not None:
        save_plots(picture, {"monitor": monitor_plot(results[at], settings, [results[at].moment])})
    return [
        case,
        str(len(results)),
        str(len(quiet)),
        str(sum(result.drifted for result in quiet)),
        results[at].moment[:16].replace("T", " ") if alarms else "none",
        f"{results[at].promised['rmse']:.0f}",
        *(f"{result.live['rmse']:.0f}" for result in results[at - 1 : at + 1]),
    ]


def judged(settings: PipelineConfig, day: pd.Timestamp) -> MonitorResult:
    forecast_slots.fn(settings, day)
    result = monitor.fn(settings, day.to_pydatetime())
    today = f"{result.errors.days[-1]['ratio']:.2f}" if result.errors else "–"
    print(f"{settings.name} {day.date()} newest day {today} times the promise. {result.reason}", flush=True)
    return result


def simulated_errors() -> str:
    """Shares of walks with an alarm: within 60 days without drift, and within 2 and 4 days of one."""
    rows = []
    for clustering in (0.0, 0.5, 0.8):
        for days in (10, 30, 60):
            random = np.random.default_rng(0)
            walks = [daily_errors(random, days + 60, clustering) for _ in range(TRIALS)]
            parts = [(errors[:days], errors[days:]) for errors in walks]
            false = np.mean([found_within(*part, 0, 60) for part in parts])
            hits = [
                np.mean(
                    [found_within(past, np.r_[live[:30], times * live[30:]], 30, 30 + within) for past, live in parts]
                )
                for times in (2.5, 4)
                for within in (2, 4)
            ]
            rows.append([f"{clustering:g}", str(days), *(f"{100 * share:.0f} %" for share in (false, *hits))])
    heads = ["autocorrelation", "days of backtest", "false, 60 days", "× 2.5: in 2 days", "4", "× 4: in 2 days", "4"]
    return f"Errors of days, lognormal with a deviation of 0.3:\n\n{table(heads, rows)}"


def daily_errors(random: np.random.Generator, days: int, clustering: float) -> np.ndarray:
    noise = lfilter([1], [1, -clustering], random.normal(size=days + 50))[50:]
    errors: np.ndarray = np.exp(0.3 * np.sqrt(1 - clustering**2) * noise)
    return errors


def found_within(past: np.ndarray, live: np.ndarray, first: int, last: int) -> bool:
    """Whether the walk is in alarm on a day after `first`, up to `last`, with a window of 30 days."""
    promised = np.sqrt(np.mean(past**2))
    for day in range(first + 1, last + 1):
        window = live[max(0, day - 30) : day]
        result = cusum_chart(past, window, DEFAULTS.cusum)
        if result and result.alarm and np.sqrt(np.mean(window[result.latest] ** 2)) >= DEFAULTS.ratio * promised:
            return True
    return False


def simulated_inputs() -> str:
    rows = []
    for memory in (0.8, 0.95, 0.99):
        for years in (1.2, 2.5):
            random = np.random.default_rng(0)
            drifts = [moved(random, memory, years, level) for level in (0.0, 1.5) for _ in range(TRIALS // 4)]
            shares = np.mean(np.reshape(drifts, (2, -1)), axis=1)
            rows.append([f"{memory:g}", f"{years:g}", *(f"{100 * share:.0f} %" for share in shares)])
    heads = ["AR(1) coefficient", "years of training", "false, a month", "moved by 1.5 deviations"]
    return f"Inputs, hours with a daily and a yearly wave (amplitudes 1 and 2, noise 1):\n\n{table(heads, rows)}"


def moved(random: np.random.Generator, memory: float, years: float, level: float) -> bool:
    count, month = int(years * 8766), 30 * 24
    noise = lfilter([1], [1, -memory], random.normal(size=count + month)) * np.sqrt(1 - memory**2)
    hours = np.arange(count + month)
    values = noise + np.sin(2 * np.pi * hours / 24) + 2 * np.sin(2 * np.pi * hours / 8766) + level * (hours >= count)
    times = np.datetime64("2020-01-01", "us") + hours * np.timedelta64(1, "h")
    whole = Span(values[:, None], np.zeros(len(hours), np.int32), times)
    training, recent = (
        Span(whole.values[part], whole.series[part], times[part]) for part in (hours < count, hours >= count)
    )
    (shift,) = input_shifts(training, recent, ("x",), DEFAULTS.psi, DEFAULTS.ks)
    return shift.drifted


if __name__ == "__main__":
    main()
