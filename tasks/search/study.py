"""The Optuna study of a search: what it proposes next, and what is known of its trials (docs/search.md).

All that a search needs to go on after its process died is in the study itself.
"""

import hashlib
import warnings
from collections.abc import Sequence
from contextlib import suppress
from math import inf, isnan
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.config.search import Range, choices, is_valid, number_type
from lstm.errors import ConfigError
from tasks.search.leases import is_orphaned, stale_trial_ids
from tasks.search.samplers import make_pruner, make_sampler, next_grid_point
from tasks.search.storage import database_url, journal_path, open_storage

_MEMBER, _WARM_START, _NETWORK, _WAITS, _BEGUN = "member", "warm_start", "network", "waits_for", "begun"
_FINISHED_STATES = (TrialState.COMPLETE, TrialState.PRUNED)


def open_study(config: PipelineConfig, name: str, folder: Path, previous: optuna.Study | None = None) -> optuna.Study:
    """The study of this name, made if there is none; its first trials are the members of the ensemble.

    Args:
        config: with every default written out.
        name: of the study.
        folder: where its journal lies, unless LSTM_STUDY_STORAGE names a database.
        previous: the last search of the same name. A new study proposes its best trial after the members, where its
            values fit into the space (a key that it did not search: the model's own value) and it is no member.

    Raises:
        ConfigError: the database or the journal can't be used. No password is told.
    """
    study = optuna.create_study(
        storage=open_storage(folder),
        study_name=name,
        directions=["minimize"] * len(config.search.objectives),
        sampler=make_sampler(config),
        pruner=make_pruner(config),
        load_if_exists=True,
    )
    if not study.user_attrs.get(_BEGUN):
        _enqueue_first_trials(study, config, previous)
        study.set_user_attr(_BEGUN, True)
    return study


def load_study(name: str, folder: Path, config: PipelineConfig | None = None) -> optuna.Study | None:
    """The study of this name; None: there is none, or its journal can't be read. `config`: to ask it for trials.

    Raises:
        ConfigError: the database can't be used. No password is told.
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
    """Delete the study of this name, if there is one.

    Raises:
        ConfigError: the database can't be used. No password is told.
    """
    if database_url():
        with suppress(KeyError):
            optuna.delete_study(study_name=name, storage=open_storage(folder))
    else:
        journal_path(folder).unlink(missing_ok=True)


def ask(study: optuna.Study, config: PipelineConfig) -> optuna.Trial | None:
    """The next trial: what is queued, then what the sampler proposes; None: the grid is exhausted."""
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
    """Which member of the ensemble the trial is, from 0; None: one that was proposed beside them."""
    number: int | None = trial.user_attrs.get(_MEMBER)
    return number


def suggest_params(trial: optuna.Trial, config: PipelineConfig) -> dict[str, Any]:
    """What the trial changes in the model: a value of each key that is asked, and what a member has of its own."""
    number = member_of(trial)
    values = {} if number is None else dict(config.members[number])
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
    """The trials that nobody is at any more, to go on in place (tasks/claims.py). Ask under the lock of the study."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    silent = stale_trial_ids(study) if running else frozenset()
    return [optuna.Trial(study, trial._trial_id) for trial in running if is_orphaned(trial, silent)]


def requeue_failed(study: optuna.Study, config: PipelineConfig) -> None:
    """Queue anew each member of the ensemble whose trials have all failed: what they failed by may be mended."""
    trials = study.get_trials(deepcopy=False)
    for number, member in enumerate(config.members):
        states = [trial.state for trial in trials if member_of(trial) == number]
        if states and all(state == TrialState.FAIL for state in states):
            _enqueue(study, config, config.trial_params(member), {_MEMBER: number})


def report(trial: optuna.Trial, value: float, step: int) -> None:
    """Tell the error after an epoch; what was told before stays. Of several objectives none can be told by epochs."""
    if len(trial.study.directions) > 1:
        return
    with warnings.catch_warnings():  # a resumed trial tells its last epoch again
        warnings.filterwarnings("ignore", "The reported value is ignored", UserWarning)
        trial.report(value, step)


def should_prune(trial: optuna.Trial, config: PipelineConfig) -> bool:
    """Whether the trial is to be ended by what it reported so far; a member never is."""
    if len(config.search.objectives) > 1:
        return False
    beaten = trial.should_prune()  # asked of members, too: halving compares those that were asked
    return beaten and member_of(trial) is None


def find_duplicate(study: optuna.Study, trial: optuna.Trial, network: ModelConfig) -> FrozenTrial | None:
    """Another trial that has ended with the same network, whatever its device; a finished one before a pruned one.

    The trial is marked with its network.
    """
    mark = hashlib.sha256(network.model_dump_json(exclude={"device"}).encode()).hexdigest()
    trial.set_user_attr(_NETWORK, mark)
    ended = study.get_trials(deepcopy=False, states=_FINISHED_STATES)
    same = [one for one in ended if one.number != trial.number and one.user_attrs.get(_NETWORK) == mark]
    return min(same, key=lambda one: (one.state != TrialState.COMPLETE, one.number), default=None)


def find_running_duplicate(study: optuna.Study, trial: optuna.Trial) -> int | None:
    """Another trial that is being trained with the same network, to wait for; None: this one is to be trained.

    Both carry the mark that `twin` has set. Of those that wait for each other's network one alone does not wait.
    """
    mark = trial.user_attrs[_NETWORK]
    for one in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        known = one.user_attrs
        if one.number != trial.number and known.get(_NETWORK) == mark and known.get(_WAITS) is None:
            trial.set_user_attr(_WAITS, one.number)
            return one.number
    if trial.user_attrs.get(_WAITS) is not None:  # the one that it waited for failed, or its process died
        trial.set_user_attr(_WAITS, None)
    return None


def n_started(study: optuna.Study) -> int:
    """How many trials have been asked for, whatever became of them."""
    return sum(trial.state != TrialState.WAITING for trial in study.get_trials(deepcopy=False))


def n_failed(study: optuna.Study) -> int:
    """How many trials have failed."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.FAIL,)))


def tell(study: optuna.Study, trial: optuna.Trial, values: Sequence[float] | None, state: TrialState) -> None:
    """Tell how a trial ended; one that is complete with a value that is no number has failed."""
    if state == TrialState.COMPLETE and values is not None and any(map(isnan, values)):
        values, state = None, TrialState.FAIL
    study.tell(trial, values, state)


def plateau_reached(study: optuna.Study, config: PipelineConfig) -> bool:
    """Whether the last `search.plateau` trials to end were no better than the best before them.

    Members set what is to be beaten, but are none of those counted: they are trained in any case. A pruned or failed
    trial is no better one.
    """
    if config.search.plateau is None:
        return False
    ended = [trial for trial in study.get_trials(deepcopy=False) if trial.datetime_complete]
    best, in_a_row = inf, 0
    for trial in sorted(ended, key=lambda one: (one.datetime_complete, one.number)):
        if trial.state == TrialState.COMPLETE and trial.values[0] < best:
            best, in_a_row = trial.values[0], 0
        elif member_of(trial) is None:
            in_a_row += 1
    return in_a_row >= config.search.plateau


def pareto_front(study: optuna.Study) -> list[int]:
    """Numbers of the trials that no other beats in every objective."""
    return sorted(trial.number for trial in study.best_trials)


def _enqueue_first_trials(study: optuna.Study, config: PipelineConfig, previous: optuna.Study | None) -> None:
    """Queue the first trials; those that a process queued before it died are left as they are."""
    queued = [trial.user_attrs for trial in study.get_trials(deepcopy=False)]
    for number, member in enumerate(config.members):
        if all(attributes.get(_MEMBER) != number for attributes in queued):
            _enqueue(study, config, config.trial_params(member), {_MEMBER: number})
    if any(_WARM_START in attributes for attributes in queued):
        return
    if previous is None or not config.search.warm_start or config.search.trials <= len(config.members):
        return
    finished = previous.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for trial in sorted(finished, key=lambda one: (one.values[0], one.number)):
        if (values := warm_start_params(trial.params, config)) is not None:
            members = [config.network_config(config.trial_params(member)) for member in config.members]
            if config.network_config(values) not in members:
                _enqueue(study, config, values, {_WARM_START: f"{previous.study_name}#{trial.number}"})
            return


def _enqueue(study: optuna.Study, config: PipelineConfig, values: dict[str, Any], attributes: dict[str, Any]) -> None:
    asked = {key: values[key] for key in config.search.space if config.is_searched(key, values)}
    study.enqueue_trial(asked, user_attrs=attributes)


def warm_start_params(params: dict[str, Any], config: PipelineConfig) -> dict[str, Any] | None:
    """Another search's values as those of a trial of this one; None: they can't all be had here."""
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
