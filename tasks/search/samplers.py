"""What a search proposes, and what it ends early: Optuna's samplers and pruners as a configuration asks for them."""

import hashlib
import math
import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import optuna
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, PatientPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial

from lstm.config.pipeline import PipelineConfig
from lstm.config.search import grid_values

T = TypeVar("T")
_RELATIVE_PARAMS = "drawn_together"
_N_STARTUP_TRIALS = 6  # trials before a model of the trials proposes


def make_sampler(config: PipelineConfig) -> BaseSampler:
    """The sampler; of a grid, whose points are put into the queue, it is never asked."""
    return _StatelessSampler(_FACTORIES[config.search.sampler], config.search.seed)


def make_pruner(config: PipelineConfig) -> BasePruner:
    """The pruner; none before the third epoch, since the first ones rank too loosely."""
    median = MedianPruner(n_startup_trials=4, n_warmup_steps=2)
    match config.search.pruner:
        case "median":
            return median
        case "hyperband":
            return HyperbandPruner(min_resource=2, max_resource=max(config.model.epochs, 2), reduction_factor=3)
        case "successive_halving":
            return SuccessiveHalvingPruner(min_resource=2, reduction_factor=3)
        case "patient":
            return _without_warning(lambda: PatientPruner(median, patience=2))
        case "none":
            return NopPruner()


def next_grid_point(config: PipelineConfig, trials: Sequence[FrozenTrial]) -> dict[str, Any] | None:
    """The first point of the grid that no trial has, in an order that follows from the seed; None: each is taken."""
    options = {key: grid_values(key, options) for key, options in config.search.space.items()}
    taken = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials]
    for number in _shuffled(math.prod(map(len, options.values())), config.search.seed):
        point = {}
        for key, choices in options.items():
            number, position = divmod(number, len(choices))
            point[key] = choices[position]
        if point not in taken:
            return point
    return None


def _shuffled(size: int, seed: int) -> Iterator[int]:
    """The numbers below `size`; only as many are drawn as are asked for, since a grid may be huge."""
    generator, drawn = random.Random(seed), set[int]()
    while len(drawn) < size:
        number = generator.randrange(size)
        if number not in drawn:
            drawn.add(number)
            yield number


def _tpe(seed: int) -> BaseSampler:
    return _without_warning(
        lambda: TPESampler(
            seed=seed, n_startup_trials=_N_STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True
        )
    )


def _gp(seed: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=_N_STARTUP_TRIALS, warn_independent_sampling=False)


_FACTORIES: Mapping[str, Callable[[int], BaseSampler]] = {
    "tpe": _tpe,
    "random": RandomSampler,
    "gp": _gp,
    "grid": RandomSampler,
}


def _without_warning(make: Callable[[], T]) -> T:
    """Without the warning that a part of Optuna is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return make()


class _StatelessSampler(BaseSampler):
    """Proposals that follow from the seed, the study's content, the trial's number and the key, and from nothing else.

    Optuna's samplers draw from a generator that runs on while the process lives: after a restart they would begin
    anew. So each proposal has a fresh one, seeded by what it is for.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._together = make(seed)

    def _fresh(self, trial: FrozenTrial, key: str = "") -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{key}".encode()).digest()
        return self._make(int.from_bytes(digest[:4], "big"))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Which keys are drawn together; what they get, `sample_relative` is asked right after."""
        self._together = self._fresh(trial)
        return self._together.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Values of the keys that are drawn together; a trial that has been given them already keeps them.

        Optuna's GP takes such a trial for another one that is running, and keeps away from it.
        """
        given: dict[str, Any] | None = trial.system_attrs.get(_RELATIVE_PARAMS)
        if given is None:
            given = self._together.sample_relative(study, trial, search_space)
            if given:
                study._storage.set_trial_system_attr(trial._trial_id, _RELATIVE_PARAMS, given)
        return {key: value for key, value in given.items() if key in search_space}  # what has ended since may narrow it

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a key by itself."""
        return self._fresh(trial, param_name).sample_independent(study, trial, param_name, param_distribution)
