"""The Optuna study of a search: storage, sampler, pruner, and how a trial's values are drawn."""

from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lstm.pipeline_config import PipelineConfig, Range, number_type
from tasks.settings import folder


def create_study(config: PipelineConfig, name: str) -> optuna.Study:
    """A new study in the pipeline's journal; its first trial is the configuration's own values."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder("studies") / f"{config.name}.journal"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=name,
        sampler=optuna.samplers.TPESampler(seed=config.search.seed, n_startup_trials=6, constant_liar=True),
        # Never before the third epoch: the first ones rank too loosely.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )
    study.enqueue_trial(config.default_trial)
    return study


def suggested(trial: optuna.Trial, space: dict[str, tuple[Any, ...] | Range]) -> dict[str, Any]:
    """Ask the trial for a value of each key: a choice, a whole number where the key holds one, or a float."""
    values: dict[str, Any] = {}
    for key, options in space.items():
        if not isinstance(options, Range):
            values[key] = trial.suggest_categorical(key, options)
        elif number_type(key) is int:
            values[key] = trial.suggest_int(key, int(options.low), int(options.high), log=options.log)
        else:
            values[key] = trial.suggest_float(key, options.low, options.high, log=options.log)
    return values
