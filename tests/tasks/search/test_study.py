"""The study of a search: what it proposes, and what it knows of its trials."""

import math
import time

import pytest

from tasks.search.study import (
    ask,
    find_duplicate,
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


def ended(study, settings, *values):
    """Trials that end in this order, with these values; None: pruned, nan: failed."""
    for value in values:
        trial = ask(study, settings)
        suggest_params(trial, settings)
        tell(study, trial, None if value is None else [value], PRUNED if value is None else COMPLETE)


# What is proposed.


def test_the_members_come_first_and_keep_what_they_have_of_their_own(tmp_path):
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
def test_a_key_is_asked_where_its_condition_holds_and_nowhere_else(tmp_path, sampler):
    settings = config(sampler=sampler)
    study = open_study(settings, "s", tmp_path)
    done = search(study, settings, 14)
    assert {values["num_layers"] for values in done} == {1, 2, 3}
    assert all(("dropout" in values) is (values["num_layers"] > 1) for values in done)
    assert [trial.params for trial in study.trials] == done


def test_a_condition_on_a_key_that_is_not_asked_itself_looks_at_the_models_own_value():
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


def test_a_grid_gives_each_point_once_and_then_nothing(tmp_path):
    settings = config(sampler="grid", space=GRID, members=[{}, {"hidden_size": 8, "num_layers": 3}])
    study = open_study(settings, "s", tmp_path)
    done = search(study, settings, 100)
    assert len(done) == 9
    assert {(one["hidden_size"], one["num_layers"]) for one in done} == {(a, b) for a in (8, 16, 32) for b in (1, 2, 3)}
    assert ask(study, settings) is None


def test_a_point_of_the_grid_that_is_being_trained_is_not_given_again(tmp_path):
    settings = config(sampler="grid", space={"hidden_size": [8, 64]})
    study = open_study(settings, "s", tmp_path)
    given = [suggest_params(ask(study, settings), settings) for _ in range(2)]
    assert [one["hidden_size"] for one in given] == [64, 8]
    assert ask(study, settings) is None


def test_a_huge_grid_is_not_written_out(tmp_path):
    wide = {"low": 1, "high": 1_000_000}
    settings = config(sampler="grid", space={"hidden_size": wide, "num_layers": wide, "batch_size": wide})
    study = open_study(settings, "s", tmp_path)
    started = time.monotonic()
    assert len({tuple(suggest_params(ask(study, settings), settings).values()) for _ in range(5)}) == 5
    assert time.monotonic() - started < 5


# What is known of the trials.


def test_a_step_is_told_once_without_a_warning(tmp_path):
    settings = config()
    study = open_study(settings, "s", tmp_path)
    trial = ask(study, settings)
    for value in (3.0, 2.0):
        report(trial, value, 0)
    assert study.trials[0].intermediate_values == {0: 3.0}


@pytest.mark.parametrize("pruner", PRUNERS)
def test_a_pruner_ends_what_is_worst_but_never_a_member(tmp_path, pruner):
    settings = config(members=[{"seed": seed} for seed in range(8)], pruner=pruner, trials=40)
    study = open_study(settings, "s", tmp_path)
    for number in range(8):
        trial = ask(study, settings)
        suggest_params(trial, settings)
        for epoch in range(9):
            report(trial, float(number), epoch)
            assert not should_prune(trial, settings)
        tell(study, trial, [float(number)], COMPLETE)
    ends = []
    for _ in range(12):
        trial = ask(study, settings)
        suggest_params(trial, settings)
        steps = (
            epoch for epoch in range(9) if not report(trial, 100.0 + epoch, epoch) and should_prune(trial, settings)
        )
        ends.append(next(steps, None))
        tell(study, trial, None, FAIL)
    assert set(ends) == {None} if pruner == "none" else any(end is not None and end >= 2 for end in ends)
    assert not [end for end in ends if end is not None and end < 2]


def test_one_epoch_is_enough_for_hyperband(tmp_path):
    settings = config(pruner="hyperband", model={"epochs": 1})
    study = open_study(settings, "s", tmp_path)
    for _ in range(3):
        train(study, settings, ask(study, settings), epochs=1)
    assert {trial.state for trial in study.trials} == {COMPLETE}


def test_the_same_network_is_found_whatever_its_device(tmp_path):
    settings = config()
    study = open_study(settings, "s", tmp_path)
    networks = [settings.model.replace(device=device, hidden_size=size) for device, size in DEVICES]
    trials = [ask(study, settings) for _ in networks]
    found = []
    for trial, network, state in zip(trials, networks, (PRUNED, COMPLETE, COMPLETE, COMPLETE), strict=True):
        found.append(find_duplicate(study, trial, network))
        tell(study, trial, [1.0] if state == COMPLETE else None, state)
    assert [one and one.number for one in found] == [None, None, 0, 2]
    assert find_duplicate(study, ask(study, settings), settings.model.replace(hidden_size=77)) is None


DEVICES = [("cpu", 8), ("cpu", 16), ("cuda:1", 8), ("auto", 8)]


def test_a_value_that_is_no_number_is_a_failure(tmp_path):
    settings = config()
    study = open_study(settings, "s", tmp_path)
    tell(study, ask(study, settings), [math.nan], COMPLETE)
    assert study.trials[0].state == FAIL


@pytest.mark.parametrize(
    ("values", "stalled"),
    [
        ([5.0, 4.0], False),
        ([5.0, 6.0, 7.0, 8.0], True),
        ([5.0, 6.0, 7.0, 4.0], False),
        ([5.0, 6.0, 7.0, 4.0, 4.0, 4.0, 4.0], True),
        ([5.0, None, math.nan, None], True),
        ([5.0, None, 4.0, None], False),
    ],
)
def test_a_search_has_stalled_after_three_trials_without_a_better_one(tmp_path, values, stalled):
    study = open_study(config(plateau=3), "s", tmp_path)
    ended(study, config(plateau=3), *values)
    assert plateau_reached(study, config(plateau=3)) is stalled
    assert not plateau_reached(study, config())


def test_members_do_not_use_up_the_patience_of_a_search(tmp_path):
    settings = config(members=[{"seed": seed} for seed in range(5)], plateau=2)
    study = open_study(settings, "s", tmp_path)
    ended(study, settings, 1.0, 2.0, 2.0, 2.0, 2.0, 3.0)
    assert not plateau_reached(study, settings)
    ended(study, settings, 3.0)
    assert plateau_reached(study, settings)


def test_it_is_the_order_of_their_ends_that_counts(tmp_path):
    settings = config(plateau=2)
    study = open_study(settings, "s", tmp_path)
    trials = [ask(study, settings) for _ in range(3)]
    for trial, value in zip(trials[::-1], (3.0, 2.0, 1.0), strict=True):
        tell(study, trial, [value], COMPLETE)
    assert not plateau_reached(study, settings)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_two_objectives_have_a_front_and_no_pruning(tmp_path, sampler):
    settings = config(objectives=["error", "latency"], sampler=sampler, space=SAMPLERS[sampler])
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 8)
    assert {trial.state for trial in study.trials} == {COMPLETE}
    points = {trial.number: trial.values for trial in study.trials}
    beaten = {
        one for one, (a, b) in points.items() for c, d in points.values() if c <= a and d <= b and (c, d) != (a, b)
    }
    assert pareto_front(study) == sorted(set(points) - beaten)
    assert not plateau_reached(study, settings)


def test_the_front_of_nothing_is_empty(tmp_path):
    assert pareto_front(open_study(config(objectives=["error", "latency"]), "s", tmp_path)) == []
