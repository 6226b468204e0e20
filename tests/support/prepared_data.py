"""Data prepared by the steps ingest, normalize and window, without Prefect."""

from lstm.config.pipeline import PipelineConfig
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.window import window
from tests.support.tables import DATA


def make_config(path, **changes):
    """Return a configuration for the table at `path`; `changes` replace whole sections."""
    values = {
        "name": "shops",
        "data": {**DATA, "source": str(path), "calendar": {"features": ["hour"]}},
        "split": {"validation": "5d", "test": "5d"},
        "window": {"horizon": 6},
        "model": {"sequence_length": 24, "device": "cpu"},
        "search": {"space": {"sequence_length": [12, 24, 48]}},
    }
    return PipelineConfig.parse({**values, **changes})


def prepare(frame, folder, **changes):
    """Run the steps before training; return configuration, table, panel and windows."""
    path = folder / "shops.csv"
    frame.to_csv(path, index=False)
    config = make_config(path, **changes)
    table = ingest.fn(config)
    panel = normalize.fn(config, table)
    return config, table, panel, window.fn(config, panel)
