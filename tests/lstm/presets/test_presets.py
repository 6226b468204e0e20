"""Defaults of a preset: explicit values kept, members, budgets and strides."""

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
    CERTAIN,
    CONFIGS,
    KNOWN,
    LONG,
    STRONG,
    WEAK,
    make_config,
    make_runs,
    one_run,
    run_lengths,
)

PRESETS = ("fast", "accurate")
TASKS = [(1, 12, {}), (24, 24, {}), (24, 96, {}), (7, 7, {}), (24, 3, {}), (24, 24, KNOWN)]  # season, horizon, data


def member_networks(completed: PipelineConfig) -> list[ModelConfig]:
    """Return the networks of the members, as their trials have them."""
    return [completed.network_config(completed.trial_params(member)) for member in completed.members]


def lengths(completed: PipelineConfig) -> set[tuple[int, int]]:
    return {(network.sequence_length, network.patch_length) for network in member_networks(completed)}


# Laws.


@settings(max_examples=100, deadline=None)
@given(CONFIGS, run_lengths())
@example(make_config(400, 1000), make_runs(cuts=(0, 0)))
@example(make_config(24, 24), make_runs((0, 25), (40, 65), (80, 105), cuts=(30, 70)))
def test_every_member_has_windows_wherever_one_step_and_the_seasonal_naive_have(config, panel):
    completed, horizon = with_defaults(config, panel), config.window.horizon
    train, scored = panel.windows(1, horizon)[0], panel.windows(config.evaluate.season, horizon)[1:]
    for network in [completed.model, *member_networks(completed)]:
        assert network.sequence_length % network.patch_length == 0
        assert (panel.windows(network.sequence_length, horizon)[0] > 0) == (train > 0)
        kept = panel.windows(max(network.sequence_length, config.evaluate.season), horizon)[1:]
        assert [count > 0 for count in kept] == [count > 0 for count in scored]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(CONFIGS, st.none() | run_lengths())
def test_a_completed_configuration_stays_the_same_even_as_a_file(config, panel):
    before, completed = config.to_dict(), with_defaults(config, panel)
    assert config.to_dict() == before
    assert (
        with_defaults(completed)
        == with_defaults(completed, panel)
        == PipelineConfig.parse(completed.to_dict())
        == completed
    )


@settings(max_examples=100, deadline=None)
@given(CONFIGS, st.none() | run_lengths(), st.data())
def test_any_valid_lengths_may_be_given(config, panel, data):
    patch, patches = data.draw(st.integers(1, 60)), data.draw(st.integers(1, 40))
    lengths = {"sequence_length": patch * patches, "patch_length": patch}
    explicit = data.draw(st.sampled_from([*({key: value} for key, value in lengths.items()), lengths]))
    completed = with_defaults(config_with(config, model=explicit), panel)
    for network in member_networks(completed):
        assert {key: getattr(network, key) for key in explicit} == explicit
        assert network.sequence_length % network.patch_length == 0


def config_with(config: PipelineConfig, **sections: object) -> PipelineConfig:
    return PipelineConfig.parse({**config.explicit_values, **sections}, partial=True)


# Members.


@pytest.mark.parametrize(("season", "horizon", "data"), TASKS)
@pytest.mark.parametrize("rows", [5000, 500_000])
@pytest.mark.parametrize("change", [CERTAIN, WEAK, STRONG])
def test_members_are_the_networks_of_the_rules_as_differences_to_the_first(season, horizon, data, rows, change):
    config = make_config(season, horizon, data=data, preset="accurate")
    panel = replace(one_run(rows, 20_000, 20_000), persistence_ratio=change)
    completed, suggested = with_defaults(config, panel), recipes.suggest_networks(config, panel)
    first, *others = completed.ensemble.members
    assert first == {}
    plain = completed.model.model_dump(mode="json")
    assert all(plain[key] != value for member in others for key, value in member.items())
    for network, params in zip(member_networks(completed), suggested, strict=True):
        assert params.items() <= network.model_dump(mode="json").items()


@pytest.mark.parametrize(("season", "horizon", "data"), TASKS)
@pytest.mark.parametrize(
    "panel", [None, *(replace(LONG, persistence_ratio=change) for change in (CERTAIN, WEAK, STRONG))]
)
def test_fast_takes_the_first_two_networks_of_accurate(season, horizon, data, panel):
    fast, accurate = (
        with_defaults(make_config(season, horizon, data=data, preset=preset), panel) for preset in PRESETS
    )
    assert fast.model == accurate.model
    assert fast.ensemble.members == accurate.ensemble.members[:2]
    assert len(accurate.ensemble.members) > 2


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(
    "explicit",
    [
        {},
        {"model": {"sequence_length": 48, "patch_length": 6, "anchor": "last"}},
        {"model": {"lags": [], "hidden_size": 64, "dropout": 0.3}},
        {"model": {"loss": "mse", "anchor": "gate", "lags": [24], "hidden_size": 32, "sequence_length": 48}},
        {"search": {"space": {"hidden_size": [64], "dropout": [0.3], "loss": ["mse"], "anchor": ["last"]}}},
    ],
    ids=str,
)
def test_members_that_given_or_searched_values_make_equal_count_once(preset, explicit):
    completed, plain = (with_defaults(make_config(preset=preset, **sections)) for sections in (explicit, {}))
    networks = member_networks(completed)
    assert all(network not in networks[:number] for number, network in enumerate(networks))
    assert 1 <= len(networks) <= len(member_networks(plain))


def test_members_that_do_not_go_with_a_search_space_are_left_out():
    space = {"cell": ["transformer"], "anchor": ["none"], "loss": ["mse"], "hidden_size": [8], "dropout": [0.1]}
    plain, completed = (
        with_defaults(make_config(preset="accurate", **explicit)) for explicit in ({}, {"search": {"space": space}})
    )
    assert 1 <= len(completed.ensemble.members) < len(plain.ensemble.members)
    assert {(network.cell, network.anchor, network.hidden_size) for network in member_networks(completed)} == {
        ("transformer", "none", 8)
    }


def test_patch_and_lags_go_with_every_lookback_that_is_searched():
    for lengths, patch in (([24, 48, 168], 24), ([36, 60], 12), ({"low": 24, "high": 96}, 1)):
        for horizon in (4, 24, 96):
            completed = with_defaults(
                make_config(horizon=horizon, search={"space": {"sequence_length": lengths}}), LONG
            )
            assert completed.model.patch_length <= patch
            assert all(lag <= 36 for lag in completed.model.lags)


def test_a_lookback_goes_with_every_patch_that_is_searched():
    completed = with_defaults(make_config(search={"space": {"patch_length": [5, 6]}}), LONG)
    assert completed.model.sequence_length % 30 == 0


@pytest.mark.parametrize("preset", PRESETS)
def test_several_targets_are_forecast_independently(preset):
    for target, apart in ((["y"], False), (["y", "z"], True)):
        completed = with_defaults(make_config(preset=preset, data={"target": target}))
        assert {network.channel_independent for network in member_networks(completed)} == {apart}


# Budgets.


def test_accurate_searches_beyond_its_members_and_adds_the_best_to_the_ensemble():
    fast, accurate = (with_defaults(make_config(preset=preset)) for preset in PRESETS)
    assert fast.search.trials == fast.ensemble.size == len(fast.ensemble.members)
    assert accurate.search.trials > accurate.ensemble.size > len(accurate.ensemble.members)


@pytest.mark.parametrize("preset", PRESETS)
def test_size_and_trials_follow_given_members(preset):
    completed = with_defaults(make_config(preset=preset, ensemble={"members": [{"seed": seed} for seed in range(9)]}))
    assert 9 <= completed.ensemble.size <= completed.search.trials
    assert (completed.ensemble.size == 9) is (preset == "fast")


def test_empty_members_are_the_model_alone_and_null_the_members_of_the_preset():
    completed = with_defaults(make_config(ensemble={"members": []}))
    assert (completed.members, completed.ensemble.size, completed.search.trials) == (({},), 1, 1)
    assert with_defaults(make_config(ensemble={"members": None})) == with_defaults(make_config())


def test_nothing_is_searched_if_all_keys_of_the_space_are_given():
    model = {"dropout": 0.1, "learning_rate": 0.1, "hidden_size": 48, "num_layers": 4}
    for explicit in ({"search": {"space": {}}}, {"model": model}):
        completed = with_defaults(make_config(preset="accurate", **explicit))
        assert completed.search.space == {}
        assert completed.search.trials == completed.ensemble.size == len(completed.ensemble.members)


@pytest.mark.parametrize("preset", PRESETS)
def test_given_trials_members_and_stride_win(preset):
    members = ({"seed": 1}, {"seed": 2}, {"seed": 3, "anchor": "mean"})
    search, ensemble = {"trials": 2, "timeout": "1min"}, {"members": members, "size": 7, "method": "median"}
    config = make_config(preset=preset, search=search, ensemble=ensemble, window={"stride": 3})
    completed = with_defaults(config, one_run(5_000_000, 500, 500))
    assert (completed.search.trials, completed.search.timeout, completed.window.stride) == (2, "1min", 3)
    assert (completed.ensemble.members, completed.ensemble.size, completed.ensemble.method) == (members, 7, "median")


@pytest.mark.parametrize("preset", PRESETS)
@given(rows=st.integers(1000, 20_000_000), targets=st.integers(1, 3))
@settings(max_examples=50, deadline=None)
def test_the_stride_is_the_smallest_that_keeps_an_epoch_in_its_bounds(preset, rows, targets):
    panel, bound = one_run(rows, 500, 500), {"fast": 100_000, "accurate": 300_000}[preset]  # as in docs/models.md
    completed = with_defaults(make_config(preset=preset, data={"target": ["x", "y", "z"][:targets]}), panel)
    windows = panel.windows(completed.model.sequence_length, completed.window.horizon)[0] * targets
    assert windows <= bound * completed.window.stride
    assert completed.window.stride == 1 or windows > bound * (completed.window.stride - 1)


@pytest.mark.parametrize("panel", [None, one_run(5000, 500, 500), make_runs(cuts=(0, 0))])
def test_short_and_unknown_data_are_not_thinned(panel):
    assert with_defaults(make_config(), panel).window.stride == 1


# Explicit values.


@pytest.mark.parametrize(
    "explicit",
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
def test_given_keys_hold_for_every_network(preset, explicit, data):
    completed = with_defaults(make_config(preset=preset, model=explicit, data=data), LONG)
    for network in [completed.model, *member_networks(completed)]:
        assert {key: network.model_dump(mode="json")[key] for key in explicit} == explicit


def test_keys_of_given_members_hold_too():
    members = [{"hidden_size": 48}, {"dropout": 0.05, "learning_rate": 0.04}]
    completed = with_defaults(make_config(preset="accurate", ensemble={"members": members}))
    for network, member in zip(member_networks(completed), members, strict=True):
        assert {key: getattr(network, key) for key in member} == member


@given(st.sampled_from(TASKS), st.integers(1, 60))
@settings(max_examples=50, deadline=None)
def test_a_patch_alone_rounds_the_lookback_of_the_first_network_for_all(task, patch):
    plain, completed = (
        with_defaults(make_config(*task[:2], data=task[2], model=model)) for model in ({}, {"patch_length": patch})
    )
    length = plain.model.sequence_length
    assert lengths(completed) == {(max(length - length % patch, patch), patch)}


@given(st.sampled_from(TASKS), st.integers(1, 2000))
@settings(max_examples=50, deadline=None)
def test_a_lookback_alone_gets_a_patch_that_divides_it(task, length):
    plain, completed = (
        with_defaults(make_config(*task[:2], data=task[2], model=m)) for m in ({}, {"sequence_length": length})
    )
    ((lookback, patch),) = lengths(completed)
    assert lookback == length and length % patch == 0
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
def test_values_need_to_fit_the_chosen_lookback_not_the_models_default(sections, tmp_path):
    values = {"name": "sales", "data": {"source": "a.csv", "time": "t", "target": "y", "frequency": "1h"}, **sections}
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(values))
    assert with_defaults(load_config(tmp_path / "my.yaml"), LONG).model.sequence_length == 168


@pytest.mark.parametrize(
    ("sections", "message"),
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
def test_values_that_do_not_fit_the_chosen_lengths_are_named_by_their_key(sections, message):
    with pytest.raises(ConfigError, match=message) as caught:
        with_defaults(make_config(**sections))
    assert "\n" not in str(caught.value)


def test_a_seasonal_anchor_on_too_short_runs_is_named_by_its_key():
    config = make_config(season=20, horizon=4, search={"space": {"anchor": ["last", "seasonal"]}})
    assert with_defaults(config, LONG)
    with pytest.raises(ConfigError, match="search.space.anchor: anchor='seasonal' needs `2 <= season"):
        with_defaults(config, one_run(61, 200, 200))
