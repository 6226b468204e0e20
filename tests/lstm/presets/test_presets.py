"""What a preset fills in: merging with what is said, members, budgets, and how much is read."""

from dataclasses import replace

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError
from lstm.load_config import load_config
from lstm.presets import recipes
from lstm.presets.presets import with_defaults
from tests.support.preset_inputs import (
    CONFIGS,
    KNOWN,
    LEVEL,
    LONG,
    SHOWN,
    SURE,
    make_config,
    make_runs,
    one_run,
    run_lengths,
)

PRESETS = ("fast", "accurate")
TASKS = [(1, 12, {}), (24, 24, {}), (24, 96, {}), (7, 7, {}), (24, 3, {}), (24, 24, KNOWN)]  # season, horizon, data


def trained(done: PipelineConfig) -> list[ModelConfig]:
    """The networks of the members, as their trials have them."""
    return [done.network_config(done.trial_params(member)) for member in done.members]


def lengths(done: PipelineConfig) -> set[tuple[int, int]]:
    return {(one.sequence_length, one.patch_length) for one in trained(done)}


# Laws.


@settings(max_examples=100, deadline=None)
@given(CONFIGS, run_lengths())
@example(make_config(400, 1000), make_runs(cuts=(0, 0)))
@example(make_config(24, 24), make_runs((0, 25), (40, 65), (80, 105), cuts=(30, 70)))
def test_every_member_has_windows_wherever_one_step_and_the_seasonal_naive_have(asked, panel):
    done, horizon = with_defaults(asked, panel), asked.window.horizon
    train, scored = panel.windows(1, horizon)[0], panel.windows(asked.evaluate.season, horizon)[1:]
    for one in [done.model, *trained(done)]:
        assert one.sequence_length % one.patch_length == 0
        assert (panel.windows(one.sequence_length, horizon)[0] > 0) == (train > 0)
        kept = panel.windows(max(one.sequence_length, asked.evaluate.season), horizon)[1:]
        assert [count > 0 for count in kept] == [count > 0 for count in scored]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(CONFIGS, st.none() | run_lengths())
def test_what_is_completed_stays_as_it_is_even_as_a_file(asked, panel):
    before, done = asked.to_dict(), with_defaults(asked, panel)
    assert asked.to_dict() == before
    assert with_defaults(done) == with_defaults(done, panel) == PipelineConfig.parse(done.to_dict()) == done


@settings(max_examples=100, deadline=None)
@given(CONFIGS, st.none() | run_lengths(), st.data())
def test_any_lengths_that_go_together_may_be_said(asked, panel, data):
    patch, patches = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 40))
    lengths = {"sequence_length": patch * patches, "patch_length": patch}
    said = data.draw(st.sampled_from([*({key: value} for key, value in lengths.items()), lengths]))
    done = with_defaults(config_with(asked, model=said), panel)
    for one in trained(done):
        assert {key: getattr(one, key) for key in said} == said
        assert one.sequence_length % one.patch_length == 0


def config_with(asked: PipelineConfig, **sections: object) -> PipelineConfig:
    return PipelineConfig.parse({**asked.explicit_values, **sections}, partial=True)


# Members.


@pytest.mark.parametrize(("season", "horizon", "data"), TASKS)
@pytest.mark.parametrize("rows", [5000, 500_000])
@pytest.mark.parametrize("change", [SURE, LEVEL, SHOWN])
def test_members_are_the_networks_of_the_rules_as_differences_to_the_first(season, horizon, data, rows, change):
    asked = make_config(season, horizon, data=data, preset="accurate")
    panel = replace(one_run(rows, 20_000, 20_000), persistence_ratio=change)
    done, made = with_defaults(asked, panel), recipes.suggest_networks(asked, panel)
    first, *others = done.ensemble.members
    assert first == {}
    plain = done.model.model_dump(mode="json")
    assert all(plain[key] != value for member in others for key, value in member.items())
    for one, network in zip(trained(done), made, strict=True):
        assert network.items() <= one.model_dump(mode="json").items()


@pytest.mark.parametrize(("season", "horizon", "data"), TASKS)
@pytest.mark.parametrize("panel", [None, *(replace(LONG, persistence_ratio=change) for change in (SURE, LEVEL, SHOWN))])
def test_fast_takes_the_first_two_networks_of_accurate(season, horizon, data, panel):
    fast, accurate = (
        with_defaults(make_config(season, horizon, data=data, preset=preset), panel) for preset in PRESETS
    )
    assert fast.model == accurate.model
    assert fast.ensemble.members == accurate.ensemble.members[:2]
    assert len(accurate.ensemble.members) > 2


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "said",
    [
        {},
        {"model": {"sequence_length": 48, "patch_length": 6, "anchor": "last"}},
        {"model": {"lags": [], "hidden_size": 64, "dropout": 0.3}},
        {"model": {"loss": "mse", "anchor": "gate", "lags": [24], "hidden_size": 32, "sequence_length": 48}},
        {"search": {"space": {"hidden_size": [64], "dropout": [0.3], "loss": ["mse"], "anchor": ["last"]}}},
    ],
    ids=str,
)
def test_members_that_what_is_said_or_searched_makes_equal_count_once(preset, said):
    done, plain = (with_defaults(make_config(preset=preset, **sections)) for sections in (said, {}))
    found = trained(done)
    assert all(one not in found[:number] for number, one in enumerate(found))
    assert 1 <= len(found) <= len(trained(plain))


def test_members_that_do_not_go_with_a_search_space_are_left_out():
    space = {"cell": ["transformer"], "anchor": ["none"], "loss": ["mse"], "hidden_size": [8], "dropout": [0.1]}
    plain, done = (with_defaults(make_config(preset="accurate", **said)) for said in ({}, {"search": {"space": space}}))
    assert 1 <= len(done.ensemble.members) < len(plain.ensemble.members)
    assert {(one.cell, one.anchor, one.hidden_size) for one in trained(done)} == {("transformer", "none", 8)}


def test_patch_and_lags_go_with_every_look_back_that_is_searched():
    for lengths, patch in (([24, 48, 168], 24), ([36, 60], 12), ({"low": 24, "high": 96}, 1)):
        for horizon in (4, 24, 96):
            done = with_defaults(make_config(horizon=horizon, search={"space": {"sequence_length": lengths}}), LONG)
            assert done.model.patch_length <= patch
            assert all(lag <= 36 for lag in done.model.lags)


def test_a_look_back_goes_with_every_patch_that_is_searched():
    done = with_defaults(make_config(search={"space": {"patch_length": [5, 6]}}), LONG)
    assert done.model.sequence_length % 30 == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_several_targets_are_forecast_each_by_itself(preset):
    for target, apart in ((["y"], False), (["y", "z"], True)):
        done = with_defaults(make_config(preset=preset, data={"target": target}))
        assert {one.channel_independent for one in trained(done)} == {apart}


# Budgets.


def test_accurate_searches_beyond_its_members_and_lets_the_best_join():
    fast, accurate = (with_defaults(make_config(preset=preset)) for preset in PRESETS)
    assert fast.search.trials == fast.ensemble.size == len(fast.ensemble.members)
    assert accurate.search.trials > accurate.ensemble.size > len(accurate.ensemble.members)


@pytest.mark.parametrize("preset", PRESETS)
def test_size_and_trials_follow_members_of_ones_own(preset):
    done = with_defaults(make_config(preset=preset, ensemble={"members": [{"seed": seed} for seed in range(9)]}))
    assert 9 <= done.ensemble.size <= done.search.trials
    assert (done.ensemble.size == 9) is (preset == "fast")


def test_no_member_is_one_network_as_the_model_says_and_null_the_members_of_the_preset():
    done = with_defaults(make_config(ensemble={"members": []}))
    assert (done.members, done.ensemble.size, done.search.trials) == (({},), 1, 1)
    assert with_defaults(make_config(ensemble={"members": None})) == with_defaults(make_config())


def test_nothing_is_searched_where_all_that_could_be_is_said():
    model = {"dropout": 0.1, "learning_rate": 0.1, "hidden_size": 48, "num_layers": 4}
    for said in ({"search": {"space": {}}}, {"model": model}):
        done = with_defaults(make_config(preset="accurate", **said))
        assert done.search.space == {}
        assert done.search.trials == done.ensemble.size == len(done.ensemble.members)


@pytest.mark.parametrize("preset", PRESETS)
def test_trials_members_and_stride_that_are_said_win(preset):
    members = ({"seed": 1}, {"seed": 2}, {"seed": 3, "anchor": "mean"})
    search, ensemble = {"trials": 2, "timeout": "1min"}, {"members": members, "size": 7, "method": "median"}
    asked = make_config(preset=preset, search=search, ensemble=ensemble, window={"stride": 3})
    done = with_defaults(asked, one_run(5_000_000, 500, 500))
    assert (done.search.trials, done.search.timeout, done.window.stride) == (2, "1min", 3)
    assert (done.ensemble.members, done.ensemble.size, done.ensemble.method) == (members, 7, "median")


@pytest.mark.parametrize("preset", PRESETS)
@given(rows=st.integers(1000, 20_000_000), targets=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_the_stride_is_the_smallest_that_keeps_an_epoch_in_its_bounds(preset, rows, targets):
    panel, bound = one_run(rows, 500, 500), {"fast": 100_000, "accurate": 300_000}[preset]  # as in docs/models.md
    done = with_defaults(make_config(preset=preset, data={"target": ["x", "y", "z"][:targets]}), panel)
    windows = panel.windows(done.model.sequence_length, done.window.horizon)[0] * targets
    assert windows <= bound * done.window.stride
    assert done.window.stride == 1 or windows > bound * (done.window.stride - 1)


@pytest.mark.parametrize("panel", [None, one_run(5000, 500, 500), make_runs(cuts=(0, 0))])
def test_short_and_unknown_data_are_not_thinned(panel):
    assert with_defaults(make_config(), panel).window.stride == 1


# What the configuration says.


@pytest.mark.parametrize(
    "said",
    [
        {"anchor": "mean"},
        {"loss": "huber"},
        {"sequence_length": 12},
        {"sequence_length": 240},
        {"patch_length": 4},
        {"sequence_length": 60, "patch_length": 15},
        {"head": "recursive", "cell": "gru"},
        {"dropout": 0.05, "learning_rate": 0.04, "epochs": 3},
        {"hidden_size": 48, "num_layers": 4},
        {"quantiles": [0.1, 0.5, 0.9]},
        {"loss": "gaussian", "channel_independent": True},
        {"sequence_length": 48, "lags": [3, 48]},
    ],
    ids=str,
)
@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("data", [{}, KNOWN], ids=["plain", "known"])
def test_keys_that_are_said_hold_for_every_network(preset, said, data):
    done = with_defaults(make_config(preset=preset, model=said, data=data), LONG)
    for one in [done.model, *trained(done)]:
        assert {key: one.model_dump(mode="json")[key] for key in said} == said


def test_what_members_of_ones_own_say_holds_too():
    members = [{"hidden_size": 48}, {"dropout": 0.05, "learning_rate": 0.04}]
    done = with_defaults(make_config(preset="accurate", ensemble={"members": members}))
    for one, member in zip(trained(done), members, strict=True):
        assert {key: getattr(one, key) for key in member} == member


@given(st.sampled_from(TASKS), st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_a_patch_alone_rounds_the_look_back_of_the_first_network_for_all(task, patch):
    plain, done = (
        with_defaults(make_config(*task[:2], data=task[2], model=model)) for model in ({}, {"patch_length": patch})
    )
    length = plain.model.sequence_length
    assert lengths(done) == {(max(length - length % patch, patch), patch)}


@given(st.sampled_from(TASKS), st.integers(1, 2000))
@settings(max_examples=50, deadline=None)
def test_a_look_back_alone_gets_a_patch_that_divides_it(task, length):
    plain, done = (
        with_defaults(make_config(*task[:2], data=task[2], model=m)) for m in ({}, {"sequence_length": length})
    )
    ((found, patch),) = lengths(done)
    assert found == length and length % patch == 0
    assert patch <= plain.model.patch_length


@pytest.mark.parametrize(
    "sections",
    [
        {"model": {"patch_length": 24}},
        {"model": {"anchor": "seasonal"}},
        {"model": {"lags": [24]}},
        {"ensemble": {"members": [{"anchor": "gate"}]}},
        {"search": {"space": {"anchor": ["last", "seasonal"]}}},
    ],
    ids=str,
)
def test_what_goes_with_the_chosen_look_back_need_not_go_with_the_models_default(sections, tmp_path):
    values = {"name": "sales", "data": {"source": "a.csv", "time": "t", "target": "y", "frequency": "1h"}, **sections}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(values))
    assert with_defaults(load_config(tmp_path / "my.yaml"), LONG).model.sequence_length == 168


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"model": {"sequence_length": 12, "anchor": "gate"}}, "anchor='gate' needs .* sequence_length=12"),
        ({"model": {"lags": [1000]}}, "lags=\\[1000\\], sequence_length=168"),
        ({"ensemble": {"members": [{"sequence_length": 50}]}}, "ensemble.members.0: `sequence_length` must be"),
        ({"ensemble": {"members": [{"seed": 1}, {"patch_length": 5}]}}, "members.1: .* patch_length=5"),
        (
            {"model": {"patch_length": 6}, "search": {"space": {"sequence_length": [10]}}},
            "search.space.* `sequence_length` must be a multiple of",
        ),
        (
            {"model": {"sequence_length": 48}, "search": {"space": {"patch_length": [5]}}},
            "search.space.* must be a multiple of `patch_length`",
        ),
    ],
)
def test_what_does_not_go_with_the_chosen_lengths_is_told_by_its_key(sections, said):
    with pytest.raises(ConfigError, match=said) as caught:
        with_defaults(make_config(**sections))
    assert "\n" not in str(caught.value)


def test_an_anchor_on_a_season_that_the_runs_do_not_hold_is_told_by_its_key():
    asked = make_config(season=20, horizon=4, search={"space": {"anchor": ["last", "seasonal"]}})
    assert with_defaults(asked, LONG)
    with pytest.raises(ConfigError, match="search.space.anchor: anchor='seasonal' needs `2 <= season"):
        with_defaults(asked, one_run(61, 200, 200))
