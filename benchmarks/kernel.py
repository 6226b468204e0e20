"""The compiled LSTM layer beside nn.LSTM: .venv/bin/python benchmarks/kernel.py [threads, else 1]

Layers forwards and backwards, then whole training steps (network, loss, clipping, AdamW). The two take turns, so that
whatever else the machine does falls on both; medians, of CPU time for one thread and of elapsed time for more. The
peak is torch's product of two 2048 x 2048 matrices, timed the same way: a kernel of its own may be above it.
"""

import gc
import os
import sys
import time
from collections.abc import Callable
from itertools import pairwise
from statistics import median

import torch
from tables import machine, publish, table
from torch import nn
from torch.nn import functional
from torch.optim import AdamW

from lstm.config.model import ModelConfig
from lstm.networks import compiled
from lstm.networks.network import ForecastNetwork
from tasks.settings import MEMORY_KEPT, worker_environment

SECONDS = 1.5  # for each row of a table
# inputs of the first layer, hidden, layers, steps, batch
LAYERS = [
    (1, 64, 2, 24, 32),
    (8, 64, 2, 24, 32),
    (8, 64, 2, 24, 256),
    (8, 64, 2, 96, 32),
    (8, 32, 2, 24, 32),
    (8, 32, 2, 24, 256),
    (8, 128, 2, 30, 32),
    (8, 128, 2, 30, 256),
    (8, 256, 2, 24, 32),
    (8, 256, 2, 24, 256),
    (64, 64, 1, 4, 32),
    (64, 64, 1, 4, 448),
    (128, 128, 1, 15, 32),
    (128, 128, 1, 15, 448),
    (256, 256, 1, 8, 224),
    (64, 64, 1, 1, 32),
    (64, 64, 1, 1, 768),
]
NETWORKS = [
    (32, {"sequence_length": 24, "horizon": 1}),
    (256, {"sequence_length": 24, "horizon": 24}),
    (32, {"sequence_length": 96, "horizon": 24}),
    (64, {"sequence_length": 720, "horizon": 96, "patch_length": 48, "hidden_size": 128, "head": "parallel"}),
]
Work = Callable[[], object]


def taking_turns(*works: Work, seconds: float = SECONDS) -> list[float]:
    """Median seconds of each."""
    clock = time.thread_time if torch.get_num_threads() == 1 else time.perf_counter
    times: list[list[float]] = [[] for _ in works]
    for work in works:
        work()
    until, turns = time.perf_counter() + seconds, list(zip(works, times, strict=True))
    while time.perf_counter() < until or len(times[0]) < 9:
        for work, taken in turns:
            started = clock()
            work()
            taken.append(clock() - started)
        turns.reverse()  # nobody always comes second
    return [median(taken) for taken in times]


def both(work: Work) -> list[float]:
    """Median seconds without the kernel, and with it."""

    def switched(state: str) -> Work:
        def run() -> None:
            os.environ["LSTM_COMPILED"] = state
            work()

        return run

    return taking_turns(switched("0"), switched("1"))


def stack(inputs: int, hidden: int, layers: int, steps: int, batch: int) -> tuple[Work, float]:
    """Forwards and backwards through layers, and the floating-point operations of its products."""
    widths = [inputs] + [hidden] * layers
    modules = nn.ModuleList(nn.LSTM(one, two, batch_first=True) for one, two in pairwise(widths))
    x = torch.randn(batch, steps, inputs)
    d = torch.randn(batch, steps, hidden)

    def run() -> None:
        out = x
        for module in modules:
            out, _ = compiled.run_layer(module, out, None)
        torch.autograd.grad(out, list(modules.parameters()), d)

    per_step = sum(2 * 4 * hidden * (3 * (width + hidden)) for width in widths[:-1]) - 2 * 4 * hidden * inputs
    return run, float(per_step * batch * steps)


def training_step(batch: int, changes: dict[str, object]) -> Work:
    """A step of the optimiser on random windows: 7 features, the first of which is the target."""
    config = ModelConfig(**{"input_size": 7, "output_size": 1, "device": "cpu", **changes})  # type: ignore[arg-type]
    network = ForecastNetwork(config, [0]).train()
    optimizer = AdamW(network.parameters(), fused=True)
    past, known = torch.randn(batch, config.sequence_length, 7), torch.randn(batch, config.horizon, 0)
    actual = torch.randn(batch, config.horizon, 1)

    def run() -> None:
        optimizer.zero_grad(set_to_none=True)
        functional.mse_loss(network(past, known)[..., 0], actual).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()

    return run


def main(threads: int) -> None:
    if any(key not in os.environ for key in MEMORY_KEPT):  # read when a process starts
        os.execve(sys.executable, [sys.executable, *sys.argv], worker_environment(threads))
    torch.set_num_threads(threads)
    os.environ["LSTM_COMPILED"] = "1"
    if not compiled.build():
        sys.exit("There is no kernel here: it needs a C++ compiler, see lstm/networks/compiled.py.")
    square = torch.randn(2048, 2048)
    peak = 2 * 2048**3 / taking_turns(lambda: square @ square, seconds=3)[0] / 1e9
    gc.disable()
    layers, networks = [], []
    for shape in LAYERS:
        work, operations = stack(*shape)
        theirs, ours = both(work)
        rates = [operations / seconds / 1e9 for seconds in (theirs, ours)]
        cells = [*map(str, shape), f"{theirs * 1e3:.2f}", f"{ours * 1e3:.2f}", f"{theirs / ours:.2f}"]
        layers.append([*cells, *(f"{rate:.0f}" for rate in rates), *(f"{100 * rate / peak:.0f}" for rate in rates)])
    for batch, changes in NETWORKS:
        theirs, ours = both(training_step(batch, changes))
        named = ", ".join(f"{key} {value}" for key, value in changes.items())
        networks.append([named, str(batch), f"{theirs * 1e3:.2f}", f"{ours * 1e3:.2f}", f"{theirs / ours:.2f}"])
    heads = ["inputs", "hidden", "layers", "steps", "batch", "nn.LSTM, ms", "ours, ms", "ratio"]
    heads += ["nn.LSTM, GFLOP/s", "ours", "nn.LSTM, % of torch.mm", "ours"]
    steps = table(["training step", "batch", "nn.LSTM, ms", "ours, ms", "ratio"], networks)
    line = f"{machine({'torch': torch.__version__})} {threads} thread(s), torch.mm {peak:.0f} GFLOP/s."
    publish("kernel", f"{line}\n\n{table(heads, layers)}\n\n{steps}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
