"""Duplicates: trials with the network of another trial, whose result they copy."""

import hashlib

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.config.model import ModelConfig

_NETWORK, _WAITS_FOR = "network", "waits_for"  # keys in the study


def find_duplicate(study: optuna.Study, trial: optuna.Trial, network: ModelConfig) -> FrozenTrial | None:
    """Return a finished trial with the same network on any device, complete ones first; None: there is none.

    The hash of the network is stored in the trial.
    """
    network_hash = hashlib.sha256(network.model_dump_json(exclude={"device"}).encode()).hexdigest()
    trial.set_user_attr(_NETWORK, network_hash)
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
    same = [
        other for other in finished if other.number != trial.number and other.user_attrs.get(_NETWORK) == network_hash
    ]
    return min(same, key=lambda other: (other.state != TrialState.COMPLETE, other.number), default=None)


def find_running_duplicate(study: optuna.Study, trial: optuna.Trial) -> int | None:
    """Return the number of a running trial that trains the same network; None: this trial must train it.

    Call `find_duplicate` first: it stores the hash of the network. A trial that waits for another one is not returned.
    """
    network_hash = trial.user_attrs[_NETWORK]
    for other in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        attrs = other.user_attrs
        if other.number != trial.number and attrs.get(_NETWORK) == network_hash and attrs.get(_WAITS_FOR) is None:
            trial.set_user_attr(_WAITS_FOR, other.number)
            return other.number
    if trial.user_attrs.get(_WAITS_FOR) is not None:  # that trial has failed, or its process died
        trial.set_user_attr(_WAITS_FOR, None)
    return None
