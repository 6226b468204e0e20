"""The Optuna study of a search: the trials that it suggests and what is known of them (docs/search.md).

The study itself holds everything that a search needs to continue after its process has died.
"""

import warnings
from collections.abc import Sequence
from contextlib import suppress
from math import inf, isnan
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.config.pipeline import PipelineConfig
from lstm.config.search_space import Range, choices, is_valid, number_type
from lstm.errors import ConfigError
from tasks.search.leases import is_orphaned, stale_trial_ids
from tasks.search.samplers import make_pruner, make_sampler, next_grid_point
from tasks.search.storage import database_url, journal_path, open_storage

_MEMBER, _WARM_START, _STARTED = "member", "warm_start", "begun"  # keys in the study


def open_study(config: PipelineConfig, name: str, folder: Path, previous: optuna.Study | None = None) -> optuna.Study:
    """Open the study of this name, or create it with the planned members as its first trials.

    Args:
        config: with all defaults filled in.
        name: of the study.
        folder: of its journal, unless LSTM_STUDY_STORAGE names a database.
        previous: an earlier study of the same configuration name. Its best trial is enqueued after the members, if its
            values are in the search space (for a key that it did not search: the model's value) and it is no member.

    Raises:
        ConfigError: the database or the journal can't be used. The message holds no password.
    """
    study = optuna.create_study(
        storage=open_storage(folder),
        study_name=name,
        directions=["minimize"] * len(config.search.objectives),
        sampler=make_sampler(config),
        pruner=make_pruner(config),
        load_if_exists=True,
    )
    if not study.user_attrs.get(_STARTED):
        _enqueue_first_trials(study, config, previous)
        study.set_user_attr(_STARTED, True)
    return study


def load_study(name: str, folder: Path, config: PipelineConfig | None = None) -> optuna.Study | None:
    """Open the study of this name; return None if it does not exist or its journal can't be read.

    `config` sets sampler and pruner; it is needed to ask the study for trials.

    Raises:
        ConfigError: the database can't be used. The message holds no password.
    """
    if not database_url() and not journal_path(folder).exists():
        return None
    try:
        study = optuna.load_study(study_name=name, storage=open_storage(folder))
        if config is not None:
            study.sampler, study.pruner = make_sampler(config), make_pruner(config)
        return study
    except KeyError:
        return None
    except ConfigError:
        if database_url():
            raise
        return None


def delete_study(name: str, folder: Path) -> None:
    """Delete the study of this name, if it exists.

    Raises:
        ConfigError: the database can't be used. The message holds no password.
    """
    if database_url():
        with suppress(KeyError):
            optuna.delete_study(study_name=name, storage=open_storage(folder))
    else:
        journal_path(folder).unlink(missing_ok=True)


def ask(study: optuna.Study, config: PipelineConfig) -> optuna.Trial | None:
    """Return the next trial: enqueued ones first, then one that the sampler suggests; None: the grid is exhausted."""
    if config.search.sampler == "grid":
        trials = study.get_trials(deepcopy=False)
        if all(trial.state != TrialState.WAITING for trial in trials):
            point = next_grid_point(config, trials)
            if point is None:
                return None
            study.enqueue_trial(point)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed", UserWarning)
        return study.ask()


def member_of(trial: optuna.Trial | FrozenTrial) -> int | None:
    """Return the position of the trial among the planned members; None: the sampler suggested it."""
    position: int | None = trial.user_attrs.get(_MEMBER)
    return position


def suggest_params(trial: optuna.Trial, config: PipelineConfig) -> dict[str, Any]:
    """Return the differences of the trial from the `model` section: suggested values, and those of a planned member."""
    member = member_of(trial)
    values = {} if member is None else dict(config.members[member])
    for key, options in config.search.space.items():
        if not config.is_searched(key, values):
            continue
        if not isinstance(options, Range):
            values[key] = trial.suggest_categorical(key, choices(options))
        elif number_type(key) is int:
            values[key] = trial.suggest_int(key, int(options.low), int(options.high), log=options.log)
        else:
            values[key] = trial.suggest_float(key, options.low, options.high, log=options.log)
    return values


def orphaned_trials(study: optuna.Study) -> list[optuna.Trial]:
    """Return the running trials whose owner is dead, see `leases`. The caller holds the lock of the study."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    stale = stale_trial_ids(study) if running else frozenset()
    return [optuna.Trial(study, trial._trial_id) for trial in running if is_orphaned(trial, stale)]


def requeue_failed(study: optuna.Study, config: PipelineConfig) -> None:
    """Enqueue each planned member whose trials have all failed once more."""
    trials = study.get_trials(deepcopy=False)
    for position, member in enumerate(config.members):
        states = [trial.state for trial in trials if member_of(trial) == position]
        if states and all(state == TrialState.FAIL for state in states):
            _enqueue(study, config, config.trial_params(member), {_MEMBER: position})


def report(trial: optuna.Trial, value: float, step: int) -> None:
    """Report the error of an epoch, unless it was reported before. Optuna can't report for several objectives."""
    if len(trial.study.directions) > 1:
        return
    with warnings.catch_warnings():  # a resumed trial reports its last epoch again
        warnings.filterwarnings("ignore", "The reported value is ignored", UserWarning)
        trial.report(value, step)


def should_prune(trial: optuna.Trial, config: PipelineConfig) -> bool:
    """Whether the pruner ends the trial; planned members are never pruned."""
    if len(config.search.objectives) > 1:
        return False
    pruned = trial.should_prune()  # for members too: successive halving compares the trials that were asked
    return pruned and member_of(trial) is None


def n_started(study: optuna.Study) -> int:
    """Return the number of trials that were asked for, in any state but WAITING."""
    return sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def n_failed(study: optuna.Study) -> int:
    """Return the number of failed trials."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))


def tell(study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState) -> None:
    """Tell the study the state and the values of a finished trial. A complete trial with a NaN value fails."""
    if state == TrialState.COMPLETE and values is not None and any(map(isnan, values)):
        values, state = None, TrialState.FAIL
    study.tell(trial, values, state)


def plateau_reached(study: optuna.Study, config: PipelineConfig) -> bool:
    """Whether the last `search.plateau` trials, by the time of their end, have not improved the best error.

    Planned members can improve it but are not counted. Pruned and failed trials are counted.
    """
    if config.search.plateau is None:
        return False
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.datetime_complete]
    best, n_without_improvement = inf, 0
    for trial in sorted(finished, key=lambda trial: (trial.datetime_complete, trial.number)):
        if trial.state == TrialState.COMPLETE and trial.values[0] < best:
            best, n_without_improvement = trial.values[0], 0
        elif member_of(trial) is None:
            n_without_improvement += 1
    return n_without_improvement >= config.search.plateau


def pareto_front(study: optuna.Study) -> list[int]:
    """Return the numbers of the trials on the Pareto front."""
    return sorted(trial.number for trial in study.best_trials)


def _enqueue_first_trials(study: optuna.Study, config: PipelineConfig, previous: optuna.Study | None) -> None:
    """Enqueue the members and the warm start, except those that a killed process has already enqueued."""
    queued = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    for position, member in enumerate(config.members):
        if all(attributes.get(_MEMBER) != position for attributes in queued):
            _enqueue(study, config, config.trial_params(member), {_MEMBER: position})
    if any(_WARM_START in attributes for attributes in queued):
        return
    if previous is None or not config.search.warm_start or config.search.trials <= len(config.members):
        return
    finished = previous.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for trial in sorted(finished, key=lambda trial: (trial.values[0], trial.number)):
        if (values := _warm_start_params(trial.params, config)) is not None:
            members = [config.network_config(config.trial_params(member)) for member in config.members]
            if config.network_config(values) not in members:
                _enqueue(study, config, values, {_WARM_START: f"{previous.study_name}#{trial.number}"})
            return


def _enqueue(study: optuna.Study, config: PipelineConfig, values: dict[str, Any], attributes: dict[str, Any]) -> None:
    params = {key: values[key] for key in config.search.space if config.is_searched(key, values)}
    study.enqueue_trial(params, user_attrs=attributes)


def _warm_start_params(params: dict[str, Any], config: PipelineConfig) -> dict[str, Any] | None:
    """Return the parameters of another search's trial as those of this search; None: this search can't suggest them."""
    space, model = config.search.space, config.model.model_dump()
    kept = {key: value for key, value in params.items() if key in space}
    if any(model.get(key) != value for key, value in params.items() if key not in space):
        return None
    if not all(is_valid(key, space[key], value) for key, value in kept.items()):
        return None
    try:
        values = config.trial_params(kept)
    except ConfigError:
        return None
    return values if all(config.is_searched(key, values) for key in kept) else None
