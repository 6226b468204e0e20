"""Whether intervals hold what they promise: LSTM_DATA_DIR=… .venv/bin/python benchmarks/coverage.py [--epochs 10]

Coverage and mean width of the 80 and 95 % intervals on the test spans of four data sets: of the weather example, ETTh1
(96 steps ahead), Victoria's demand (24 hours ahead) and ten stocks (a day ahead), configured as in accuracy.py. The
networks are those of the preset `fast`, combined by their mean; once as they are, so that the intervals come from
absolute errors, and once with quantiles, which are then calibrated. Split: from the errors on the validation span
alone. Adaptive: from there each window's intervals have followed the errors that were known at its origin.

Writes its table to benchmarks/README.md. LSTM_DATA_DIR names a folder with ETTh1.csv, vic_electricity.csv and
stocks_10x1000.csv. One thread, some minutes; widths in the targets' units (ETTh1: their mean over seven targets).
"""

import argparse
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import accuracy
import numpy as np
import torch
from tables import machine, publish, table

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.panel_store import PanelStore
from lstm.evaluation.bands import adaptive_bands, split_bands
from lstm.evaluation.scoring import ScoredWindows
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import combine_predictions, member_weights, predict_network
from lstm.forecasting.prediction import Prediction
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import fit
from lstm.presets.presets import with_defaults
from lstm.profiling.run_lengths import RunLengths
from tasks.handles import WindowsHandle
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.run_context import PreparedData
from tasks.window import window

LEVELS = (80, 95)
QUANTILES = [0.025, 0.1, 0.25, 0.5, 0.75, 0.9, 0.975]
DATA: dict[str, Callable[[Path], dict[str, Any]]] = {
    "weather": accuracy.weather,
    "ETTh1": lambda folder: accuracy.etth1(folder, 96),
    "demand": lambda folder: accuracy.victoria(folder, 24),
    "stocks": lambda folder: accuracy.stocks(folder, normalize={"log": True}),
}
MODELS: dict[str, dict[str, Any]] = {"absolute errors": {}, "quantiles": {"quantiles": QUANTILES}}
METHODS = {"split": split_bands, "adaptive": adaptive_bands}


def main() -> None:
    """The whole table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=10, help="at most, of each network")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        os.environ["LSTM_HOME"] = str(Path(name) / "mlruns")
        rows = [
            [data, model, *cells]
            for data, make in DATA.items()
            for model, keys in MODELS.items()
            for cells in measured({"name": data, **make(Path(name))}, {"epochs": options.epochs, **keys})
        ]
    kinds = [f"{kind}, {level} %" for level in LEVELS for kind in ("coverage", "mean width")]
    text = table(["data", "intervals from", "windows", "", *kinds], rows)
    publish("coverage", f"{machine({'torch': version('torch')})} Epochs at most: {options.epochs}.\n\n{text}")


def measured(values: dict[str, Any], model: dict[str, Any]) -> Iterator[list[str]]:
    """Cells of each method."""
    splits, predictions = predicted(PipelineConfig.parse({**values, "model": {**model, "device": "cpu"}}))
    validation, test = splits["validation"], splits["test"]
    intervals = Conformal.fit(validation.actual, predictions["validation"])
    actual = test.denormalize(test.actual)
    there = ~np.isnan(actual)
    for method, bands in METHODS.items():
        cells = []
        for _, (lower, upper) in bands(intervals, test, predictions["test"], LEVELS):
            inside = (lower <= actual) & (actual <= upper)
            cells += [f"{100 * inside[there].mean():.1f}", f"{(upper - lower)[there].mean():.4g}"]
        yield [f"{len(actual):,}", method, *cells]


def predicted(config: PipelineConfig) -> tuple[dict[str, ScoredWindows], dict[str, Prediction]]:
    """The preset's ensemble, trained, and what it says of validation and test."""
    handle = ingest.fn(config)
    config = config.with_frequency(handle.frequency)
    panel = normalize.fn(config, handle)
    store = PanelStore.load(panel.folder)
    config = with_defaults(config, RunLengths.of(store, config.evaluate.season, config.window.horizon))
    windows = window.fn(config, panel)
    networks = [trained(config, member, windows) for member in config.members]
    weights = member_weights("mean", [1.0] * len(networks))
    splits = PreparedData.open(config, handle, panel, windows).splits
    return splits, {
        name: combine_predictions(
            [
                predict_network(network, scored.windows.with_lookback(network.config.sequence_length))
                for network in networks
            ],
            "mean",
            weights,
        )
        for name, scored in splits.items()
    }


def trained(config: PipelineConfig, member: dict[str, Any], windows: WindowsHandle) -> ForecastNetwork:
    network, horizon, outputs = config.network_config(member), config.window.horizon, len(config.data.target)
    training, validation = (
        SplitArrays.load(windows.folder / split).windows(network.sequence_length, horizon, windows.n_known, stride)
        for split, stride in (("train", config.window.stride), ("validation", 1))
    )
    sized = network.model_copy(update={"input_size": training.features.shape[1], "output_size": outputs})
    return fit(ForecastNetwork(sized, range(outputs), windows.n_known, windows.n_series), training, validation).network


if __name__ == "__main__":
    main()
