"""Training windows a second on one core, ours and others': .venv/bin/python benchmarks/throughput.py --peers …

    .venv/bin/python benchmarks/throughput.py --peers peers/bin/python --pytorch-forecasting ptf/bin/python

Two environments of their own (torch first and exact: the packages would take any; pytorch-forecasting wants an older
pandas than the others):

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0
    peers/bin/pip install torch==2.13.0 neuralforecast==3.3.0 "darts[torch]==0.48.1"
    python3.11 -m venv ptf && ptf/bin/pip install torch==2.13.0 pytorch-forecasting==1.8.0

Without one of the options its packages are left out. Writes its table to benchmarks/README.md.

The task is the same for all: a univariate series with 8,192 windows, an LSTM of two layers with 64 units, 24 steps
ahead, squared error, Adam (ours: AdamW with its clipping of gradients), no dropout, float32. Each measurement is a
process of its own on one thread. After 20 steps (ours: one epoch) it trains for `--seconds`; windows a second are
counted from there to the end of the last step. What lies between two steps or epochs counts, validation does not take
place (ours validates one window an epoch). Rounds follow each other, each through all shapes and packages, and each
starts with the machine's peak: a product of two matrices of 2,048 × 2,048. Tables hold medians. How much of a core a
process had stands above the table: far below 100 % something else ran, and the figures are worth nothing.

What differs, all in the others' favour: no logger, no progress bar, no checkpoint, no metrics but the loss; float32
series for darts, whose default is float64; a decoder of one layer for neuralforecast, whose default has two. Networks
are as near as the packages let them be. darts and neuralforecast decode each step ahead from a hidden state of its
own, at the same number of operations. Optimisers are the packages' own calls of Adam; ours is fused.
pytorch-forecasting's network goes on through the horizon: its share of the peak counts these steps, its windows a
second bear them. Its loss is the root of the squared error: it has no other.

`ours` is what a worker of the search does. `ours, memory as it comes` is the library in a process that does not tell
glibc to keep what is freed, as the others' are. "Memory" is the largest resident memory of the process; "above the
imports" is what came after them.
"""

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from tables import machine, publish, table

from tasks.settings import ALLOCATOR_SETTINGS as KEPT

CHILD = Path(__file__).with_name("peers_throughput.py")
SHAPES = ((24, 32), (24, 256), (96, 32))  # look-back, batch
OURS = "ours"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Figures = dict[str, float]
Entry = tuple[str, str, dict[str, str]]  # a Python, what it trains, its environment beside ONE_THREAD


def entries(peers: str | None, pytorch_forecasting: str | None) -> dict[str, Entry]:
    """Who takes part."""
    by_name: dict[str, Entry] = {
        OURS: (sys.executable, "lstm", KEPT),
        "ours, memory as it comes": (sys.executable, "lstm", {}),
        "plain PyTorch loop": (sys.executable, "torch", {}),
    }
    if peers:
        by_name |= {name: (peers, name, {}) for name in ("darts", "neuralforecast")}
    if pytorch_forecasting:
        by_name["pytorch-forecasting"] = (pytorch_forecasting, "pytorch-forecasting", {})
    return by_name


def measured(entry: Entry, *arguments: str) -> dict:
    """What a process of its own prints."""
    python, what, more = entry
    environment = {**os.environ, **ONE_THREAD, **more}
    command = [python, str(CHILD), what, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def rounds(asked: int, seconds: float, taking_part: dict[str, Entry]) -> tuple[dict, dict[str, str], float]:
    """Medians by shape and name, versions, and the machine's peak in operations a second."""
    figures_by_case: dict[tuple, list[Figures]] = defaultdict(list)
    versions, peaks = {}, []
    for number in range(1, asked + 1):
        peak = measured((sys.executable, "gemm", {}), "--seconds", f"{seconds}")
        peaks.append(peak["operations_per_second"])
        versions["torch"] = peak["version"]
        for look_back, batch in SHAPES:
            for name, entry in taking_part.items():
                size = ("--look-back", f"{look_back}", "--batch", f"{batch}", "--seconds", f"{seconds}")
                figures = measured(entry, *size)
                if name not in (OURS, "plain PyTorch loop"):
                    versions[name] = figures["version"]
                del figures["version"]
                figures_by_case[look_back, batch, name].append(figures)
                print(f"{number}/{asked}  {look_back:3} {batch:4}  {name:20}  {figures}", file=sys.stderr, flush=True)
    medians = {
        key: {name: median(run[name] for run in runs) for name in runs[0]} for key, runs in figures_by_case.items()
    }
    return medians, versions, median(peaks)


def rows(medians: dict, names: list[str], peak: float) -> Iterator[list[str]]:
    for look_back, batch in SHAPES:
        ours = medians[look_back, batch, OURS]["windows_per_second"]
        for name in names:
            of = medians[look_back, batch, name]
            speed = of["windows_per_second"]
            share = speed * of["operations_per_window"] / peak
            shown = [f"{speed:,.0f}", f"{ours / speed:.2f}", f"{100 * share:.0f}"]
            yield [f"{look_back}", f"{batch}", name, *shown, f"{of['peak_mib']:.0f}", f"{of['above_imports_mib']:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="training windows a second on one core")
    parser.add_argument("--peers", metavar="PYTHON", help="of an environment with darts and neuralforecast")
    parser.add_argument("--pytorch-forecasting", metavar="PYTHON", help="of an environment with that package")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="that each measurement trains")
    options = parser.parse_args()
    taking_part = entries(options.peers, options.pytorch_forecasting)
    medians, versions, peak = rounds(options.rounds, options.seconds, taking_part)
    heads = ["look-back", "batch", "package", "windows a second", "ours is faster by", "share of the peak, %"]
    body = table([*heads, "memory, MiB", "above the imports, MiB"], rows(medians, list(taking_part), peak))
    line = f"{machine(versions)} Peak of one core: {peak / 1e9:.0f} billion operations a second."
    had = min(of["share_of_core"] for of in medians.values())
    count = (
        f"Medians of {options.rounds} rounds, {options.seconds:g} seconds each; {100 * had:.0f} % of a core or more."
    )
    publish("throughput", f"{line} {count}\n\n{body}")


if __name__ == "__main__":
    main()
