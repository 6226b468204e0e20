"""What a preset fills in: by season, horizon, frequency and the real unbroken runs, and never over what is said."""

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from lstm.config import ModelConfig
from lstm.data.arrays import SplitArrays
from lstm.data.runs import Runs
from lstm.data.store import write_splits
from lstm.errors import ConfigError
from lstm.pipeline_config import PipelineConfig
from lstm.presets import FEW, completed

from .test_store import stored

PRESETS = ("fast", "accurate")


def config(season: int = 24, horizon: int = 24, frequency: str = "1h", **sections: Any) -> PipelineConfig:
    """A configuration that says nothing of a model, but for `sections`."""
    values = {
        "name": "sales",
        **sections,
        "data": {"source": "a.csv", "time": "t", "target": "y", "frequency": frequency, **sections.get("data", {})},
        "window": {"horizon": horizon, **sections.get("window", {})},
        "evaluate": {"season": season},
    }
    return PipelineConfig.parse(values)


def one_run(train: int, validation: int, test: int) -> Runs:
    """One unbroken series, with so many rows in each split."""
    return runs((0, train + validation + test), cuts=(train, train + validation))


def runs(*spans: tuple[int, int], cuts: tuple[int, int]) -> Runs:
    """Runs of rows [first, past) on one clock; training ends at the first cut, validation at the second."""
    first, past = np.array(spans, np.int64).reshape(-1, 2).T
    end = max([past for _, past in spans], default=0)
    return Runs(*(np.clip(moment, first, past) - first for moment in (0, *cuts, end)))


LONG = one_run(100_000, 10_000, 10_000)


def networks(done: PipelineConfig) -> list[ModelConfig]:
    return [done.network(member) for member in done.ensemble.members or ()]


def lengths(done: PipelineConfig) -> set[tuple[int, int]]:
    return {(one.sequence_length, one.patch_length) for one in networks(done)}


# The windows of runs.


@given(st.data())
def test_runs_count_the_windows_that_one_finds_by_trying_each_row(data):
    counts = st.integers(0, 40)
    spans = data.draw(st.lists(st.tuples(counts, counts).map(lambda ends: (min(ends), max(ends) + 1)), max_size=6))
    early, late = sorted((data.draw(counts), data.draw(counts)))
    back, ahead = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    end = max([past for _, past in spans], default=0)
    borders = {"train": (0, early), "validation": (early, late), "test": (late, end)}
    found = dict.fromkeys(borders, 0)
    for split, (start, past) in borders.items():
        for first, over in spans:
            for origin in range(first + back, over):
                seen = split != "train" or origin - back >= start
                found[split] += seen and start <= origin and origin + ahead <= min(past, over)
    assert runs(*spans, cuts=(early, late)).windows(back, ahead) == tuple(found.values())


def test_runs_of_a_panel_hold_the_windows_that_training_and_evaluation_get(hourly, tmp_path):
    kept = ~hourly.index.isin(
        [*range(100, 120), *range(860, 875), *range(1800, 1900)]
    )  # none short enough to be filled
    _, panel = stored(hourly[kept], tmp_path)
    found = Runs.of(panel)
    for back, ahead in ((1, 1), (24, 12), (48, 24), (30, 100)):
        (folder := tmp_path / f"splits-{back}").mkdir()
        write_splits(panel, back, folder)
        real = [len(SplitArrays.load(folder / split).windows(back, ahead, 0)) for split in panel.cuts.spans]
        assert found.windows(back, ahead) == tuple(real)


# Lengths.


@pytest.mark.parametrize(
    ("season", "horizon", "frequency", "expected"),
    [
        (1, 1, "B", [(24, 1)]),
        (1, 10, "B", [(40, 1)]),
        (1, 500, "1h", [(96, 1)]),
        (24, 96, "1h", [(336, 24), (720, 48)]),
        (7, 28, "1d", [(98, 7), (210, 14)]),
        (12, 60, "MS", [(168, 12), (360, 24)]),
        (24, 24, "1h", [(168, 6), (48, 6)]),
        (48, 24, "30min", [(336, 12), (96, 12)]),
        (96, 383, "15min", [(672, 24), (192, 24)]),
        (7, 14, "1d", [(14, 1), (28, 1)]),
        (12, 12, "MS", [(24, 3), (48, 3)]),
        (168, 24, "1h", [(336, 42), (672, 42)]),
        (24, 24, "30min", [(48, 6), (96, 6)]),
    ],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_look_backs_and_patches_follow_season_horizon_and_frequency(preset, season, horizon, frequency, expected):
    done = completed(config(season, horizon, frequency, preset=preset), LONG)
    assert (done.model.sequence_length, done.model.patch_length) == expected[0]
    assert lengths(done) == set(expected) if preset == "accurate" else lengths(done) <= set(expected)


def test_before_the_data_are_known_the_lengths_are_those_of_long_data():
    assert lengths(completed(config())) == lengths(completed(config(), LONG))


def test_an_inferred_frequency_tells_that_a_season_is_a_day():
    asked = config(frequency="infer")
    assert completed(asked).data.frequency == "infer"
    assert completed(asked.with_frequency("1h"), LONG) == completed(config(frequency="1h"), LONG)


@pytest.mark.parametrize("frequency", ["infer", "irregular"])
def test_without_a_frequency_a_season_is_not_taken_for_a_day(frequency):
    assert lengths(completed(config(frequency=frequency))) == lengths(completed(config(frequency="30min")))


def test_a_look_back_that_costs_a_fifth_of_the_training_windows_is_cut_to_fewer_seasons():
    # Of 500 rows 476 windows look back one step. Each step more costs one, and 95 may go: 96 steps are 4 seasons.
    assert completed(config(), one_run(498, 240, 240)).model.sequence_length == 72
    assert completed(config(), one_run(500, 240, 240)).model.sequence_length == 96


def test_a_look_back_that_costs_a_twentieth_of_the_validation_windows_is_cut():
    # The second series begins with validation: of 457 + 456 windows the look-back may cost 45, so one season is left.
    late = runs((0, 20_960), (20_000, 20_960), cuts=(20_000, 20_480))
    assert completed(config(), late).model.sequence_length == 24


def test_where_no_season_fits_the_look_back_is_a_part_of_one():
    # 57 windows look back one step; 11 may go.
    assert completed(config(horizon=4), one_run(61, 200, 200)).model.sequence_length == 12


def test_where_no_window_fits_the_look_back_is_one_step_for_the_error_to_come():
    assert completed(config(), runs(cuts=(0, 0))).model.sequence_length >= 1
    assert completed(config(season=1), one_run(2, 2, 2)).model.sequence_length >= 1


def test_seasons_as_long_as_a_configuration_allows_have_a_look_back_that_it_allows():
    for season in (50_000, 300_000, 1_000_000):
        for horizon in (1, 1_000_000):
            assert all(one.sequence_length % season == 0 for one in networks(completed(config(season, horizon))))


@st.composite
def broken(draw: st.DrawFn) -> Runs:
    """Runs of any lengths, one after the other or beside each other, with cuts anywhere."""
    spans, at = [], 0
    for length in draw(st.lists(st.integers(1, 3000) | st.integers(1, 60), max_size=12)):
        at = at + draw(st.integers(1, 50)) if draw(st.booleans()) else 0
        spans.append((at, at := at + length))
    end = max([past for _, past in spans], default=0)
    cuts = sorted((draw(st.integers(0, end)), draw(st.integers(0, end))))
    return runs(*spans, cuts=(cuts[0], cuts[1]))


CONFIGS = st.builds(
    config,
    season=st.integers(1, 400),
    horizon=st.integers(1, 1000),
    frequency=st.sampled_from(["1h", "30min", "1d", "B", "MS", "infer"]),
    preset=st.sampled_from(PRESETS),
    data=st.sampled_from([{}, {"target": ["y", "z"]}, {"known": ["promo"]}]),
)


@settings(max_examples=150, deadline=None)
@given(CONFIGS, broken())
@example(config(400, 1000), runs(cuts=(0, 0)))
@example(config(24, 24), runs((0, 25), (40, 65), (80, 105), cuts=(30, 70)))
def test_every_member_has_windows_wherever_one_step_of_history_has(asked, panel):
    done, horizon = completed(asked, panel), asked.window.horizon
    assert networks(done)
    for one in networks(done):
        assert one.sequence_length % one.patch_length == 0
        for least, found in zip(panel.windows(1, horizon), panel.windows(one.sequence_length, horizon), strict=True):
            assert found > 0 or least == 0
    assert completed(done) == completed(done, panel) == PipelineConfig.parse(done.to_dict()) == done


# Anchors, heads, lags.


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("season", "horizon"), [(1, 12), (24, 24), (24, 96), (7, 7)])
def test_members_differ_in_more_than_their_seeds(preset, season, horizon):
    found = [one.replace(seed=0) for one in networks(completed(config(season, horizon, preset=preset), LONG))]
    assert len(found) >= 2
    assert all(one not in found[:number] for number, one in enumerate(found))


def test_every_network_forecasts_the_change_from_something_that_it_saw():
    for season, horizon in ((1, 12), (24, 24), (24, 96), (7, 7)):
        assert all(one.anchor != "none" for one in networks(completed(config(season, horizon), LONG)))


def test_without_a_season_nothing_leans_on_one():
    done = completed(config(1, 12, data={"known": ["promo"]}), LONG)
    assert {one.anchor for one in networks(done)} == {"last"}
    assert done.model.lags == ()


@pytest.mark.parametrize("horizon", [24, 96])
@pytest.mark.parametrize("preset", PRESETS)
def test_days_and_many_seasons_ahead_are_anchored_on_the_season(preset, horizon):
    assert "seasonal" in {one.anchor for one in networks(completed(config(24, horizon, preset=preset), LONG))}


def test_a_look_back_under_a_season_has_no_seasonal_anchor_and_no_lags():
    done = completed(config(horizon=4, data={"known": ["promo"]}), one_run(61, 200, 200))
    assert all(one.anchor != "seasonal" and one.lags == () for one in networks(done))


def test_covariates_known_ahead_are_read_in_both_directions_beside_the_target_a_season_before():
    known, plain = (completed(config(data=data), LONG).model for data in ({"known": ["promo"]}, {}))
    assert (known.head, plain.lags) == ("bidirectional", ())
    assert plain.head != "bidirectional"
    assert known.lags and known.lags[0] == 24


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 400), st.integers(1, 1000), broken())
def test_no_member_is_shown_a_lag_that_it_does_not_hold(season, horizon, panel):
    done = completed(config(season, horizon, data={"known": ["promo"]}), panel)
    for one in networks(done):
        assert all(lag % season == 0 and lag <= one.sequence_length for lag in one.lags)


def test_a_week_before_is_shown_where_every_member_holds_it():
    done = completed(config(data={"known": ["promo"]}, model={"sequence_length": 168}), LONG)
    assert done.model.lags == (24, 168)


def test_several_targets_are_forecast_each_by_itself():
    assert completed(config(data={"target": ["y", "z"]})).model.channel_independent
    assert not completed(config()).model.channel_independent


# How much there is to learn from.


@pytest.mark.parametrize("preset", PRESETS)
def test_data_with_few_windows_get_smaller_steps_and_more_dropout(preset):
    few, many = (completed(config(preset=preset), one_run(rows, 500, 500)).model for rows in (FEW // 2, 2 * FEW))
    assert few.learning_rate < many.learning_rate
    assert few.dropout > many.dropout


def test_windows_are_many_if_they_are_so_over_all_targets():
    rows = one_run(FEW * 3 // 4, 500, 500)
    one, two = (completed(config(data={"target": target}), rows).model for target in (["y"], ["y", "z"]))
    assert one.learning_rate < two.learning_rate


def test_long_data_are_thinned_in_proportion():
    strides = [completed(config(), one_run(rows, 500, 500)).window.stride for rows in (2_000_000, 4_000_000)]
    assert strides[0] > 1
    assert abs(strides[1] - 2 * strides[0]) <= 1


def test_accurate_thins_less_than_fast():
    fast, accurate = (completed(config(preset=preset), one_run(5_000_000, 500, 500)) for preset in PRESETS)
    assert fast.window.stride > accurate.window.stride > 1


@pytest.mark.parametrize("panel", [None, one_run(5000, 500, 500), runs(cuts=(0, 0))])
def test_short_and_unknown_data_are_not_thinned(panel):
    assert completed(config(), panel).window.stride == 1


# What the configuration says.


@pytest.mark.parametrize(
    "said",
    [
        {"anchor": "mean"},
        {"loss": "huber"},
        {"sequence_length": 240},
        {"patch_length": 4},
        {"sequence_length": 60, "patch_length": 15},
        {"head": "recursive", "cell": "gru"},
        {"dropout": 0.15, "learning_rate": 0.004, "epochs": 3},
        {"quantiles": [0.1, 0.5, 0.9]},
        {"loss": "gaussian", "channel_independent": True},
        {"sequence_length": 48, "lags": [3, 48]},
    ],
    ids=str,
)
@pytest.mark.parametrize("preset", PRESETS)
def test_keys_that_are_said_hold_for_every_member(preset, said):
    done = completed(config(preset=preset, model=said), LONG)
    for one in [done.model, *networks(done)]:
        assert {key: one.model_dump(mode="json")[key] for key in said} == said


def test_members_that_what_is_said_makes_equal_count_once():
    said = {"sequence_length": 48, "patch_length": 6, "anchor": "last", "loss": "mse"}
    apart = {key: value for key, value in said.items() if key != "loss"}
    for preset in PRESETS:
        few, more = (completed(config(preset=preset, model=model)) for model in (said, apart))
        assert all(one not in networks(few)[:number] for number, one in enumerate(networks(few)))
        assert len(networks(few)) == few.ensemble.size <= len(networks(more)) == more.ensemble.size
    assert len(networks(completed(config(model=said)))) == 1


@given(st.sampled_from([(24, 24), (24, 96), (7, 7), (1, 12)]), st.sampled_from([2, 4, 5, 10, 20]))
@settings(deadline=None)
def test_a_patch_alone_rounds_the_look_back_to_a_multiple(lengths_, patch):
    plain, done = (completed(config(*lengths_, model=model)) for model in ({}, {"patch_length": patch}))
    assert {one.patch_length for one in networks(done)} == {patch}
    assert {length for length, _ in lengths(done)} == {
        max(length - length % patch, patch) for length, _ in lengths(plain)
    }


@given(st.sampled_from([(24, 24), (24, 96), (7, 7), (1, 12)]), st.integers(1, 2000))
@settings(deadline=None)
def test_a_look_back_alone_gets_a_patch_that_divides_it(lengths_, length):
    most = max(patch for _, patch in lengths(completed(config(*lengths_))))
    for one in networks(completed(config(*lengths_, model={"sequence_length": length}), LONG)):
        assert one.sequence_length == length
        assert length % one.patch_length == 0 and one.patch_length <= most


EARLY = "PipelineConfig.parse holds a key against the default look-back of 20, before the preset chooses one"


@pytest.mark.xfail(strict=True, raises=ConfigError, reason=EARLY)
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
def test_what_goes_with_the_chosen_look_back_need_not_go_with_the_models_default(sections):
    assert completed(config(**sections), LONG).model.sequence_length == 168


@pytest.mark.parametrize("preset", PRESETS)
def test_trials_members_and_stride_that_are_said_win(preset):
    members = ({"seed": 1}, {"seed": 2}, {"seed": 3, "anchor": "mean"})
    done = completed(
        config(
            preset=preset,
            search={"trials": 2, "timeout": "1min"},
            ensemble={"members": members, "size": 7, "method": "median"},
            window={"stride": 3},
        ),
        one_run(5_000_000, 500, 500),
    )
    assert (done.search.trials, done.search.timeout, done.window.stride) == (2, "1min", 3)
    assert (done.ensemble.members, done.ensemble.size, done.ensemble.method) == (members, 7, "median")


@pytest.mark.parametrize("preset", PRESETS)
def test_size_and_trials_follow_members_of_ones_own(preset):
    members = [{"seed": seed} for seed in range(9)]
    done = completed(config(preset=preset, ensemble={"members": members}))
    assert done.ensemble.size == 9 <= done.search.trials


def test_no_member_is_one_network_as_the_model_says():
    done = completed(config(ensemble={"members": []}))
    assert (done.members, done.ensemble.size, done.search.trials) == (({},), 1, 1)


def test_null_members_are_those_of_the_preset():
    assert completed(config(ensemble={"members": None})) == completed(config())


def test_accurate_searches_beyond_its_members_and_fast_does_not():
    fast, accurate = (completed(config(preset=preset)) for preset in PRESETS)
    assert fast.search.trials == len(networks(fast))
    assert accurate.search.trials > len(networks(accurate))


def test_the_configuration_that_came_in_stays_as_it_was():
    asked = config(ensemble={"method": "median"})
    before = asked.to_dict()
    completed(asked, LONG)
    assert asked.to_dict() == before


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"ensemble": {"members": [{"sequence_length": 50}]}}, "ensemble.members.0: `sequence_length` must be"),
        ({"ensemble": {"members": [{"seed": 1}, {"patch_length": 5}]}}, "members.1: .* patch_length=5"),
        ({"search": {"space": {"sequence_length": [10]}}}, "search.space.* `sequence_length` must be a multiple of"),
        ({"search": {"space": {"patch_length": [5]}}}, "search.space.* must be a multiple of `patch_length`"),
    ],
)
def test_what_does_not_go_with_the_chosen_lengths_is_told_by_its_key(sections, said):
    with pytest.raises(ConfigError, match=said) as caught:
        completed(config(**sections))
    assert "\n" not in str(caught.value)


def test_an_anchor_on_a_season_that_the_runs_do_not_hold_is_told_by_its_key():
    asked = config(season=20, horizon=4, search={"space": {"anchor": ["last", "seasonal"]}})
    assert completed(asked, LONG)
    with pytest.raises(ConfigError, match="search.space.anchor: anchor='seasonal' needs `2 <= season"):
        completed(asked, one_run(61, 200, 200))


def test_a_look_back_that_the_configuration_says_is_not_cut():
    assert completed(config(model={"sequence_length": 168}), one_run(100, 50, 50)).model.sequence_length == 168
