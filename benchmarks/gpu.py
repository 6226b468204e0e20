"""Training windows a second on a GPU, steps played back as CUDA graphs or launched: python benchmarks/gpu.py

Needs a CUDA device, numpy, pandas, pydantic and torch. The task is that of throughput.py: a univariate series with
8,192 windows, an LSTM of two layers, 24 steps ahead, no dropout. After one epoch whole epochs are trained for
`--seconds`; validation is one window an epoch. `launched` is the same with LSTM_CUDA_GRAPHS=0. Prints its table.
"""

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from tables import table

sys.path.insert(0, str(Path(__file__).parent.parent))
from lstm.config.model import ModelConfig
from lstm.data.windows import Windows
from lstm.networks.network import ForecastNetwork
from lstm.networks.trainer import Trainer

WINDOWS, HORIZON = 8192, 24
# look-back, hidden size, batch
SHAPES = ((24, 64, 32), (24, 64, 256), (96, 64, 32), (96, 64, 256), (96, 64, 1024), (96, 256, 256), (96, 256, 1024))


def speed(shape: tuple[int, int, int], precision: str, graphed: bool, seconds: float) -> float:
    """Windows a second."""
    look_back, hidden, batch = shape
    os.environ["LSTM_CUDA_GRAPHS"] = str(int(graphed))
    device = torch.device("cuda")
    noise = np.random.default_rng(0).standard_normal((WINDOWS + look_back + HORIZON, 1))
    values = torch.from_numpy(noise.astype(np.float32)).to(device)
    windows = Windows(values, values, torch.arange(look_back, look_back + WINDOWS, device=device), look_back, HORIZON)
    validation = Windows(values, values, windows.origins[:1], look_back, HORIZON)
    sizes = {"sequence_length": look_back, "hidden_size": hidden, "num_layers": 2, "batch_size": batch, "dropout": 0.0}
    rest = {"horizon": HORIZON, "input_size": 1, "output_size": 1, "epochs": 10**6, "device": "cuda"}
    config = ModelConfig.parse({**sizes, **rest, "precision": precision})
    trainer = Trainer(ForecastNetwork(config, [0]).to(device), windows, validation, device, 1e-3)
    trainer.train_epoch(1)
    torch.cuda.synchronize()
    started, done = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        trainer.train_epoch(done + 2)
        done += 1
    torch.cuda.synchronize()
    return done * WINDOWS / (time.perf_counter() - started)


def rows(seconds: float) -> list[list[str]]:
    table_rows = []
    for shape in SHAPES:
        for precision in ("fp32", "bf16"):
            launched, played = (speed(shape, precision, graphed, seconds) for graphed in (False, True))
            figures = [f"{launched:,.0f}", f"{played:,.0f}", f"{played / launched:.1f}"]
            table_rows.append([*map(str, shape), precision, *figures])
    return table_rows


def main() -> None:
    parser = argparse.ArgumentParser(description="training windows a second on a GPU")
    parser.add_argument("--seconds", type=float, default=3)
    heads = ["look-back", "hidden size", "batch", "precision", "launched", "played back", "ratio"]
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n")
    print(table(heads, rows(parser.parse_args().seconds)))


if __name__ == "__main__":
    main()
