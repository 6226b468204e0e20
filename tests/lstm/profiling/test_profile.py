"""Profiles: counts against loops, statistics against pandas and hand-worked numbers, tests on series of known kind."""

import itertools
import json
import math

import numpy as np
import pandas as pd
import pytest
from statsmodels.tsa.seasonal import STL

from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec
from lstm.profiling.coverage import measure_coverage
from lstm.profiling.profile import build_profile
from lstm.profiling.series_tests import run_series_tests, stl_strengths, training_excerpt
from tests.support.panels import store_panel
from tests.support.tables import DATA, make_hourly

HOURS = np.arange(1500)
NOISE = np.random.default_rng(0).normal(size=1500)
DAILY = np.sin(2 * np.pi * HOURS / 24)


def make_profile(frame, folder, season=24, **changes):
    spec = DataSpec.parse({**DATA, "source": str(folder / "shops.parquet"), **changes})
    table, panel = store_panel(frame, folder, spec)
    return build_profile(table, panel, spec, season)


def with_gaps(frame):
    """North: 3 hours without a value, 10 without a row; both in training."""
    frame = frame.copy()
    frame.loc[100:102, "sales"] = np.nan
    return frame.drop(index=range(200, 210))


def test_gaps_are_counted_in_steps_of_the_grid(hourly, tmp_path):
    profile = make_profile(with_gaps(hourly), tmp_path)
    north, south = (profile.series.set_index("series").loc[name] for name in ("north", "south"))
    assert (north["rows"], north["measured"], north["steps"]) == (950, 947, 960)
    assert (north["missing"], north["filled"], north["gaps"], north["longest_gap"]) == (13, 3, 2, 10)
    assert (south["rows"], south["missing"], south["filled"], south["gaps"], south["longest_gap"]) == (960, 0, 0, 0, 0)
    summary = profile.summary
    assert (summary["missing_share"], summary["filled_share"]) == (13 / 1920, 3 / 1920)
    assert profile.gap_lengths == {3: 1, 10: 1}
    assert (summary["runs"], summary["median_run"]) == (3, 750)  # 200 and 750 steps in the north, 960 in the south


@pytest.mark.parametrize("block", [7, 100, 1920, 1_000_000])
def test_blocks_of_any_size_count_the_same_runs_as_a_loop_over_rows(hourly, tmp_path, block):
    random = np.random.default_rng(1)
    hourly.loc[random.random(len(hourly)) < 0.3, "sales"] = np.nan
    hourly.loc[940:980, "sales"] = np.nan  # over the border of the series
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet"), "missing": {"max_gap": 1}})
    _, panel = store_panel(hourly, tmp_path, spec)
    coverage = measure_coverage(panel, block)
    gaps, runs = [], []
    for number, (_, rows) in enumerate(hourly.groupby("shop")):
        stretches = [(missing, len(list(run))) for missing, run in itertools.groupby(rows["sales"].isna())]
        gap_lengths = [length for missing, length in stretches if missing]
        gaps += gap_lengths
        counts = (coverage.missing[number], coverage.gaps[number], coverage.longest_gap[number])
        assert counts == (sum(gap_lengths), len(gap_lengths), max(gap_lengths))
        ends = {0, len(stretches) - 1}
        begins = itertools.accumulate((length for _, length in stretches), initial=0)
        # Of an hour before a cut, what comes after the gap is in the next split.
        cut_off = [begin + 1 in (30 * 24, 35 * 24) for begin, _ in zip(begins, stretches, strict=False)]
        filled = [
            missing and length == 1 and place not in ends and not cut_off[place]
            for place, (missing, length) in enumerate(stretches)
        ]
        assert coverage.filled[number] == sum(filled)
        whole = [(missing and not short, length) for short, (missing, length) in zip(filled, stretches, strict=True)]
        for open_, run in itertools.groupby(whole, key=lambda stretch: stretch[0]):
            runs += [] if open_ else [sum(length for _, length in run)]
    assert coverage.gap_lengths == {length: gaps.count(length) for length in set(gaps)}
    assert coverage.run_lengths == {length: runs.count(length) for length in set(runs)}
    assert coverage.median_run == sorted(runs)[(len(runs) - 1) // 2]


def test_statistics_of_columns_equal_pandas(hourly, tmp_path):
    hourly.loc[::7, "visitors"] = np.nan
    columns = make_profile(hourly, tmp_path).columns.set_index(["column", "split"])
    spans = {
        "train": ("2024-03-01", "2024-03-31"),
        "validation": ("2024-03-31", "2024-04-05"),
        "test": ("2024-04-05", "~"),
    }
    for column, (split, (start, end)) in itertools.product(("sales", "visitors"), spans.items()):
        values = hourly.loc[(hourly["time"] >= start) & (hourly["time"] < end), column]
        row = columns.loc[(column, split)]
        assert (row["rows"], row["count"]) == (len(values), values.count())
        assert row["missing"] == pytest.approx(values.isna().mean())
        expected = [values.mean(), values.std(ddof=0), values.min(), *values.quantile([0.25, 0.5, 0.75]), values.max()]
        np.testing.assert_allclose(row[["mean", "std", "min", "q25", "median", "q75", "max"]].astype(float), expected)


def test_columns_that_differ_only_in_case_are_described_separately(hourly, tmp_path):
    frame = hourly.assign(Visitors=hourly["visitors"] * 10)
    columns = make_profile(frame, tmp_path, observed=["visitors", "Visitors"]).columns.set_index(["column", "split"])
    assert columns.loc[("Visitors", "test"), "mean"] == pytest.approx(10 * columns.loc[("visitors", "test"), "mean"])


def test_values_far_outside_the_quartiles_are_outliers(hourly, tmp_path):
    changed = hourly.copy()
    changed.loc[[10, 20, 30], "sales"] = [500.0, -500.0, 400.0]
    changed.loc[[10, 1900], "visitors"] = 1e4
    profile = make_profile(changed, tmp_path)
    assert profile.series.set_index("series")["outliers"].to_dict() == {"north": 3, "south": 0}
    columns = profile.columns.set_index(["column", "split"])["outliers"]
    assert columns["visitors"].to_dict() == {"train": 1, "validation": 0, "test": 1}
    assert make_profile(hourly, tmp_path / "clean").summary["outliers"] == 0


def test_a_constant_series_is_counted_and_has_no_strengths(hourly, tmp_path):
    hourly.loc[hourly["shop"] == "north", "sales"] = 5.0
    profile = make_profile(hourly.assign(visitors=1.0), tmp_path)
    north = profile.series.set_index("series").loc["north"]
    assert north["constant"] and math.isnan(north["outliers"]) and math.isnan(north["season_strength"])
    assert (profile.summary["constant_series"], profile.summary["constant_columns"]) == (1, ["visitors"])


def test_series_that_are_left_out_are_described_by_their_rows(tmp_path):
    frame = make_hourly(shops=("early", "late"))
    frame = frame[(frame["shop"] != "late") | (frame["time"] >= "2024-04-05")]
    profile = make_profile(frame, tmp_path)
    late = profile.series.set_index("series").loc["late"]
    assert late["rows"] == 120 and pd.isna(late["steps"]) and pd.isna(late["kpss_p"])
    assert late["first"] == pd.Timestamp("2024-04-05", tz="UTC")
    assert profile.summary["left_out"] == 1


def test_several_targets_are_measured_where_all_of_them_are(hourly, tmp_path):
    hourly.loc[5:6, "sales"] = np.nan
    hourly.loc[6:8, "visitors"] = np.nan
    profile = make_profile(hourly, tmp_path, target=["sales", "visitors"], observed=[])
    north = profile.series.set_index("series").loc["north"]
    assert (north["measured"], north["missing"], north["filled"], north["longest_gap"]) == (956, 4, 4, 4)


def test_categories_shift_by_their_shares(hourly, tmp_path):
    later = hourly["time"] >= "2024-04-05"
    kind = pd.Series(np.where(hourly.index % 2, "a", "b")).where(~later, np.where(hourly.index % 4, "a", "b"))
    columns = make_profile(hourly.assign(kind=kind), tmp_path, observed="kind", categorical="kind").columns
    test = columns.set_index(["column", "split"]).loc[("kind", "test")]
    assert test["psi"] == pytest.approx(0.25 * math.log(1.5) + 0.25 * math.log(2))  # 1/2, 1/2 became 3/4, 1/4
    assert test["count"] == 240 and math.isnan(test["ks"]) and math.isnan(test["mean"])


def test_the_summary_is_json_and_names_the_content(hourly, tmp_path):
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet")})
    table, panel = store_panel(hourly, tmp_path, spec)
    summary = build_profile(table, panel, spec, season=1).summary
    assert json.loads(json.dumps(summary, allow_nan=False)) == summary
    assert summary["sha256"] == table.sha256
    assert summary["median_season_strength"] is None  # there is no season
    changed = make_profile(hourly.assign(sales=hourly["sales"] + 1), tmp_path / "changed").summary
    assert changed["sha256"] != summary["sha256"]
    assert not list(tmp_path.glob(".profile-*"))


def test_rows_after_the_training_span_change_none_of_its_statistics(hourly, tmp_path):
    changed = hourly.copy()
    later = changed["time"] >= "2024-03-31"
    changed.loc[later, ["sales", "visitors"]] = np.random.default_rng(0).normal(1e3, 1, (later.sum(), 2))
    before, after = make_profile(hourly, tmp_path / "a"), make_profile(changed, tmp_path / "b")
    figures = ["trend_strength", "season_strength", "kpss_p", "adf_p", "line_r2", "line_p", "diagnosed_rows"]
    pd.testing.assert_frame_equal(before.series[figures], after.series[figures])
    train = [profile.columns[profile.columns["split"] == "train"] for profile in (before, after)]
    pd.testing.assert_frame_equal(*train)
    assert after.summary["drift_psi_max"] > before.summary["drift_psi_max"]


@pytest.mark.parametrize(
    ("values", "trend", "season"),
    [
        (DAILY + 0.1 * NOISE, (0, 0.7), (0.95, 1)),
        (NOISE, (0, 0.3), (0, 0.4)),
        (0.01 * HOURS + 0.1 * NOISE, (0.99, 1), (0, 0.4)),
        (0.01 * HOURS + DAILY + 0.1 * NOISE, (0.99, 1), (0.95, 1)),
    ],
    ids=["season", "noise", "trend", "both"],
)
def test_strengths_tell_trend_and_season_from_noise(values, trend, season):
    strengths = stl_strengths(values, 24)
    assert trend[0] <= strengths[0] <= trend[1] and season[0] <= strengths[1] <= season[1]
    every = STL(values, period=24, seasonal=11).fit()  # each row fitted by itself
    expected = [1 - every.resid.var() / (part + every.resid).var() for part in (every.trend, every.seasonal)]
    np.testing.assert_allclose(strengths, expected, atol=0.02)


def test_a_season_of_one_step_or_over_half_of_the_series_has_no_strength():
    assert np.isnan(stl_strengths(NOISE, 1)).all() and np.isnan(stl_strengths(NOISE, 751)).all()
    assert not np.isnan(stl_strengths(NOISE, 750)).any()


def test_noise_is_stationary_and_a_random_walk_is_not():
    noise, walk = run_series_tests(NOISE, 24), run_series_tests(NOISE.cumsum(), 24)
    assert noise["adf_p"] < 0.01 and noise["kpss_p"] == 0.1  # the end of the table
    assert walk["adf_p"] > 0.1 and walk["kpss_p"] == 0.01


def test_a_line_is_distinguished_from_a_line_with_a_season():
    plain = run_series_tests(0.01 * HOURS + 0.1 * NOISE, 24)
    assert plain["line_r2"] == pytest.approx(np.corrcoef(HOURS, 0.01 * HOURS + 0.1 * NOISE)[0, 1] ** 2)
    assert plain["line_p"] > 0.01
    assert run_series_tests(0.01 * HOURS + 0.5 * DAILY, 24)["line_p"] < 1e-6
    exact = run_series_tests((3 + 0.01 * HOURS).astype(np.float32).astype(np.float64), 24)
    assert exact["line_r2"] == pytest.approx(1) and exact["line_p"] == 1
    assert np.isnan(run_series_tests(HOURS[:19] * 1.0, 1)["line_r2"]) and np.isnan(
        run_series_tests(np.ones(100), 1)["line_r2"]
    )


def test_an_excerpt_is_the_newest_unbroken_run_of_the_training_that_is_long_enough(hourly, tmp_path):
    north = np.array(hourly["shop"] == "north")
    sales = np.arange(len(hourly), dtype=float)
    sales[[100, 300, 700]] = np.nan  # training ends with row 720
    spec = DataSpec.parse({**DATA, "source": str(tmp_path / "shops.parquet"), "missing": {"max_gap": 0}})
    _, panel = store_panel(hourly.assign(sales=sales)[north], tmp_path, spec, NormalizeSpec(strategy="none"))
    np.testing.assert_array_equal(training_excerpt(panel, 0, most=10), np.arange(710, 720))
    np.testing.assert_array_equal(training_excerpt(panel, 0, most=100), np.arange(600, 700))
    np.testing.assert_array_equal(training_excerpt(panel, 0), np.arange(301, 700))  # the longest
