"""Preparation of further real series, in the folder `LSTM_DATA_DIR`."""

import os
from pathlib import Path

import pandas as pd
import pytest

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.window import window

FOLDER = os.environ.get("LSTM_DATA_DIR", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="LSTM_DATA_DIR is not set")

ETT = {"time": "date", "target": ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"], "frequency": "1h"}
DEMAND = {"time": "Time", "target": "Demand", "observed": "Temperature", "frequency": "30min"}


def prepared(name, file, data, **sections):
    source = {"source": str(Path(FOLDER) / file), **data}
    config = PipelineConfig.parse({"model": {"sequence_length": 96}, "name": name, "data": source, **sections})
    table = ingest.fn(config)
    return table, window.fn(config, normalize.fn(config, table))


def test_ett_has_the_windows_of_the_papers(home):
    split = {"train": 8640, "validation": 2880, "test": 2880}
    model = {"sequence_length": 336}
    table, windows = prepared("ett", "ETTh1.csv", ETT, split=split, window={"horizon": 96}, model=model)
    assert (table.rows, table.series) == (17_420, 1)
    assert (windows.train, windows.validation, windows.test) == (8209, 2785, 2785)
    times = pd.date_range("2016-07-01", periods=17_420, freq="h").to_numpy("datetime64[us]")
    for split_name, first in (("train", 336), ("validation", 8640), ("test", 8640 + 2880)):
        arrays = SplitArrays.load(windows.folder / split_name)
        split_windows = arrays.windows(336, 96, windows.n_known)
        assert arrays.times[split_windows.origins[0]] == times[first]
        assert arrays.times[split_windows.origins[-1] + 95] == arrays.times[-1]
    assert arrays.times[-1] == times[14_400 - 1]  # of the test; the last 3,020 rows are not used


def test_half_hourly_demand_keeps_every_day_through_the_changes_of_clocks(home):
    calendar = {"features": ["hour", "dayofweek"], "holidays": "AU"}
    data = {**DEMAND, "timezone": "Australia/Melbourne", "calendar": calendar}
    table, windows = prepared("demand", "vic_electricity.csv", data, window={"horizon": 48}, evaluate={"season": 48})
    assert table.rows == 52_608 == (366 + 365 + 365) * 48
    assert windows.n_known == 5
    assert windows.validation == windows.test == 5261 - 48 + 1
