"""One package's training at full speed, as a process of its own; benchmarks/throughput.py starts it and says why.

Prints one JSON object: training windows a second, and the resident memory in MiB. Each package is imported where it is
used: the packages live in several environments.
"""

import argparse
import json
import logging
import math
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

HORIZON, HIDDEN, LAYERS = 24, 64, 2
WINDOWS = 8192  # of one series
RATE = 1e-3
WARM_UP = 20  # steps that don't count
SIZE = 2048  # of the square matrices whose product is the machine's peak


class Clock:
    """Tells a training after each batch whether it was enough, and how fast it was. Made after the imports."""

    def __init__(self, batch: int, seconds: float) -> None:
        self.batch, self.seconds = batch, seconds
        self.steps = self.warm_up = 0
        self.started = self.last = math.inf
        self.cpu_started = self.cpu_last = 0.0
        self.before_mib = _mebibytes()

    def tick(self, steps: int = 1) -> bool:
        """`steps` more were made. True: enough."""
        self.steps += steps
        self.last, self.cpu_last = time.perf_counter(), time.process_time()
        if not self.warm_up and self.steps >= WARM_UP:
            self.started, self.cpu_started, self.warm_up = self.last, self.cpu_last, self.steps
        return self.last - self.started >= self.seconds

    @property
    def windows_per_second(self) -> float:
        return (self.steps - self.warm_up) * self.batch / (self.last - self.started)


def series(look_back: int) -> np.ndarray:
    """So long that it has WINDOWS windows: two waves and noise, mean 0, deviation 1."""
    time_ = np.arange(WINDOWS + look_back + HORIZON - 1)
    noise = np.random.default_rng(0).normal(0, 0.3, len(time_))
    values = np.sin(2 * np.pi * time_ / 24) + 0.5 * np.sin(2 * np.pi * time_ / 168) + noise
    return ((values - values.mean()) / values.std()).astype(np.float32)


def with_ours(values: np.ndarray, look_back: int, batch: int, seconds: float) -> Clock:
    """The public `fit`; one epoch to warm up, and one window to validate on."""
    from lstm.config.model import ModelConfig
    from lstm.data.windows import Windows
    from lstm.networks.network import ForecastNetwork
    from lstm.networks.training import fit

    rows = torch.from_numpy(values)[:, None]
    train = Windows(rows, rows.clone(), torch.arange(look_back, look_back + WINDOWS), look_back, HORIZON)
    validation = Windows(rows, rows.clone(), torch.tensor([look_back]), look_back, HORIZON)
    config = ModelConfig(
        hidden_size=HIDDEN, num_layers=LAYERS, dropout=0.0, batch_size=batch, sequence_length=look_back, device="cpu",
        horizon=HORIZON, input_size=1, output_size=1, epochs=1_000_000, patience=None, learning_rate=RATE,
        scheduler="none", anchor="none", head="direct", loss="mse",
    )  # fmt: skip
    clock = Clock(batch, seconds)
    fit(ForecastNetwork(config, [0], 0), train, validation, lambda _: clock.tick(WINDOWS // batch))
    return clock


class _WindowDataset(torch.utils.data.Dataset):
    def __init__(self, values: np.ndarray, look_back: int) -> None:
        self.values, self.look_back = torch.from_numpy(values)[:, None], look_back

    def __len__(self) -> int:
        return len(self.values) - self.look_back - HORIZON + 1

    def __getitem__(self, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        middle = start + self.look_back
        return self.values[start:middle], self.values[middle : middle + HORIZON, 0]


class _PlainNetwork(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(1, HIDDEN, LAYERS, batch_first=True)
        self.head = nn.Linear(HIDDEN, HORIZON)

    def forward(self, past: torch.Tensor) -> torch.Tensor:
        return self.head(self.lstm(past)[0][:, -1])


def with_pytorch(values: np.ndarray, look_back: int, batch: int, seconds: float) -> Clock:
    """A plain loop: DataLoader in this process, nn.LSTM, Adam. Nothing is fetched from the loss in between."""
    loader = torch.utils.data.DataLoader(_WindowDataset(values, look_back), batch, shuffle=True)
    network, loss, clock = _PlainNetwork(), nn.MSELoss(), Clock(batch, seconds)
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    while True:
        for past, actual in loader:
            optimizer.zero_grad(set_to_none=True)
            loss(network(past), actual).backward()
            optimizer.step()
            if clock.tick():
                return clock


def _lightning(clock: Clock, package: Any) -> dict[str, Any]:
    """Arguments of a Lightning trainer that trains until the clock says enough, and prints and stores nothing."""

    class Stop(package.Callback):
        def on_train_batch_end(self, trainer: Any, *_: Any) -> None:
            trainer.should_stop = clock.tick() or trainer.should_stop

    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return {**quiet, "accelerator": "cpu", "enable_checkpointing": False, "callbacks": [Stop()]}


def with_darts(values: np.ndarray, look_back: int, batch: int, seconds: float) -> Clock:
    import pytorch_lightning
    from darts import TimeSeries
    from darts.models import BlockRNNModel

    clock = Clock(batch, seconds)
    model = BlockRNNModel(
        look_back, HORIZON, model="LSTM", hidden_dim=HIDDEN, n_rnn_layers=LAYERS, dropout=0.0, batch_size=batch,
        n_epochs=1_000_000, optimizer_kwargs={"lr": RATE}, pl_trainer_kwargs=_lightning(clock, pytorch_lightning),
    )  # fmt: skip
    model.fit(TimeSeries.from_values(values))
    return clock


def with_neuralforecast(values: np.ndarray, look_back: int, batch: int, seconds: float) -> Clock:
    """One series, so that a batch of series is that one: `windows_batch_size` of its windows are drawn each step."""
    import pandas as pd
    import pytorch_lightning
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM

    clock = Clock(batch, seconds)
    model = LSTM(
        h=HORIZON, input_size=look_back, encoder_n_layers=LAYERS, encoder_hidden_size=HIDDEN, encoder_dropout=0.0,
        decoder_layers=1, recurrent=False, loss=MSE(), scaler_type="identity", batch_size=1, windows_batch_size=batch,
        learning_rate=RATE, max_steps=1_000_000_000, **_lightning(clock, pytorch_lightning),
    )  # fmt: skip
    frame = pd.DataFrame({"unique_id": "one", "ds": np.arange(len(values)), "y": values})
    NeuralForecast([model], freq=1).fit(frame)
    return clock


def with_pytorch_forecasting(values: np.ndarray, look_back: int, batch: int, seconds: float) -> Clock:
    """`RecurrentNetwork`: it steps through the horizon as well, on the truth while it trains."""
    import lightning.pytorch as lightning
    import pandas as pd
    from pytorch_forecasting import RecurrentNetwork, TimeSeriesDataSet
    from pytorch_forecasting.data import TorchNormalizer
    from pytorch_forecasting.metrics import RMSE

    frame = pd.DataFrame({"value": values, "time_idx": np.arange(len(values)), "group": "one"})
    data = TimeSeriesDataSet(
        frame, time_idx="time_idx", target="value", group_ids=["group"], time_varying_unknown_reals=["value"],
        max_encoder_length=look_back, min_encoder_length=look_back, max_prediction_length=HORIZON,
        min_prediction_length=HORIZON, target_normalizer=TorchNormalizer(method="identity"),
    )  # fmt: skip
    network = RecurrentNetwork.from_dataset(
        data, cell_type="LSTM", hidden_size=HIDDEN, rnn_layers=LAYERS, dropout=0.0, loss=RMSE(), learning_rate=RATE,
        optimizer="adam", logging_metrics=nn.ModuleList([]), log_interval=-1,
    )  # fmt: skip
    clock = Clock(batch, seconds)
    trainer = lightning.Trainer(max_epochs=-1, **_lightning(clock, lightning))
    trainer.fit(network, data.to_dataloader(train=True, batch_size=batch, num_workers=0))
    return clock


def products(seconds: float) -> float:
    """Operations a second of a product of large matrices."""
    left, right = torch.rand(SIZE, SIZE), torch.rand(SIZE, SIZE)
    spent: list[float] = []
    while sum(spent[1:]) < seconds:
        started = time.perf_counter()
        torch.mm(left, right)
        spent.append(time.perf_counter() - started)
    return 2 * SIZE**3 * (len(spent) - 1) / sum(spent[1:])


TRAININGS: dict[str, Callable[[np.ndarray, int, int, float], Clock]] = {
    "lstm": with_ours,
    "torch": with_pytorch,
    "darts": with_darts,
    "neuralforecast": with_neuralforecast,
    "pytorch-forecasting": with_pytorch_forecasting,
}


def operations(steps: int) -> float:
    """Of the matrix products for one window through `steps` steps of the LSTM; the way back counts as two forward."""
    cells = sum(2 * 4 * HIDDEN * (inputs + HIDDEN) for inputs in (1, *[HIDDEN] * (LAYERS - 1)))
    return 3 * (steps * cells + 2 * HIDDEN * HORIZON)


def trained(package: str, look_back: int, batch: int, seconds: float) -> dict[str, float]:
    clock = TRAININGS[package](series(look_back), look_back, batch, seconds)
    steps = look_back - 1 + HORIZON if package == "pytorch-forecasting" else look_back
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "windows_per_second": clock.windows_per_second,
        "operations_per_window": operations(steps),
        "share_of_core": (clock.cpu_last - clock.cpu_started) / (clock.last - clock.started),
        "peak_mib": peak,
        "above_imports_mib": peak - clock.before_mib,
    }


def _mebibytes() -> float:
    """Resident now; of Linux alone."""
    status = Path("/proc/self/statm")
    return int(status.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20 if status.exists() else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description="one package's training at full speed")
    parser.add_argument("package", choices=[*TRAININGS, "gemm"])
    parser.add_argument("--look-back", type=int, default=24)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    for name in ("pytorch_lightning", "lightning.pytorch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures: dict[str, Any] = {"version": version("torch" if options.package == "gemm" else options.package)}
    if options.package == "gemm":
        figures["operations_per_second"] = products(options.seconds)
    else:
        figures |= trained(options.package, options.look_back, options.batch, options.seconds)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
