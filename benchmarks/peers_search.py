"""One package's search, as a process of its own; benchmarks/search.py starts it and says why.

Reads FOLDER/series.npy (the scaled series up to the end of validation), writes FOLDER/forecasts.npy: one row of 24
hours for each hour of the last 30 days from which 24 hours lie within them. Prints one JSON object: when the search
ended, when each trial did with which validation error, and versions. Times are seconds since 1970.
"""

import argparse
import copy
import json
import logging
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

HORIZON, BATCH, PATIENCE = 24, 32, 3
HOURS = 30 * 24  # of validation
SIZES = [32, 64, 128]
Ended = list[tuple[float, float]]  # of each trial: when, and its validation RMSE


@dataclass(frozen=True)
class Task:
    series: np.ndarray
    look_back: int
    trials: int
    epochs: int
    seed: int

    @property
    def steps(self) -> int:
        """Batches an epoch."""
        return math.ceil((len(self.series) - HOURS - self.look_back - HORIZON + 1) / BATCH)


class WindowDataset(Dataset):
    def __init__(self, series: np.ndarray, look_back: int) -> None:
        self.series, self.look_back = torch.from_numpy(series)[:, None], look_back

    def __len__(self) -> int:
        return len(self.series) - self.look_back - HORIZON + 1

    def __getitem__(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        middle = start + self.look_back
        return self.series[start:middle], self.series[middle : middle + HORIZON, 0]


class Network(nn.Module):
    def __init__(self, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, hidden, layers, batch_first=True, dropout=dropout if layers > 1 else 0.0)
        self.dropout, self.head = nn.Dropout(dropout), nn.Linear(hidden, HORIZON)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        return self.head(self.dropout(self.lstm(past)[0][:, -1]))


def with_optuna(task: Task) -> tuple[Ended, float, np.ndarray]:
    """Optuna and a plain loop of PyTorch, as one writes them: each trial stops early and keeps its best epoch."""
    import optuna

    torch.manual_seed(task.seed)
    train = DataLoader(WindowDataset(task.series[:-HOURS], task.look_back), BATCH, shuffle=True)
    validation = DataLoader(WindowDataset(task.series[-HOURS - task.look_back :], task.look_back), 256)
    ended: Ended = []
    best: dict = {"error": math.inf}

    def objective(trial: optuna.Trial) -> float:
        network = Network(
            trial.suggest_categorical("hidden_size", SIZES),
            trial.suggest_int("num_layers", 1, 3),
            trial.suggest_float("dropout", 0.0, 0.5),
        )
        rate = trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
        error = _train(network, rate, train, validation, task.epochs)
        if error < best["error"]:
            best.update(error=error, network=network)
        ended.append((time.time(), error))
        return error

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(direction="minimize", sampler=optuna.samplers.TPESampler(seed=task.seed))
    study.optimize(objective, n_trials=task.trials)
    finished = time.time()
    with torch.no_grad():
        forecasts = torch.cat([best["network"](past) for past, _ in validation]).numpy()
    return ended, finished, forecasts


def _train(network: Network, rate: float, train: DataLoader, validation: DataLoader, epochs: int) -> float:
    """RMSE of the best epoch, whose weights the network has afterwards."""
    optimizer, loss = torch.optim.Adam(network.parameters(), rate), nn.MSELoss()
    best, weights, since = math.inf, network.state_dict(), 0
    for _ in range(epochs):
        network.train()
        for past, actual in train:
            optimizer.zero_grad()
            loss(network(past), actual).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            total = sum(loss(network(past), actual).item() * len(past) for past, actual in validation)
        error = math.sqrt(total / len(validation.dataset))
        since += 1
        if error < best:
            best, weights, since = error, copy.deepcopy(network.state_dict()), 0
        if since >= PATIENCE:
            break
    network.load_state_dict(weights)
    network.eval()
    return best


def with_neuralforecast(task: Task) -> tuple[Ended, float, np.ndarray]:
    """`AutoLSTM`, which trains the best trial's network once more at the end."""
    import optuna
    import pandas as pd
    from neuralforecast import NeuralForecast
    from neuralforecast.auto import AutoLSTM
    from neuralforecast.losses.pytorch import MSE

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ended: Ended = []
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_model_summary": False}

    def config(trial: optuna.Trial) -> dict:
        return {
            "encoder_hidden_size": trial.suggest_categorical("encoder_hidden_size", SIZES),
            "encoder_n_layers": trial.suggest_int("encoder_n_layers", 1, 3),
            "encoder_dropout": trial.suggest_float("encoder_dropout", 0.0, 0.5),
            "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
            "input_size": task.look_back, "windows_batch_size": BATCH, "scaler_type": "identity",
            "max_steps": task.epochs * task.steps, "val_check_steps": task.steps,
            "early_stop_patience_steps": PATIENCE, "random_seed": task.seed, **quiet,
        }  # fmt: skip

    model = AutoLSTM(
        h=HORIZON, loss=MSE(), config=config, backend="optuna", num_samples=task.trials, alias="forecast",
        search_alg=optuna.samplers.TPESampler(seed=task.seed),
        callbacks=[lambda _, trial: ended.append((time.time(), math.sqrt(trial.value)))],
    )  # fmt: skip
    frame = pd.DataFrame({"unique_id": "EWR", "ds": np.arange(len(task.series)), "y": task.series})
    package = NeuralForecast([model], freq=1)
    package.fit(frame, val_size=HOURS)
    finished = time.time()
    forecasts = package.cross_validation(
        frame, n_windows=None, test_size=HOURS, step_size=1, refit=False, use_fitted=True
    ).sort_values(["cutoff", "ds"])
    return ended, finished, forecasts["forecast"].to_numpy().reshape(-1, HORIZON)


SEARCHES: dict[str, Callable[[Task], tuple[Ended, float, np.ndarray]]] = {
    "optuna": with_optuna,
    "neuralforecast": with_neuralforecast,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="one package's search")
    parser.add_argument("package", choices=SEARCHES)
    parser.add_argument("folder", type=Path)
    for name in ("look-back", "trials", "epochs", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    series = np.load(options.folder / "series.npy")
    task = Task(series, options.look_back, options.trials, options.epochs, options.seed)
    ended, finished, forecasts = SEARCHES[options.package](task)
    np.save(options.folder / "forecasts.npy", forecasts)
    versions = {name: version(name) for name in ("torch", options.package)}
    print(json.dumps({"ended": ended, "finished": finished, "versions": versions}))


if __name__ == "__main__":
    main()
