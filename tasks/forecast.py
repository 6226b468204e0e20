"""Forecast with a registered model from the newest history, into a file."""

from pathlib import Path

import pandas as pd

from lstm.config.data import DataSpec
from lstm.data.ingest import ingest_table
from lstm.errors import ConfigError
from lstm.forecasting.forecaster import Forecaster
from lstm.scratch import scratch_folder
from tasks.forecast_store.log import write_table
from tasks.registry.models import load_forecaster
from tasks.settings import store_folder


def forecast(
    model: str,
    data: str | None = None,
    out: Path | None = None,
    horizon: int | None = None,
    levels: tuple[int, ...] = (80, 95),
) -> pd.DataFrame:
    """Forecast every series of `data`; write Parquet or CSV to `out` atomically.

    Args:
        model: `NAME`, `NAME@alias`, `NAME/version`, or a folder.
        data: source of the history; default: the one that the model was trained from.
        out: file to write; None: none.
        horizon: steps ahead; default: what the model was trained for.
        levels: of the intervals, in percent.

    Raises:
        InputError: the model, the data, the horizon or the file name breaks a rule.
    """
    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise ConfigError(f"--out {out}: must end in .parquet or .csv.")
    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out}: is a folder. Name a file in it.")
    forecaster, version = load_forecaster(model)
    forecasts = forecaster.forecast_table(_history(forecaster, data), horizon, levels)
    forecasts["model_version"] = version
    if out is not None:
        try:
            write_table(forecasts, out)
        except OSError as error:
            raise ConfigError(f"--out {out}: can't be written ({error.strerror or error}).") from None
    return forecasts


def _history(forecaster: Forecaster, data: str | None) -> pd.DataFrame:
    """Return the newest rows of the source that a forecast depends on."""
    spec = forecaster.spec
    if data is not None:
        spec = DataSpec.parse({**spec.model_dump(), "source": data, "sha256": None}, where="--data")
    with scratch_folder("history", store_folder("work")) as scratch:
        table = ingest_table(spec, scratch, store_folder("downloads"))
        return pd.concat([forecaster.recent(piece) for piece in table.pieces()], ignore_index=True)
