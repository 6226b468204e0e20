"""The Optuna study of a search: storage, sampler, pruner, and how a trial's values are drawn."""

from typing import Any

import optuna
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from lstm.pipeline_config import PipelineConfig, Range, number_type
from tasks.settings import folder

_MEMBER = "member"


def create_study(config: PipelineConfig, name: str) -> optuna.Study:
    """A new study in the pipeline's journal; its first trials are the members of the ensemble."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = folder("studies") / f"{config.name}.journal"
    study = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(journal))),
        study_name=name,
        sampler=optuna.samplers.TPESampler(seed=config.search.seed, n_startup_trials=6, constant_liar=True),
        # Never before the third epoch: the first ones rank too loosely.
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=2),
    )
    for number, member in enumerate(config.members):
        values = config.trial_of(member)
        searched = {key: values[key] for key in config.search.space}
        study.enqueue_trial(searched, user_attrs={_MEMBER: number})
    return study


def member_of(trial: optuna.Trial) -> int | None:
    """Which member of the ensemble the trial is, from 0; None: one that the sampler proposed."""
    number: int | None = trial.user_attrs.get(_MEMBER)
    return number


def suggested(trial: optuna.Trial, config: PipelineConfig) -> dict[str, Any]:
    """What the trial changes in the model: a value of each key of the space, and what a member has of its own."""
    number = member_of(trial)
    values = {} if number is None else dict(config.members[number])
    for key, options in config.search.space.items():
        if not isinstance(options, Range):
            values[key] = trial.suggest_categorical(key, options)
        elif number_type(key) is int:
            values[key] = trial.suggest_int(key, int(options.low), int(options.high), log=options.log)
        else:
            values[key] = trial.suggest_float(key, options.low, options.high, log=options.log)
    return values
