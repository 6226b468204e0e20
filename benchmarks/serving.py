"""One forecast and ten thousand at once, in-process and over HTTP: .venv/bin/python benchmarks/serving.py --peers …

    .venv/bin/python benchmarks/serving.py --peers peers/bin/python

`peers` is an environment with darts and neuralforecast; benchmarks/throughput.py says how to make one. Without the
option they are left out. Writes its table to benchmarks/README.md.

The task is the same for all: hourly series, look-back 24, horizon 24, an LSTM of one layer with 64 units on the CPU.
`one forecast` is of one series with as much history as it needs, one call after the other; `forecasts a second` are of
10,000 series in one call. Each measurement is a process of its own on one thread, warm: two calls don't count. Rounds
follow each other, each through all of them. Medians of the rounds; of one forecast the quantiles of all rounds
together.

What goes in and comes out differs, most of it in the others' favour. Ours takes raw rows with times as text, as they
come from JSON or CSV, checks them, and gives a table with two intervals; over HTTP it also reads and writes JSON or
CSV, through MLflow's scoring server (`lstm serve`, one worker), on a connection that is kept. neuralforecast takes a
table with times parsed, and gives points. darts takes series of its own, made ahead and not counted, and gives series;
`from a table` counts what making them takes, times parsed as well. Both forecast batches of 32 windows by themselves;
`large batches` are of 256, the fastest of 32, 256, 1,024 and 4,096.
"""

import argparse
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from peers_serving import PACKAGES, long_table, our_forecaster, spent, stamps
from tables import machine, publish, table

HERE = Path(__file__).parent
CHILD = HERE / "peers_serving.py"
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
OURS = "ours"
Measured = dict[str, Any]  # {"one": [seconds], "every": [seconds]}


def in_process(python: str, package: str, series: int, seconds: float) -> Measured:
    """What a process of its own prints."""
    command = [python, str(CHILD), package, "--series", f"{series}", "--seconds", f"{seconds}"]
    done = subprocess.run(command, env={**os.environ, **ONE_THREAD}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def registered(work: Path, series: int) -> None:
    """Make version 1 and champion of `serving` in the stores of the environment."""
    import mlflow

    from lstm.config.pipeline import PipelineConfig
    from tasks.registry.packaging import log_model
    from tasks.registry.versions import create_version, set_alias
    from tasks.settings import artifact_location, tracking_uri
    from tasks.tracking import runs

    data = {"source": "-", "time": "time", "series": "series", "target": "value", "frequency": "1h"}
    config = PipelineConfig.parse({"name": "serving", "data": data, "window": {"horizon": 24}})
    our_forecaster(series).save(work / "forecaster")
    location = artifact_location()
    mlflow.set_tracking_uri(tracking_uri())
    run_id = runs.client().create_run(runs.client().create_experiment("serving", location)).info.run_id
    model_id = log_model(config, work / "forecaster", run_id, long_table(1, stamps()))
    set_alias("serving", "champion", create_version("serving", run_id, model_id, {}))


@contextmanager
def server(work: Path) -> Iterator[http.client.HTTPConnection]:
    """`lstm serve`, one worker on one thread, and a connection that is kept."""
    environment = {**os.environ, **ONE_THREAD, "LSTM_HOME": str(work / "mlruns")}
    environment.pop("MLFLOW_TRACKING_URI", None)
    command = [sys.executable, "-m", "flows.cli.app", "serve", "serving", "--port", "0"]
    process = subprocess.Popen(command, env=environment, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        announcement = process.stdout.readline()
        if not announcement:
            raise SystemExit(f"{' '.join(command)} ended before it answered.")
        address = announcement.partition("http://")[2].partition("/")[0]
        yield http.client.HTTPConnection(address, timeout=300)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def over_http(connection: http.client.HTTPConnection, kind: str, series: int, seconds: float) -> Measured:
    """Requests are written ahead; answers are read to the end, and not parsed."""

    def body(count: int) -> bytes:
        frame = long_table(count, stamps())
        if kind == "text/csv":
            return frame.to_csv(index=False).encode()
        return json.dumps({"dataframe_split": json.loads(frame.to_json(orient="split", index=False))}).encode()

    def ask(sent: bytes) -> None:
        connection.request("POST", "/invocations", sent, {"Content-Type": kind})
        answer = connection.getresponse()
        got = answer.read()
        if answer.status != 200:
            raise SystemExit(f"status {answer.status}: {got[:500]!r}")

    single, every = body(1), body(series)
    return {"one": spent(lambda: ask(single), 200, seconds), "every": spent(lambda: ask(every), 3, seconds)}


def rounds(options: argparse.Namespace, work: Path) -> tuple[dict[str, list[Measured]], dict[str, str]]:
    runs_by_name: dict[str, list[Measured]] = defaultdict(list)
    versions: dict[str, str] = {}
    for number in range(1, options.rounds + 1):
        for name, (package, _) in PACKAGES.items():
            python = sys.executable if name == OURS else options.peers
            if not python:
                continue
            seconds_by_call = in_process(python, name, options.series, options.seconds)
            versions[package] = seconds_by_call.pop("version")
            runs_by_name[name].append(seconds_by_call)
            print(f"{number}/{options.rounds} {name}", file=sys.stderr, flush=True)
        with server(work) as connection:
            for label, kind in (("JSON", "application/json"), ("CSV", "text/csv")):
                name = f"ours over HTTP, {label}"
                runs_by_name[name].append(over_http(connection, kind, options.series, options.seconds))
                print(f"{number}/{options.rounds} {name}", file=sys.stderr, flush=True)
    return runs_by_name, versions


def rows(runs_by_name: dict[str, list[Measured]], series: int) -> Iterator[list[str]]:
    rate = {
        name: median(series / median(seconds_by_call["every"]) for seconds_by_call in repeats)
        for name, repeats in runs_by_name.items()
    }
    for name, repeats in runs_by_name.items():
        half, most = np.quantile(
            np.concatenate([seconds_by_call["one"] for seconds_by_call in repeats]) * 1e3, [0.5, 0.99]
        )
        yield [name, f"{half:.1f}", f"{most:.1f}", f"{rate[name]:,.0f}", f"{rate[OURS] / rate[name]:.1f}"]


def main() -> None:
    parser = argparse.ArgumentParser(description="forecasts a second, in-process and over HTTP")
    parser.add_argument("--peers", metavar="PYTHON", help="of an environment with darts and neuralforecast")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5, help="that each measurement takes at least")
    parser.add_argument("--series", type=int, default=10_000, help="in one call")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        os.environ.pop("MLFLOW_TRACKING_URI", None)
        os.environ["LSTM_HOME"] = str(Path(scratch) / "mlruns")
        registered(Path(scratch), options.series)
        runs_by_name, versions = rounds(options, Path(scratch))
    heads = ["", "one forecast, p50 ms", "p99 ms", f"forecasts a second, {options.series:,} at once", "ours is × that"]
    line = machine({name: number for name, number in versions.items() if name != "lstm"})
    publish(
        "serving", f"{line} Medians of {options.rounds} rounds.\n\n{table(heads, rows(runs_by_name, options.series))}"
    )


if __name__ == "__main__":
    main()
