"""A killed search continues as if undisturbed; the next search starts with its best trial."""

import os
import signal
import subprocess
import sys
import textwrap

import optuna
import pytest

from tasks.search.study import ask, member_of, open_study, orphaned_trials, report, suggest_params, tell
from tests.support.paths import ROOT
from tests.support.studies import (
    COMPLETE,
    PRUNERS,
    SAMPLERS,
    SPACE,
    config,
    content,
    error_of,
    search,
    train,
    warm_starts,
)

# Continue after a kill, from the content of the study alone.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """A function that returns the content of a study whose search was not interrupted."""

    def content_of(sampler, pruner, count=10):
        settings = config(sampler=sampler, pruner=pruner, space=SAMPLERS[sampler])
        study = open_study(settings, "s", tmp_path_factory.mktemp("undisturbed"))
        search(study, settings, count)
        return content(study)

    return content_of


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sampler", "pruner"), [(sampler, "median") for sampler in SAMPLERS] + [("tpe", pruner) for pruner in PRUNERS[1:]]
)
def test_a_killed_search_suggests_what_the_undisturbed_one_would(tmp_path, undisturbed, sampler, pruner):
    settings = config(sampler=sampler, pruner=pruner, space=SAMPLERS[sampler])
    search(open_study(settings, "s", tmp_path), settings, 3)
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 3)
    unfinished = ask(study, settings)
    values = suggest_params(unfinished, settings)
    report(unfinished, 2 * error_of(values), 0)

    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    assert (resumed.number, resumed.params) == (6, values)
    train(study, settings, resumed)
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 10 - len(study.trials))
    assert content(study) == undisturbed(sampler, pruner)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_trial_killed_while_values_were_suggested_gets_the_same_ones(tmp_path, undisturbed, sampler, known):
    settings = config(sampler=sampler, space=SAMPLERS[sampler])
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 7)
    killed = ask(study, settings)
    expected = undisturbed(sampler, "median", 8)[7][0]
    for key in list(SAMPLERS[sampler])[:known]:
        if key == "hidden_size":
            killed.suggest_categorical(key, SPACE[key])
        else:
            killed.suggest_int(key, 1, 3)
    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    assert len(resumed.params) == known
    assert suggest_params(resumed, settings) == expected


def test_an_orphaned_trial_continues_when_fewer_keys_are_drawn_together(tmp_path):
    settings = config(sampler="gp", pruner="none", seed=3)
    study = open_study(settings, "s", tmp_path)
    for number in range(7):
        study.enqueue_trial({"num_layers": 2 + number % 2, "hidden_size": 8})
    search(study, settings, 8)
    orphan = ask(study, settings)
    orphan.suggest_categorical("hidden_size", SPACE["hidden_size"])
    assert orphan.relative_params["num_layers"] > 1 and "dropout" in orphan.relative_params
    study.enqueue_trial({"num_layers": 1})
    search(study, settings, 1)
    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    assert set(suggest_params(resumed, settings)) == set(SPACE)


@pytest.mark.slow
def test_another_process_completes_the_study_of_a_killed_one_alike(tmp_path, undisturbed):
    script = f"""
        import os, signal
        from pathlib import Path
        from tasks.search.study import *
        from tests.support.studies import *
        settings = config()
        study = open_study(settings, "s", Path({str(tmp_path)!r}))
        search(study, settings, 7)
        trial = ask(study, settings)
        report(trial, 2 * error_of(suggest_params(trial, settings)), 0)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "73"}
    process = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, cwd=ROOT, timeout=120)
    assert process.returncode == -signal.SIGKILL
    settings = config()
    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    train(study, settings, resumed)
    search(study, settings, 2)
    assert content(study) == undisturbed("tpe", "median")


def test_the_next_process_enqueues_the_first_trials_that_a_killed_one_did_not(tmp_path, monkeypatch):
    settings, enqueued = config(members=[{"seed": seed} for seed in range(3)]), []
    enqueue = optuna.Study.enqueue_trial

    def only_two(self, *args, **kwargs):
        if len(enqueued) == 2:
            raise KeyboardInterrupt
        enqueued.append(enqueue(self, *args, **kwargs))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "enqueue_trial", only_two)
        open_study(settings, "s", tmp_path)
    study = open_study(settings, "s", tmp_path)
    assert [member_of(trial) for trial in study.trials] == [0, 1, 2]


def test_a_study_extended_by_trials_equals_one_that_had_them_from_the_start(tmp_path):
    short, long = config(trials=4), config(trials=8)
    search(open_study(short, "s", tmp_path / "a"), short, 4)
    search(open_study(long, "s", tmp_path / "a"), long, 4)
    search(open_study(long, "s", tmp_path / "b"), long, 8)
    assert content(open_study(long, "s", tmp_path / "a")) == content(open_study(long, "s", tmp_path / "b"))


def test_another_seed_suggests_other_values(tmp_path):
    first, second = (
        search(open_study(config(seed=seed), "s", tmp_path / str(seed)), config(seed=seed), 3) for seed in (1, 2)
    )
    assert first[0] == second[0]  # the member
    assert first[1:] != second[1:]


# The warm start.


def previous_with(tmp_path, settings, *trials):
    """A finished search with these trials, (changes, error) each."""
    study = open_study(settings, "old", tmp_path / "old")
    for changes, _ in trials:
        study.enqueue_trial(settings.trial_params(changes))
    for error in (100.0, *(error for _, error in trials)):  # the member comes first
        trial = ask(study, settings)
        suggest_params(trial, settings)
        tell(study, trial, [error], COMPLETE)
    return study


PLAIN = {key: SPACE[key] for key in ("hidden_size", "num_layers", "learning_rate")}


def test_the_best_trial_of_the_last_search_comes_after_the_members(tmp_path):
    best = {"hidden_size": 8, "num_layers": 3, "learning_rate": 0.004}
    previous = previous_with(tmp_path, config(space=PLAIN), ({"hidden_size": 32}, 2.0), (best, 1.0))
    study = open_study(config(space=PLAIN, members=[{}, {"seed": 1}]), "new", tmp_path, previous)
    assert warm_starts(study) == {"old#2": best}
    assert [member_of(trial) for trial in study.trials] == [0, 1, None]
    assert open_study(config(space=PLAIN), "new", tmp_path, previous).get_trials() == study.get_trials()


def test_values_outside_the_space_are_skipped(tmp_path):
    previous = previous_with(
        tmp_path, config(space=PLAIN), ({"hidden_size": 32}, 1.0), ({"hidden_size": 16, "num_layers": 1}, 2.0)
    )
    settings = config(space={**PLAIN, "hidden_size": [8, 16]})
    assert list(warm_starts(open_study(settings, "new", tmp_path, previous))) == ["old#2"]
    fixed = {"num_layers": PLAIN["num_layers"], "learning_rate": PLAIN["learning_rate"]}
    settings = config(space=fixed, model={"hidden_size": 16})  # a key that is fixed now must have had that value
    assert list(warm_starts(open_study(settings, "newer", tmp_path, previous))) == ["old#2"]
    settings = config(space=SPACE)  # a key that was not searched gets the value of the model
    starts = warm_starts(open_study(settings, "newest", tmp_path, previous))
    assert starts["old#1"] == {"hidden_size": 32, "num_layers": 2, "learning_rate": 0.001, "dropout": 0.2}


@pytest.mark.parametrize(
    "changes",
    [{"warm_start": False}, {"trials": 1}, {"space": {"batch_size": [8, 16]}}],
    ids=["switched off", "no trial after the members", "another space"],
)
def test_there_is_no_warm_start(tmp_path, changes):
    previous = previous_with(tmp_path, config(space=PLAIN), ({"hidden_size": 8}, 1.0))
    assert warm_starts(open_study(config(**{"space": PLAIN, **changes}), "new", tmp_path, previous)) == {}


def test_a_member_is_not_suggested_twice(tmp_path):
    previous = previous_with(tmp_path, config(space=PLAIN), ({"hidden_size": 16}, 1.0))
    settings = config(space=PLAIN, members=[{}, {"hidden_size": 16}])
    assert warm_starts(open_study(settings, "new", tmp_path, previous)) == {}


def test_a_search_without_finished_trials_gives_no_warm_start(tmp_path):
    previous = open_study(config(space=PLAIN), "old", tmp_path / "old")
    assert warm_starts(open_study(config(space=PLAIN), "new", tmp_path, previous)) == {}
