"""Networks that `recipes` suggests: the table of its docstring, and laws of lookbacks and lags."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.panel_store import write_splits
from lstm.presets.recipes import ModelParams, drop_unreachable_lags, largest_divisor, suggest_networks
from lstm.profiling.run_lengths import RunLengths
from tests.support.panels import store_panel
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
from tests.support.tables import make_hourly


def lengths(networks: list[ModelParams]) -> set[tuple[int, int]]:
    return {(network["sequence_length"], network["patch_length"]) for network in networks}


def values(networks: list[ModelParams], key: str) -> set[Any]:
    return {network[key] for network in networks}


# Run lengths.


@given(st.data())
def test_run_lengths_count_the_windows_that_trying_each_row_finds(data):
    counts = st.integers(0, 40)
    spans = data.draw(st.lists(st.tuples(counts, counts).map(lambda ends: (min(ends), max(ends) + 1)), max_size=6))
    early, late = sorted((data.draw(counts), data.draw(counts)))
    back, ahead = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 12))
    end = max([past for _, past in spans], default=0)
    borders = {"train": (0, early), "validation": (early, late), "test": (late, end)}
    counts_by_split = dict.fromkeys(borders, 0)
    for split, (start, past) in borders.items():
        for first, over in spans:
            for origin in range(first + back, over):
                seen = split != "train" or origin - back >= start
                counts_by_split[split] += seen and start <= origin and origin + ahead <= min(past, over)
    assert make_runs(*spans, cuts=(early, late)).windows(back, ahead) == tuple(counts_by_split.values())


def test_run_lengths_of_a_panel_count_the_windows_of_training_and_evaluation(hourly, tmp_path):
    gaps = [*range(100, 120), *range(860, 875), *range(1800, 1900)]  # none short enough to be filled
    _, panel = store_panel(hourly[~hourly.index.isin(gaps)], tmp_path)
    panel_runs = RunLengths.of(panel, 24, 24)
    for back, ahead in ((1, 1), (24, 12), (48, 24), (30, 100)):
        (folder := tmp_path / f"splits-{back}").mkdir()
        write_splits(panel, back, folder)
        real = [len(SplitArrays.load(folder / split).windows(back, ahead, 0)) for split in panel.cuts.spans]
        assert panel_runs.windows(back, ahead) == tuple(real)


# The persistence ratio.

RAMP = np.arange(40.0 * 24)  # persistence is off by the step, the seasonal naive by its seasons, rounded up


def change(folder: Path, *series: np.ndarray, season: int = 24, horizon: int = 24) -> float:
    """Of hourly series of up to 40 days, the last ten of them validation and test."""
    frames = [make_hourly(shops=(f"{number}",)) for number in range(len(series))]
    parts = [frame[: len(values)].assign(sales=values) for frame, values in zip(frames, series, strict=True)]
    return RunLengths.of(store_panel(pd.concat(parts, ignore_index=True), folder)[1], season, horizon).persistence_ratio


@pytest.mark.parametrize(("season", "horizon", "expected"), [(24, 2, 1.5 / 24), (4, 6, 2.5 / 4), (1, 5, 1)])
def test_change_is_the_error_of_persistence_over_that_of_the_seasonal_naive(season, horizon, expected, tmp_path):
    # Six steps with seasons of four: persistence is off by 1 + ... + 6, the naive by 4 * 4 + 2 * 8.
    holes = np.where(RAMP % 7 == 3, np.nan, RAMP)
    for number, values in enumerate((RAMP, holes, -5 * RAMP)):
        assert change(tmp_path / f"{number}", values, season=season, horizon=horizon) == pytest.approx(expected, 1e-3)


def test_a_wave_changes_much_within_its_season_and_a_random_walk_little(tmp_path):
    wave, noise = np.sin(np.pi * RAMP / 12), np.random.default_rng(0).normal(size=len(RAMP))
    assert change(tmp_path / "wave", wave + noise / 10) > 3
    assert change(tmp_path / "walk", noise.cumsum()) < 0.9


def test_the_persistence_ratio_uses_training_rows_alone(tmp_path):
    values = np.random.default_rng(0).normal(size=len(RAMP)).cumsum()
    other = np.where(RAMP < 30 * 24, values, 1000 * np.sin(RAMP))
    assert change(tmp_path / "walk", values) == change(tmp_path / "other", other)


def test_short_series_do_not_count_and_without_any_the_season_is_strong(tmp_path):
    wild = 100 * (RAMP[:20] % 2)
    short, alone = change(tmp_path / "both", RAMP, wild, horizon=12), change(tmp_path / "alone", RAMP, horizon=12)
    assert short == pytest.approx(alone)
    assert change(tmp_path / "long", RAMP, season=2000) == np.inf
    assert change(tmp_path / "flat", 0 * RAMP) == np.inf


# The table.

UNSEASONAL, SEASONAL = {"last"}, {"gate", "seasonal", "last"}
TABLE = [  # season, horizon, frequency, data, change; lookbacks and patches, anchors, head
    (1, 1, "B", KNOWN, CERTAIN, {(24, 1)}, UNSEASONAL, "direct"),
    (1, 10, "B", {}, STRONG, {(40, 1)}, UNSEASONAL, "direct"),
    (1, 500, "1h", {}, WEAK, {(96, 1)}, UNSEASONAL, "direct"),
    (24, 7, "1h", KNOWN, CERTAIN, {(168, 24), (336, 24)}, {"none", "gate"}, "bidirectional"),
    (7, 14, "1d", KNOWN, STRONG, {(28, 7), (56, 7)}, {"none", "gate"}, "bidirectional"),
    (24, 6, "1h", KNOWN, 0.59, {(168, 6), (168, 24)}, {"last", "gate"}, "direct"),
    (24, 6, "1h", KNOWN, 0.6, {(48, 6), (24, 6)}, {"last", "gate"}, "direct"),
    (24, 6, "1h", KNOWN, STRONG, {(168, 24), (336, 24)}, SEASONAL, "direct"),
    (24, 6, "1h", {}, 0.59, {(168, 6), (168, 24)}, {"last", "gate"}, "direct"),
    (168, 24, "1h", {}, CERTAIN, {(672, 42), (672, 48)}, {"last", "gate"}, "direct"),
    (24, 7, "1h", {}, CERTAIN, {(48, 6), (24, 6)}, {"last", "gate"}, "direct"),
    (24, 96, "1h", {}, 1.12, {(48, 6), (24, 6)}, {"last", "gate"}, "direct"),
    (7, 28, "1d", {}, WEAK, {(14, 1), (7, 1)}, {"last", "gate"}, "direct"),
    (24, 96, "1h", {}, 1.13, {(504, 24), (720, 48), (336, 24)}, SEASONAL, "direct"),
    (24, 95, "1h", {}, 1.13, {(168, 24), (336, 24), (168, 6)}, SEASONAL, "direct"),
    (24, 6, "1h", {}, STRONG, {(168, 24), (336, 24)}, SEASONAL, "direct"),
    (96, 383, "15min", {}, STRONG, {(672, 48), (1344, 48)}, SEASONAL, "direct"),
    (7, 14, "1d", {}, STRONG, {(28, 7), (56, 7)}, SEASONAL, "direct"),
]


@pytest.mark.parametrize(("season", "horizon", "frequency", "data", "change", "pairs", "anchors", "head"), TABLE)
def test_networks_are_those_of_the_table(season, horizon, frequency, data, change, pairs, anchors, head):
    networks = suggest_networks(
        make_config(season, horizon, frequency, data=data), replace(LONG, persistence_ratio=change)
    )
    assert lengths(networks[:1]) <= pairs <= lengths(networks)
    assert max(values(networks, "sequence_length")) == max(pairs)[0]
    assert values(networks, "anchor") == anchors
    assert Counter(network["head"] for network in networks).most_common(1)[0][0] == head
    assert len(networks) >= 3 and all(set(network) == set(networks[0]) for network in networks)


def test_before_the_data_are_read_they_are_assumed_to_be_long():
    for season, horizon, data in ((24, 24, {}), (24, 96, {}), (24, 24, KNOWN), (1, 12, {})):
        config = make_config(season, horizon, data=data)
        assert suggest_networks(config, None) == suggest_networks(config, LONG)
    assert suggest_networks(make_config(24, 6), None) == suggest_networks(
        make_config(24, 6), replace(LONG, persistence_ratio=CERTAIN)
    )


@pytest.mark.parametrize("frequency", ["infer", "irregular"])
def test_without_a_frequency_a_season_is_no_day(frequency):
    assert suggest_networks(make_config(frequency=frequency), LONG) == suggest_networks(
        make_config(frequency="30min"), LONG
    )
    assert suggest_networks(make_config(frequency="infer").with_frequency("1h"), LONG) == suggest_networks(
        make_config(frequency="1h"), LONG
    )


@pytest.mark.parametrize(("season", "horizon"), [(1, 12), (24, 6), (24, 96)])
def test_with_a_weak_season_few_windows_get_smaller_networks(season, horizon):
    few, enough = (
        suggest_networks(
            make_config(season, horizon), replace(one_run(30_000 + rows, 5000, 5000), persistence_ratio=WEAK)
        )[0]
        for rows in (horizon - 1, horizon)
    )
    assert few["hidden_size"] < enough["hidden_size"] and few["learning_rate"] < enough["learning_rate"]
    assert lengths([few]) == lengths([enough])


# Lookbacks.


def lookback(config: PipelineConfig, panel: RunLengths) -> int:
    return suggest_networks(config, panel)[0]["sequence_length"]


def test_a_lookback_that_costs_a_fifth_of_the_training_windows_is_cut_to_fewer_seasons():
    # Of 500 rows 476 windows look back one step. Each step more costs one, and 95 may go: 96 steps are 4 seasons.
    assert lookback(make_config(data=KNOWN), one_run(498, 240, 240)) == 72
    assert lookback(make_config(data=KNOWN), one_run(500, 240, 240)) == 96


@pytest.mark.parametrize("begin", [20_000, 20_480])
def test_a_lookback_that_costs_a_twentieth_of_the_windows_of_validation_or_test_is_cut(begin):
    # The second series begins with either. Of 457 + 433 windows after one season 44 may go: two seasons are left.
    assert lookback(make_config(), make_runs((0, 20_960), (begin, 20_960), cuts=(20_000, 20_480))) == 48


def test_if_no_season_fits_the_lookback_is_a_part_of_one_without_seasonal_anchors_and_lags():
    # 57 windows look back one step. A season would cost 23 of them, more than a fifth; below one half of them may go.
    for data in ({}, KNOWN):
        networks = suggest_networks(make_config(horizon=7, data=data), one_run(64, 200, 200))
        assert values(networks, "sequence_length") == {21}
        assert values(networks, "anchor") <= {"last", "none"}
        assert all(network["lags"] == [] for network in networks)


def test_if_no_window_fits_the_lookback_is_one_step():
    assert lookback(make_config(), make_runs(cuts=(0, 0))) >= 1 <= lookback(make_config(season=1), one_run(2, 2, 2))


@pytest.mark.parametrize("season", [50_000, 300_000, 1_000_000])
@pytest.mark.parametrize("horizon", [1, 1_000_000])
def test_the_longest_seasons_have_a_valid_lookback(season, horizon):
    for network in suggest_networks(make_config(season, horizon), None):
        assert network["sequence_length"] % season == 0
        assert network["sequence_length"] <= 1_000_000


@settings(max_examples=150, deadline=None)
@given(CONFIGS, run_lengths())
def test_a_lookback_costs_few_windows_beyond_those_that_the_seasonal_naive_costs(config, panel):
    season, horizon = config.evaluate.season, config.window.horizon
    train, scored = panel.windows(1, horizon)[0], panel.windows(season, horizon)[1:]
    for network in suggest_networks(config, panel):
        length = network["sequence_length"]
        assert (5 if length >= season else 8) * panel.windows(length, horizon)[0] >= 4 * train
        kept = panel.windows(max(length, season), horizon)[1:]
        assert all(20 * left >= 19 * total for left, total in zip(kept, scored, strict=True))
        assert length % season == 0 or length < season
        assert length % network["patch_length"] == 0
        assert all(0 < lag <= length and lag % season == 0 for lag in network["lags"])
        assert network["anchor"] in ("none", "last") or 1 < season <= length


# Lags.


def test_with_known_covariates_lags_are_a_season_and_a_cycle():
    for frequency, cycle in (("1h", 7), ("30min", 4)):
        networks = suggest_networks(make_config(24, 24, frequency, data=KNOWN), LONG)
        assert all(network["lags"] == [24, cycle * 24] for network in networks)


@pytest.mark.parametrize(("season", "horizon", "change"), [(1, 12, STRONG), (24, 24, WEAK), (24, 96, STRONG)])
def test_without_known_covariates_only_short_horizons_of_strong_seasons_have_lags(season, horizon, change):
    assert not any(
        network["lags"]
        for network in suggest_networks(make_config(season, horizon), replace(LONG, persistence_ratio=change))
    )
    for near, shows in ((24, STRONG), (6, CERTAIN)):
        assert any(
            network["lags"]
            for network in suggest_networks(make_config(24, near), replace(LONG, persistence_ratio=shows))
        )


@given(st.integers(1, 500), st.integers(2, 100), st.sampled_from(["none", "last", "seasonal", "gate"]))
def test_lags_and_anchors_beyond_the_lookback_are_dropped_and_all_else_stays(length, season, anchor):
    network = {"sequence_length": length, "lags": (season, 7 * season), "anchor": anchor, "loss": "mae"}
    reachable = drop_unreachable_lags(network, season)
    assert reachable["lags"] == [lag for lag in (season, 7 * season) if lag <= length]
    assert reachable["anchor"] == (anchor if length >= season or anchor == "none" else "last")
    assert (reachable["sequence_length"], reachable["loss"]) == (length, "mae")
    assert network["lags"] == (season, 7 * season)


@given(st.integers(1, 10_000), st.integers(1, 60))
def test_the_largest_divisor_divides_and_no_larger_one_does(length, most):
    divisor = largest_divisor(length, most)
    assert 1 <= divisor <= most and length % divisor == 0
    assert all(length % size for size in range(divisor + 1, most + 1))
