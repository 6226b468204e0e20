"""The other real series go the same way; `LSTM_DATA_DIR` names the folder that holds them."""

import os
from pathlib import Path

import pytest

from lstm.pipeline_config import PipelineConfig
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.window import window

FOLDER = os.environ.get("LSTM_DATA_DIR", "")
pytestmark = pytest.mark.skipif(not FOLDER, reason="LSTM_DATA_DIR is not set")

ETT = {"time": "date", "target": ["HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL", "OT"], "frequency": "1h"}
DEMAND = {"time": "Time", "target": "Demand", "observed": "Temperature", "frequency": "30min"}


def prepared(name, file, data, **sections):
    source = {"source": str(Path(FOLDER) / file), **data}
    config = PipelineConfig.parse({"name": name, "data": source, "model": {"sequence_length": 96}, **sections})
    table = ingest.fn(config)
    return table, window.fn(config, normalize.fn(config, table))


def test_ett_has_the_windows_of_the_papers(home):
    split = {"train": 8640, "validation": 2880, "test": 2880}
    table, windows = prepared("ett", "ETTh1.csv", ETT, split=split, window={"horizon": 96})
    assert (table.rows, table.series) == (17_420, 1)
    assert (windows.train, windows.validation, windows.test) == (8640 - 96 - 96 + 1, 2785, 2785)


def test_half_hourly_demand_keeps_every_day_through_the_changes_of_clocks(home):
    calendar = {"features": ["hour", "dayofweek"], "holidays": "AU"}
    data = {**DEMAND, "timezone": "Australia/Melbourne", "calendar": calendar}
    table, windows = prepared("demand", "vic_electricity.csv", data, window={"horizon": 48}, evaluate={"season": 48})
    assert table.rows == 52_608 == (366 + 365 + 365) * 48
    assert windows.n_known == 5
    assert windows.validation == windows.test == 5261 - 48 + 1
