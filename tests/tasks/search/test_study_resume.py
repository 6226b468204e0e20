"""A search that was killed goes on as if nothing had been; another one begins with its best trial."""

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

# Going on after a kill: whoever opens the study anew has nothing but its content.


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """What a search that nobody interrupts consists of in the end."""

    def content_of(sampler, pruner, count=10):
        settings = config(sampler=sampler, pruner=pruner, space=SAMPLERS[sampler])
        study = open_study(settings, "s", tmp_path_factory.mktemp("undisturbed"))
        search(study, settings, count)
        return content(study)

    return content_of


@pytest.mark.parametrize(
    ("sampler", "pruner"), [(one, "median") for one in SAMPLERS] + [("tpe", one) for one in PRUNERS[1:]]
)
def test_a_killed_search_proposes_what_the_undisturbed_one_would(tmp_path, undisturbed, sampler, pruner):
    settings = config(sampler=sampler, pruner=pruner, space=SAMPLERS[sampler])
    search(open_study(settings, "s", tmp_path), settings, 3)
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 3)
    half_way = ask(study, settings)
    values = suggest_params(half_way, settings)
    report(half_way, 2 * error_of(values), 0)

    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    assert (resumed.number, resumed.params) == (6, values)
    train(study, settings, resumed)
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 10 - len(study.trials))
    assert content(study) == undisturbed(sampler, pruner)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("known", [0, 1, 2])
def test_a_trial_killed_while_it_was_given_its_values_gets_the_same(tmp_path, undisturbed, sampler, known):
    settings = config(sampler=sampler, space=SAMPLERS[sampler])
    study = open_study(settings, "s", tmp_path)
    search(study, settings, 7)
    killed = ask(study, settings)
    wanted = undisturbed(sampler, "median", 8)[7][0]
    for key in list(SAMPLERS[sampler])[:known]:  # as far as it came
        if key == "hidden_size":
            killed.suggest_categorical(key, SPACE[key])
        else:
            killed.suggest_int(key, 1, 3)
    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    assert len(resumed.params) == known
    assert suggest_params(resumed, settings) == wanted


def test_a_dead_workers_trial_goes_on_where_fewer_keys_are_drawn_together_by_now(tmp_path):
    settings = config(sampler="gp", pruner="none", seed=3)
    study = open_study(settings, "s", tmp_path)
    for number in range(7):
        study.enqueue_trial({"num_layers": 2 + number % 2, "hidden_size": 8})
    search(study, settings, 8)
    left = ask(study, settings)
    left.suggest_categorical("hidden_size", SPACE["hidden_size"])
    assert left.relative_params["num_layers"] > 1 and "dropout" in left.relative_params
    study.enqueue_trial({"num_layers": 1})
    search(study, settings, 1)
    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    assert set(suggest_params(resumed, settings)) == set(SPACE)


def test_a_process_killed_in_mid_search_leaves_a_study_that_another_one_completes_alike(tmp_path, undisturbed):
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
    died = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], env=environment, cwd=ROOT, timeout=120)
    assert died.returncode == -signal.SIGKILL
    settings = config()
    study = open_study(settings, "s", tmp_path)
    (resumed,) = orphaned_trials(study)
    train(study, settings, resumed)
    search(study, settings, 2)
    assert content(study) == undisturbed("tpe", "median")


def test_first_trials_that_a_killed_process_did_not_get_to_queue_are_queued_by_the_next(tmp_path, monkeypatch):
    settings, queued = config(members=[{"seed": seed} for seed in range(3)]), []
    enqueue = optuna.Study.enqueue_trial

    def only_two(self, *args, **kwargs):
        if len(queued) == 2:
            raise KeyboardInterrupt
        queued.append(enqueue(self, *args, **kwargs))

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(optuna.Study, "enqueue_trial", only_two)
        open_study(settings, "s", tmp_path)
    study = open_study(settings, "s", tmp_path)
    assert [member_of(trial) for trial in study.trials] == [0, 1, 2]


def test_a_study_that_goes_on_with_more_trials_is_the_one_that_had_them_from_the_start(tmp_path):
    short, long = config(trials=4), config(trials=8)
    search(open_study(short, "s", tmp_path / "a"), short, 4)
    search(open_study(long, "s", tmp_path / "a"), long, 4)
    search(open_study(long, "s", tmp_path / "b"), long, 8)
    assert content(open_study(long, "s", tmp_path / "a")) == content(open_study(long, "s", tmp_path / "b"))


def test_another_seed_proposes_other_values(tmp_path):
    one, two = (
        search(open_study(config(seed=seed), "s", tmp_path / str(seed)), config(seed=seed), 3) for seed in (1, 2)
    )
    assert one[0] == two[0]  # the member
    assert one[1:] != two[1:]


# The last search's best.


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


def test_the_best_of_the_last_search_is_proposed_after_the_members(tmp_path):
    best = {"hidden_size": 8, "num_layers": 3, "learning_rate": 0.004}
    previous = previous_with(tmp_path, config(space=PLAIN), ({"hidden_size": 32}, 2.0), (best, 1.0))
    study = open_study(config(space=PLAIN, members=[{}, {"seed": 1}]), "new", tmp_path, previous)
    assert warm_starts(study) == {"old#2": best}
    assert [member_of(trial) for trial in study.trials] == [0, 1, None]
    assert open_study(config(space=PLAIN), "new", tmp_path, previous).get_trials() == study.get_trials()


def test_values_that_the_space_no_longer_has_are_passed_over(tmp_path):
    previous = previous_with(
        tmp_path, config(space=PLAIN), ({"hidden_size": 32}, 1.0), ({"hidden_size": 16, "num_layers": 1}, 2.0)
    )
    now = config(space={**PLAIN, "hidden_size": [8, 16]})
    assert list(warm_starts(open_study(now, "new", tmp_path, previous))) == ["old#2"]
    fixed = {"num_layers": PLAIN["num_layers"], "learning_rate": PLAIN["learning_rate"]}
    now = config(space=fixed, model={"hidden_size": 16})  # what is fixed by now must be what it was
    assert list(warm_starts(open_study(now, "newer", tmp_path, previous))) == ["old#2"]
    now = config(space=SPACE)  # a key that was not searched has the model's own value, where it is asked
    warm = warm_starts(open_study(now, "newest", tmp_path, previous))
    assert warm["old#1"] == {"hidden_size": 32, "num_layers": 2, "learning_rate": 0.001, "dropout": 0.2}


@pytest.mark.parametrize(
    "changes",
    [{"warm_start": False}, {"trials": 1}, {"space": {"batch_size": [8, 16]}}],
    ids=["not wanted", "no trial beside the members", "another space"],
)
def test_nothing_is_taken_from_the_last_search(tmp_path, changes):
    previous = previous_with(tmp_path, config(space=PLAIN), ({"hidden_size": 8}, 1.0))
    assert warm_starts(open_study(config(**{"space": PLAIN, **changes}), "new", tmp_path, previous)) == {}


def test_a_member_is_not_proposed_twice(tmp_path):
    previous = previous_with(tmp_path, config(space=PLAIN), ({"hidden_size": 16}, 1.0))
    now = config(space=PLAIN, members=[{}, {"hidden_size": 16}])
    assert warm_starts(open_study(now, "new", tmp_path, previous)) == {}


def test_a_search_in_which_nothing_ended_gives_nothing(tmp_path):
    previous = open_study(config(space=PLAIN), "old", tmp_path / "old")
    assert warm_starts(open_study(config(space=PLAIN), "new", tmp_path, previous)) == {}
