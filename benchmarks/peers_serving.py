"""One package's forecasts at full speed, as a process of its own; benchmarks/serving.py starts it and says why.

Prints one JSON object: seconds of each forecast of one series, and of each forecast of all series. Each package is
imported where it is used: the packages live in several environments.
"""

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

if TYPE_CHECKING:
    from lstm.forecasting.forecaster import Forecaster

LOOK_BACK, HORIZON, HIDDEN, LAYERS = 24, 24, 64, 1
BATCH = 256  # windows that darts and neuralforecast forecast at once
START = pd.Timestamp("2024-03-01", tz="UTC")
Forecast = Callable[[Any], Any]


def values(series: int) -> np.ndarray:
    """(series, LOOK_BACK) float32: a daily wave and noise."""
    wave = np.sin(2 * np.pi * np.arange(LOOK_BACK) / 24)
    return (wave + np.random.default_rng(0).normal(0, 0.3, (series, LOOK_BACK))).astype(np.float32)


def names(series: int) -> list[str]:
    return [f"s{number:05d}" for number in range(series)]


def long_table(series: int, times: Any) -> pd.DataFrame:
    """One row a series and time."""
    flat = {"series": np.repeat(names(series), LOOK_BACK), "time": np.tile(times, series)}
    return pd.DataFrame({**flat, "value": values(series).ravel()})


def stamps() -> np.ndarray:
    """(LOOK_BACK,) text, as it comes in JSON or CSV."""
    return np.array([moment.isoformat() for moment in pd.date_range(START, periods=LOOK_BACK, freq="h")])


def our_forecaster(series: int) -> "Forecaster":
    """A Forecaster of so many series, each with a normaliser of its own; its network has learned nothing."""
    from lstm.config.data import DataSpec
    from lstm.config.model import ModelConfig
    from lstm.data.scaling import PanelNormalizer
    from lstm.forecasting.conformal import Conformal
    from lstm.forecasting.forecaster import Forecaster
    from lstm.networks.network import ForecastNetwork

    spec = DataSpec.parse({
        "source": "-", "time": "time", "series": "series", "target": "value", "frequency": "1h",
        "calendar": {"features": [], "holidays": None},
    })  # fmt: skip
    config = ModelConfig(
        hidden_size=HIDDEN, num_layers=LAYERS, dropout=0.0, sequence_length=LOOK_BACK, device="cpu", horizon=HORIZON,
        input_size=1, output_size=1, anchor="none", head="direct", loss="mse",
    )  # fmt: skip
    errors = np.random.default_rng(0).normal(size=(100, HORIZON, 1))
    return Forecaster(
        name="serving", spec=spec, categories={}, members=(ForecastNetwork(config, [0], 0).eval(),), weights=(1.0,),
        normalizer=PanelNormalizer(tuple(names(series)), np.zeros((series, 1)), np.ones((series, 1)), 1),
        method="mean", intervals=Conformal.fit(errors, np.zeros_like(errors)), lineage={},
    )  # fmt: skip


def with_ours(series: int) -> tuple[Forecast, Any, Any]:
    return our_forecaster(series).forecast, long_table(1, stamps()), long_table(series, stamps())


def with_darts(series: int, batch: int | None = BATCH) -> tuple[Forecast, Any, Any]:
    """From series that are made ahead: what that takes is not counted."""
    from darts import TimeSeries

    forecast, times = _darts(batch), pd.date_range(START.tz_localize(None), periods=LOOK_BACK, freq="h")
    every = [TimeSeries.from_times_and_values(times, history) for history in values(series)]
    return forecast, every[:1], every


def with_darts_from_a_table(series: int) -> tuple[Forecast, Any, Any]:
    """As the others: a table goes in."""
    from darts import TimeSeries

    forecast, times = _darts(BATCH), pd.date_range(START.tz_localize(None), periods=LOOK_BACK, freq="h")

    def from_table(frame: pd.DataFrame) -> Any:
        return forecast(TimeSeries.from_group_dataframe(frame, "series", "time", "value", verbose=False))

    return from_table, long_table(1, times), long_table(series, times)


def _darts(batch: int | None) -> Forecast:
    from darts import TimeSeries
    from darts.models import BlockRNNModel

    model = BlockRNNModel(
        LOOK_BACK, HORIZON, model="LSTM", hidden_dim=HIDDEN, n_rnn_layers=LAYERS, dropout=0.0, n_epochs=1,
        pl_trainer_kwargs=_quiet(),
    )  # fmt: skip
    times = pd.date_range(START.tz_localize(None), periods=2 * LOOK_BACK, freq="h")
    model.fit(TimeSeries.from_times_and_values(times, np.tile(values(1)[0], 2)))
    return lambda series: model.predict(HORIZON, series=series, batch_size=batch, verbose=False, show_warnings=False)


def with_neuralforecast(series: int, **batches: int) -> tuple[Forecast, Any, Any]:
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM

    model = LSTM(
        h=HORIZON, input_size=LOOK_BACK, encoder_n_layers=LAYERS, encoder_hidden_size=HIDDEN, encoder_dropout=0.0,
        decoder_layers=1, recurrent=False, loss=MSE(), scaler_type="identity", max_steps=1, **batches, **_quiet(),
    )  # fmt: skip
    times = pd.date_range(START.tz_localize(None), periods=LOOK_BACK, freq="h")
    columns = {"series": "unique_id", "time": "ds", "value": "y"}
    package = NeuralForecast([model], freq="h")
    long = pd.date_range(times[0], periods=4 * LOOK_BACK, freq="h")
    package.fit(pd.DataFrame({"unique_id": "long", "ds": long, "y": np.tile(values(1)[0], 4)}))
    single, every = (long_table(count, times).rename(columns=columns) for count in (1, series))
    return lambda frame: package.predict(df=frame), single, every


def _quiet() -> dict[str, Any]:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return {**quiet, "accelerator": "cpu", "enable_checkpointing": False}


PACKAGES: dict[str, tuple[str, Callable[[int], tuple[Forecast, Any, Any]]]] = {
    "ours": ("lstm", with_ours),
    "darts": ("darts", lambda series: with_darts(series, None)),
    "darts, large batches": ("darts", with_darts),
    "darts, large batches, from a table": ("darts", with_darts_from_a_table),
    "neuralforecast": ("neuralforecast", with_neuralforecast),
    "neuralforecast, large batches": (
        "neuralforecast",
        lambda series: with_neuralforecast(series, valid_batch_size=BATCH, inference_windows_batch_size=BATCH),
    ),
}


def spent(forecast: Callable[[], Any], least: int, seconds: float) -> list[float]:
    """Seconds of each call: at least so many calls, and for so long; two before them to warm up."""
    took: list[float] = []
    for _ in range(2):
        forecast()
    while len(took) < least or sum(took) < seconds:
        started = time.perf_counter()
        forecast()
        took.append(time.perf_counter() - started)
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="one package's forecasts at full speed")
    parser.add_argument("package", choices=PACKAGES)
    parser.add_argument("--series", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    package, prepare = PACKAGES[options.package]
    forecast, single, every = prepare(options.series)
    figures = {
        "version": version(package),
        "one": spent(lambda: forecast(single), 50, options.seconds),
        "every": spent(lambda: forecast(every), 3, options.seconds),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
