"""Optuna's samplers and pruners, as configured. An interrupted search continues with the same suggestions."""

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
from lstm.config.search_space import grid_values

T = TypeVar("T")
_RELATIVE_PARAMS = "drawn_together"  # key in the study
_N_STARTUP_TRIALS = 6  # drawn at random, before a model of the trials suggests


def make_sampler(config: PipelineConfig) -> BaseSampler:
    """Return the sampler. That of a grid is never asked: its points are enqueued, see `next_grid_point`."""
    return _StatelessSampler(_FACTORIES[config.search.sampler], config.search.seed)


def make_pruner(config: PipelineConfig) -> BasePruner:
    """Return the pruner. No trial is pruned before its third epoch: earlier errors do not rank trials well."""
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
    """Return a point of the grid that no trial has, in an order fixed by the seed; None: all are taken."""
    values = {key: grid_values(key, options) for key, options in config.search.space.items()}
    taken = [trial.system_attrs.get("fixed_params", trial.params) for trial in trials]
    for number in _shuffled(math.prod(map(len, values.values())), config.search.seed):
        point = {}
        for key, points in values.items():
            number, position = divmod(number, len(points))
            point[key] = points[position]
        if point not in taken:
            return point
    return None


def _shuffled(size: int, seed: int) -> Iterator[int]:
    """Yield the numbers below `size` in random order, without a list of them: a grid may be huge."""
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
    """Call `make` without the warning that a part of Optuna is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return make()


class _StatelessSampler(BaseSampler):
    """Suggestions that depend only on the seed, the content of the study, the number of the trial and the key.

    Optuna's samplers draw from one random generator: after a restart they would suggest other values. Here each
    suggestion has a new sampler, whose seed is a hash of seed, trial and key.
    """

    def __init__(self, make: Callable[[int], BaseSampler], seed: int) -> None:
        self._make, self._seed = make, seed
        self._relative = make(seed)

    def _sampler_for(self, trial: FrozenTrial, key: str = "") -> BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{trial.number}/{key}".encode()).digest()
        return self._make(int.from_bytes(digest[:4], "big"))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Return the keys that are drawn together. Optuna calls `sample_relative` right after."""
        self._relative = self._sampler_for(trial)
        return self._relative.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return the values of the keys that are drawn together; a trial that has them already keeps them.

        Without that, Optuna's GP would take a resumed trial for another running one, and avoid its values.
        """
        params: dict[str, Any] | None = trial.system_attrs.get(_RELATIVE_PARAMS)
        if params is None:
            params = self._relative.sample_relative(study, trial, search_space)
            if params:
                study._storage.set_trial_system_attr(trial._trial_id, _RELATIVE_PARAMS, params)
        return {key: value for key, value in params.items() if key in search_space}  # trials since then may narrow it

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Return the value of a key that is drawn by itself."""
        return self._sampler_for(trial, param_name).sample_independent(study, trial, param_name, param_distribution)
