"""Learned quantiles and newer errors, all the way through a Forecaster."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from lstm import Forecaster
from lstm.data.rows import SERIES, TIME
from lstm.data.table import canonicalize
from lstm.errors import CheckpointError, ConfigError
from lstm.forecasting.conformal import Conformal
from tests.support.forecasters import change_entry, make_forecaster, rewrite_description
from tests.support.tables import make_hourly

LEVELS = (0.1, 0.5, 0.9)
UNTIL = np.datetime64("2024-04-01T00:00", "us")


@pytest.fixture
def learned(spec, hourly):
    """Members with quantiles; intervals that leave them as they are."""
    made = make_forecaster(spec, hourly, quantiles=LEVELS)
    return replace(made, intervals=Conformal(np.zeros((99, 6, 1)), LEVELS, UNTIL))


@pytest.fixture
def plain(spec, hourly):
    """Members without quantiles, and intervals that know of all errors before April."""
    made = make_forecaster(spec, hourly)
    return replace(made, intervals=replace(made.intervals, calibrated_until=UNTIL))


def rows(frame, spec, start="2024-01-01", end="2025-01-01"):
    table = canonicalize(frame, spec, "history")
    return table[(table[TIME] >= pd.Timestamp(start, tz="UTC")) & (table[TIME] < pd.Timestamp(end, tz="UTC"))]


def test_learned_quantiles_are_the_ends_of_the_intervals(learned, hourly):
    made = learned.forecast(hourly, levels=(80,))
    alone = [replace(learned, members=(one,), weights=(1.0,)).forecast(hourly, levels=(80,)) for one in learned.members]
    for column in ("forecast", "lo-80", "hi-80"):
        np.testing.assert_allclose(made[column], (alone[0][column] + alone[1][column]) / 2)
    widths = made["hi-80"] - made["lo-80"]
    assert (widths > 0.01).all() and widths.nunique() > 6  # not the same for both series, as a radius would be


def test_calibration_widens_them_by_its_radius(learned, hourly):
    before = learned.forecast(hourly, levels=(80,))
    wider = replace(learned, intervals=replace(learned.intervals, quantile_offsets=np.full((99, 6, 1), 0.5)))
    after = wider.forecast(hourly, levels=(80,))
    scale = learned.normalizer.target_scale(("north", "south")).scale.repeat(6)
    np.testing.assert_allclose(before["lo-80"] - after["lo-80"], 0.5 * scale)
    np.testing.assert_allclose(after["hi-80"] - before["hi-80"], 0.5 * scale)


def test_save_then_load_gives_the_same_bits_and_the_same_knowledge(learned, hourly, tmp_path):
    radius = np.random.default_rng(0).normal(0, 0.2, (99, 6, 1))
    made = replace(learned, intervals=replace(learned.intervals, quantile_offsets=radius))
    made.save(tmp_path)
    again = Forecaster.load(tmp_path)
    pd.testing.assert_frame_equal(again.forecast(hourly), made.forecast(hourly), check_exact=True)
    assert (again.intervals.quantile_offsets == radius).all()
    assert (again.intervals.quantiles, again.intervals.calibrated_until) == (LEVELS, UNTIL)


def without(*place):
    def change(state):
        inner = state
        for key in place[:-1]:
            inner = inner[key]
        del inner[place[-1]]
        return state

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("intervals", "until"), "key 'until' is missing: an earlier version saved this forecaster. Train it"),
        (without("intervals", "quantiles"), "key 'quantiles' is missing: an earlier version saved this forecaster"),
        (change_entry("intervals", "quantiles", value=[]), r"intervals are of quantiles \(\), but members have \(0.1"),
        (change_entry("intervals", "until", value="yesterday"), "is damaged .*yesterday"),
    ],
)
def test_intervals_that_can_not_be_read_are_told(learned, tmp_path, change, said):
    learned.save(tmp_path)
    rewrite_description(tmp_path, change)
    with pytest.raises(CheckpointError, match=said) as caught:
        Forecaster.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_intervals_follow_the_errors_that_are_newer_than_they_are(plain, hourly, spec):
    followed = plain.recalibrate(rows(hourly, spec))
    last = hourly["time"].max()
    newest_whole = np.datetime64(last[:-1], "us") - np.timedelta64(5, "h")  # with all six steps measured
    assert followed.intervals.calibrated_until == newest_whole
    assert (followed.intervals.quantile_offsets != plain.intervals.quantile_offsets).all()
    pd.testing.assert_series_equal(followed.forecast(hourly)["forecast"], plain.forecast(hourly)["forecast"])


def test_following_brings_coverage_to_nominal(spec):
    hourly = make_hourly(days=150)
    narrow = replace(
        make_forecaster(spec, hourly), intervals=Conformal(np.full((99, 6, 1), 0.01), calibrated_until=UNTIL)
    )
    table, tail = rows(hourly, spec), pd.Timestamp("2024-07-01", tz="UTC")
    followed = narrow.recalibrate(table[table[TIME] < tail])
    came = hourly.assign(time=pd.to_datetime(hourly["time"])).set_index(["shop", "time"])["sales"]

    def coverage(made):
        inside = []
        for number in range(24):  # from another hour of the day each time
            history = table[table[TIME] < tail + number * pd.Timedelta("25h")]
            forecast = made.forecast_table(history, levels=(80,)).set_index(["series", "time"])
            inside += came[forecast.index].between(forecast["lo-80"], forecast["hi-80"]).tolist()
        return np.mean(inside)

    assert coverage(narrow) < 0.2
    assert coverage(followed) == pytest.approx(0.8, abs=0.1)  # of 48 windows


def test_following_twice_is_following_once(plain, hourly, spec):
    whole = plain.recalibrate(rows(hourly, spec))
    halves = plain.recalibrate(rows(hourly, spec, end="2024-04-05T07:00")).recalibrate(rows(hourly, spec))
    np.testing.assert_allclose(halves.intervals.quantile_offsets, whole.intervals.quantile_offsets, rtol=1e-9)
    assert halves.intervals.calibrated_until == whole.intervals.calibrated_until
    assert whole.recalibrate(rows(hourly, spec)).intervals is whole.intervals  # nothing is new


def test_history_older_than_what_the_intervals_know_changes_nothing(plain, hourly, spec):
    enough = rows(hourly, spec, start=str(pd.Timestamp(UNTIL) - pd.Timedelta(plain.reach, "h")))
    whole, short = plain.recalibrate(rows(hourly, spec)), plain.recalibrate(enough)
    np.testing.assert_allclose(short.intervals.quantile_offsets, whole.intervals.quantile_offsets, rtol=1e-9)
    seen = plain.rows_since_calibration(rows(hourly, spec))
    assert len(seen) < len(rows(hourly, spec)) / 2
    assert seen.groupby(SERIES, observed=True)[TIME].min().max() <= pd.Timestamp(UNTIL, tz="UTC") - pd.Timedelta("24h")


def test_series_that_it_can_not_forecast_are_passed_over(plain, hourly, spec):
    extra = hourly[hourly["shop"] == "south"].assign(shop="west", sales=1e6)
    table = rows(pd.concat([hourly, extra]), spec)
    whole = plain.recalibrate(rows(hourly, spec)).intervals
    assert (plain.recalibrate(table).intervals.quantile_offsets == whole.quantile_offsets).all()
    alone = replace(plain, left_out=("south",)).recalibrate(table).intervals
    one = plain.recalibrate(rows(hourly[hourly["shop"] == "north"], spec)).intervals
    np.testing.assert_allclose(alone.quantile_offsets, one.quantile_offsets, rtol=1e-9)


@pytest.mark.parametrize("end", ["2024-03-20", "2024-04-01T05:00"])
def test_without_a_whole_new_window_nothing_changes(plain, hourly, spec, end):
    assert plain.recalibrate(rows(hourly, spec, end=end)).intervals is plain.intervals


def test_intervals_that_do_not_say_what_they_know_follow_nothing(spec, hourly):
    with pytest.raises(ConfigError, match="fitted without `calibrated_until`"):
        make_forecaster(spec, hourly).recalibrate(rows(hourly, spec))
