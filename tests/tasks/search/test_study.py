"""The study of a search: what it suggests, and what it knows of its trials."""

import math
import time
from itertools import product

import pytest

from tasks.search.duplicates import find_duplicate
from tasks.search.study import (
    ask,
    member_of,
    open_study,
    pareto_front,
    plateau_reached,
    report,
    should_prune,
    suggest_params,
    tell,
)
from tests.support.studies import COMPLETE, FAIL, GRID, PRUNED, PRUNERS, SAMPLERS, SPACE, config, search, train


def finish_trials(study, settings, *values):
    """Finish a trial for each value, in this order; None: pruned, nan: failed."""
    for value in values:
        trial = ask(study, settings)
        suggest_params(trial, settings)
        tell(study, trial, None if value is None else [value], PRUNED if value is None else COMPLETE)


# What is suggested.


def test_the_members_come_first_and_keep_their_own_values(tmp_path):
    settings = config(members=[{"anchor": "last"}, {"hidden_size": 8, "num_layers": 1, "weight_decay": 0.5}])
    study = open_study(settings, "s", tmp_path)
    first, second, third = (ask(study, settings) for _ in range(3))
    assert [member_of(trial) for trial in (first, second, third)] == [0, 1, None]
    assert suggest_params(first, settings) == settings.trial_params(settings.members[0])
    assert suggest_params(second, settings) == {
        "hidden_size": 8,
        "num_layers": 1,
        "weight_decay": 0.5,
        "learning_rate": 0.001,
    }
    assert {"hidden_size", "num_layers", "learning_rate"} <= set(suggest_params(third, settings)) <= set(SPACE)


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp"])
def test_a_key_is_suggested_only_if_its_condition_holds(tmp_path, sampler):
    settings = config(sampler=sampler)
    study = open_study(settings, "s", tmp_path)
    done = search(study, settings, 14)
    assert {values["num_layers"] for values in done} == {1, 2, 3}
    assert all(("dropout" in values) is (values["num_layers"] > 1) for values in done)
    assert [trial.params for trial in study.trials] == done


def test_a_condition_on_a_key_that_is_not_suggested_uses_the_value_of_the_model():
    space = {
        "cell": ["lstm", "transformer"],
        "num_layers": {"choices": [1, 2], "when": {"cell": ["lstm"]}},
        "dropout": {"choices": [0.1, 0.4], "when": {"num_layers": [2]}},
    }
    for layers, asked in ((2, True), (1, False)):
        settings = config(space=space, model={"num_layers": layers, "cell": "transformer"})
        assert settings.is_searched("num_layers", {"cell": "transformer"}) is False
        assert settings.is_searched("dropout", {"cell": "transformer"}) is asked
        assert settings.network_config(settings.trial_params({})).num_layers == layers


def test_a_grid_suggests_each_point_once_and_then_nothing(tmp_path):
    settings = config(sampler="grid", space=GRID, members=[{}, {"hidden_size": 8, "num_layers": 3}])
    study = open_study(settings, "s", tmp_path)
    done = search(study, settings, 100)
    assert len(done) == 9
    assert {(params["hidden_size"], params["num_layers"]) for params in done} == set(product((8, 16, 32), (1, 2, 3)))
    assert ask(study, settings) is None


def test_a_point_of_the_grid_that_is_being_trained_is_not_suggested_again(tmp_path):
    settings = config(sampler="grid", space={"hidden_size": [8, 64]})
    study = open_study(settings, "s", tmp_path)
    suggested = [suggest_params(ask(study, settings), settings) for _ in range(2)]
    assert [params["hidden_size"] for params in suggested] == [64, 8]
    assert ask(study, settings) is None


def test_a_huge_grid_is_not_listed(tmp_path):
    wide = {"low": 1, "high": 1_000_000}
    settings = config(sampler="grid", space={"hidden_size": wide, "num_layers": wide, "batch_size": wide})
    study = open_study(settings, "s", tmp_path)
    started = time.monotonic()
    assert len({tuple(suggest_params(ask(study, settings), settings).values()) for _ in range(5)}) == 5
    assert time.monotonic() - started < 5


# What is known of the trials.


def test_a_step_is_reported_once_without_a_warning(tmp_path):
    settings = config()
    study = open_study(settings, "s", tmp_path)
    trial = ask(study, settings)
    for value in (3.0, 2.0):
        report(trial, value, 0)
    assert study.trials[0].intermediate_values == {0: 3.0}


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_pruner_prunes_the_worst_trials_but_never_a_member(tmp_path, pruner):
    settings = config(members=[{"seed": seed} for seed in range(8)], pruner=pruner, trials=40)
    study = open_study(settings, "s", tmp_path)
    for number in range(8):
        trial = ask(study, settings)
        suggest_params(trial, settings)
        for epoch in range(9):
            report(trial, float(number), epoch)
            assert not should_prune(trial, settings)
        tell(study, trial, [float(number)], COMPLETE)
    pruned_at = []
    for _ in range(12):
        trial = ask(study, settings)
        suggest_params(trial, settings)
        steps = (
            epoch for epoch in range(9) if not report(trial, 100.0 + epoch, epoch) and should_prune(trial, settings)
        )
        pruned_at.append(next(steps, None))
        tell(study, trial, None, FAIL)
    epochs = [epoch for epoch in pruned_at if epoch is not None]
    assert (not epochs) if pruner == "none" else epochs
    assert all(epoch >= 2 for epoch in epochs)


def test_one_epoch_is_enough_for_hyperband(tmp_path):
    settings = config(pruner="hyperband", model={"epochs": 1})
    study = open_study(settings, "s", tmp_path)
    for _ in range(3):
        train(study, settings, ask(study, settings), epochs=1)
    assert {trial.state for trial in study.trials} == {COMPLETE}


def test_a_duplicate_has_the_same_network_on_any_device(tmp_path):
    settings = config()
    study = open_study(settings, "s", tmp_path)
    networks = [settings.model.replace(device=device, hidden_size=size) for device, size in DEVICES]
    trials = [ask(study, settings) for _ in networks]
    duplicates = []
    for trial, network, state in zip(trials, networks, (PRUNED, COMPLETE, COMPLETE, COMPLETE), strict=True):
        duplicates.append(find_duplicate(study, trial, network))
        tell(study, trial, [1.0] if state == COMPLETE else None, state)
    assert [trial and trial.number for trial in duplicates] == [None, None, 0, 2]
    assert find_duplicate(study, ask(study, settings), settings.model.replace(hidden_size=77)) is None


DEVICES = [("cpu", 8), ("cpu", 16), ("cuda:1", 8), ("auto", 8)]


def test_a_trial_whose_error_is_nan_has_failed(tmp_path):
    settings = config()
    study = open_study(settings, "s", tmp_path)
    tell(study, ask(study, settings), [math.nan], COMPLETE)
    assert study.trials[0].state == FAIL


@pytest.mark.parametrize(
    ("values", "reached"),
    [
        ([5.0, 4.0], False),
        ([5.0, 6.0, 7.0, 8.0], True),
        ([5.0, 6.0, 7.0, 4.0], False),
        ([5.0, 6.0, 7.0, 4.0, 4.0, 4.0, 4.0], True),
        ([5.0, None, math.nan, None], True),
        ([5.0, None, 4.0, None], False),
    ],
)
def test_a_plateau_is_reached_after_three_trials_without_a_better_one(tmp_path, values, reached):
    study = open_study(config(plateau=3), "s", tmp_path)
    finish_trials(study, config(plateau=3), *values)
    assert plateau_reached(study, config(plateau=3)) is reached
    assert not plateau_reached(study, config())


def test_members_are_not_counted_for_the_plateau(tmp_path):
    settings = config(members=[{"seed": seed} for seed in range(5)], plateau=2)
    study = open_study(settings, "s", tmp_path)
    finish_trials(study, settings, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0)
    assert not plateau_reached(study, settings)
    finish_trials(study, settings, 3.0)
    assert plateau_reached(study, settings)


def test_the_plateau_counts_trials_in_the_order_of_their_end(tmp_path):
    settings = config(plateau=2)
    study = open_study(settings, "s", tmp_path)
    trials = [ask(study, settings) for _ in range(3)]
    for trial, value in zip(trials[::-1], (3.0, 2.0, 1.0), strict=True):
        tell(study, trial, [value], COMPLETE)
    assert not plateau_reached(study, settings)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_objectives_have_a_pareto_front_and_no_pruning(tmp_path, sampler):
    settings = config(objectives=["error", "latency"], sampler=sampler, space=SAMPLERS[sampler])
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 8)
    assert {trial.state for trial in study.trials} == {COMPLETE}
    points = {trial.number: trial.values for trial in study.trials}
    dominated = {
        number
        for number, (a, b) in points.items()
        for c, d in points.values()
        if c <= a and d <= b and (c, d) != (a, b)
    }
    assert pareto_front(study) == sorted(set(points) - dominated)
    assert not plateau_reached(study, settings)


def test_the_pareto_front_of_no_trials_is_empty(tmp_path):
    assert pareto_front(open_study(config(objectives=["error", "latency"]), "s", tmp_path)) == []
