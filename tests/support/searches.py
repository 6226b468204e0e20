"""A small network, a search space, and a script that runs a search in another process."""

NETWORK = {"sequence_length": 12, "hidden_size": 8, "num_layers": 1, "epochs": 3, "dropout": 0.2, "device": "cpu"}
RATES = {"learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
SEARCH = """
import json, sys
from tests.support.prepared_data import make_config
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.window import window
from tasks.tracking import runs
from tasks.train import train
config = make_config("shops.csv", **json.loads(sys.argv[1]))
table = ingest.fn(config)
windows = window.fn(config, normalize.fn(config, table))
with runs.parent_run(config, table, ["cpu"], "") as run:
    search = train.fn(config, windows, run, ["cpu"])
errors = {trial.number: trial.val_rmse_normalized for trial in search.trials}
print(json.dumps([search.n_ended, search.n_cached, errors]))
"""
