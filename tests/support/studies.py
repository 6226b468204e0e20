"""Searches without networks: the error is a function of the hyperparameters."""

import math

from optuna.trial import TrialState

from lstm.config.pipeline import PipelineConfig
from tasks.search.study import ask, report, should_prune, suggest_params, tell

COMPLETE, PRUNED, FAIL, RUNNING = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, TrialState.RUNNING
SPACE = {
    "hidden_size": [8, 16, 32],
    "num_layers": {"low": 1, "high": 3},
    "dropout": {"low": 0.0, "high": 0.5, "when": {"num_layers": [2, 3]}},
    "learning_rate": {"low": 1e-4, "high": 1e-2, "log": True},
}
GRID = {"hidden_size": [8, 16, 32], "num_layers": {"low": 1, "high": 3}}
SAMPLERS = {sampler: GRID if sampler == "grid" else SPACE for sampler in ("tpe", "random", "gp", "grid")}
PRUNERS = ("median", "hyperband", "successive_halving", "patient", "none")


def config(members=({},), model=None, **search):
    return PipelineConfig.parse(
        {
            "name": "shops",
            "data": {"source": "a.csv", "time": "t", "target": "y", "frequency": "1h"},
            "window": {"horizon": 6},
            "model": {"sequence_length": 24, "epochs": 9, **(model or {})},
            "search": {"trials": 20, "space": SPACE, **search},
            "ensemble": {"members": list(members)},
        }
    )


def error_of(values):
    """Return a smooth function of the hyperparameters."""
    return (
        abs(math.log10(values.get("learning_rate", 1e-3)) + 2.7)
        + 0.2 * values["num_layers"]
        + values.get("dropout", 0.3)
        + values["hidden_size"] / 100
    )


def train(study, settings, trial, epochs=9):
    """Suggest, report and tell as the search does; return the suggested hyperparameters."""
    values = suggest_params(trial, settings)
    for epoch in range(epochs):
        error = error_of(values) * (1 + 1 / (epoch + 1))
        report(trial, error, epoch)
        if should_prune(trial, settings):
            tell(study, trial, None, PRUNED)
            return values
    objectives = [error, 1.0 / values["hidden_size"]][: len(settings.search.objectives)]
    tell(study, trial, objectives, COMPLETE)
    return values


def search(study, settings, count):
    """Train `count` more trials, or fewer if the grid ends."""
    done = []
    while len(done) < count and (trial := ask(study, settings)) is not None:
        done.append(train(study, settings, trial))
    return done


def content(study):
    return [(trial.params, trial.state, trial.values, trial.user_attrs) for trial in study.trials]


def warm_starts(study):
    return {
        trial.user_attrs["warm_start"]: trial.system_attrs["fixed_params"]
        for trial in study.trials
        if "warm_start" in trial.user_attrs
    }
