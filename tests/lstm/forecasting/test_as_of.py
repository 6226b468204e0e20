"""Forecasts as of a moment: what they use, and what they leave out."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm.config.data import DataSpec
from lstm.data.rows import SERIES, TIME
from lstm.data.table import canonicalize
from lstm.errors import DataError
from lstm.forecasting import as_of as module
from lstm.forecasting.as_of import forecast_as_of, needed_rows, table_as_of
from tests.support.forecasters import make_forecaster
from tests.support.tables import DATA, make_hourly

SLOT = pd.Timestamp("2024-04-08T10:00", tz="UTC")
UNTIL = np.datetime64("2024-04-01T00:00", "us")
SHARED = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture
def forecaster(spec, hourly):
    """Its intervals know of all errors before April."""
    made = make_forecaster(spec, hourly)
    return replace(made, intervals=replace(made.intervals, calibrated_until=UNTIL))


@pytest.fixture
def table(spec, hourly):
    return canonicalize(hourly, spec)


def issued(forecaster, table, slot=SLOT, levels=(80,)):
    return forecast_as_of(forecaster, table, slot, levels).rows


def test_the_first_step_is_the_one_after_the_slot(forecaster, table):
    made = issued(forecaster, table)
    assert made.groupby(SERIES)[TIME].min().tolist() == [SLOT + pd.Timedelta("1h")] * 2
    assert len(made) == 2 * 6


def test_the_row_of_the_slot_itself_is_used(forecaster, table):
    other = table.assign(sales=table["sales"] + 5.0 * (table[TIME] == SLOT))
    assert (issued(forecaster, other)["forecast"] != issued(forecaster, table)["forecast"]).all()


@SHARED
@given(hours=st.integers(1, 60), value=st.one_of(st.none(), st.floats(-1e6, 1e6)), gone=st.booleans())
def test_what_comes_after_the_slot_changes_no_bit(forecaster, table, hours, value, gone):
    later = table[TIME] >= SLOT + pd.Timedelta(hours, "h")
    values = {name: table[name].mask(later, np.nan if value is None else value) for name in ("sales", "visitors")}
    other = table[~later] if gone else table.assign(**values)
    pd.testing.assert_frame_equal(issued(forecaster, other), issued(forecaster, table), check_exact=True)


@pytest.mark.slow
@SHARED
@given(
    rows=st.integers(50, 2000),
    first=st.integers(0, 100),
    more=st.integers(0, 30),
    max_gap=st.sampled_from(["3h", "20h"]),
)
def test_the_rows_that_are_needed_are_enough(forecaster, table, rows, first, more, max_gap):
    spec = forecaster.spec.model_copy(
        update={"missing": forecaster.spec.missing.model_copy(update={"max_gap": max_gap})}
    )
    forecaster, slot = replace(forecaster, spec=spec), SLOT - pd.Timedelta(first, "h")
    last = slot + pd.Timedelta(more, "h")
    pieces = [table[start : start + rows].reset_index(drop=True) for start in range(0, len(table), rows)]
    few = pd.concat([needed_rows(forecaster, piece, slot, last) for piece in pieces], ignore_index=True)
    for moment in (slot, last):
        pd.testing.assert_frame_equal(
            issued(forecaster, few, moment), issued(forecaster, table, moment), check_exact=True
        )


def test_of_a_long_history_few_rows_are_needed(spec):
    hourly = make_hourly(days=200)
    made = make_forecaster(spec, hourly)
    table = canonicalize(hourly, spec)
    slot = table[TIME].max()
    assert len(needed_rows(made, table, slot, slot)) < 100
    with_intervals = replace(made, intervals=replace(made.intervals, calibrated_until=UNTIL))
    assert len(needed_rows(with_intervals, table, slot, slot)) < 2 * (module._MAX_TIMES + 100)


def test_columns_known_ahead_are_used_after_the_slot_and_observed_ones_are_not(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    made, table = make_forecaster(spec, hourly), canonicalize(hourly, spec)
    later = table[TIME] > SLOT
    targets = table.assign(sales=table["sales"].mask(later, 1e3))
    known = table.assign(visitors=table["visitors"].mask(later, 1e3))
    pd.testing.assert_frame_equal(issued(made, targets), issued(made, table), check_exact=True)
    assert (issued(made, known)["forecast"] != issued(made, table)["forecast"]).any()


def test_a_step_that_has_not_ended_is_not_known_where_rows_are_resampled(hourly):
    spec = DataSpec.parse({**DATA, "resample": "mean"})
    table = canonicalize(hourly, spec)
    assert table_as_of(table, spec, SLOT)[TIME].max() == SLOT - pd.Timedelta("1h")  # the row of 10:00 ends at 11:00
    assert table_as_of(table, spec, SLOT + pd.Timedelta("59min"))[TIME].max() == SLOT - pd.Timedelta("1h")
    assert table_as_of(table, spec, SLOT + pd.Timedelta("1h"))[TIME].max() == SLOT


def test_a_calendar_step_ends_with_the_local_day():
    days = pd.date_range("2024-01-01", "2024-03-20", tz="America/New_York")
    frame = pd.DataFrame({"time": days, "sales": np.arange(len(days), dtype=float)})
    zone = {"frequency": "1d", "timezone": "America/New_York"}
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", **zone, "resample": "sum"})
    table = canonicalize(frame, spec)
    before = pd.Timestamp("2024-03-12T03:59", tz="UTC")  # a minute before midnight, daylight saving time
    assert table_as_of(table, spec, before)["sales"].iloc[-1] == days.get_loc("2024-03-10")
    assert table_as_of(table, spec, before + pd.Timedelta("1min"))["sales"].iloc[-1] == days.get_loc("2024-03-11")


def test_the_intervals_follow_what_is_known_at_the_slot(forecaster, table):
    assert (
        forecaster.recalibrate(table[table[TIME] <= SLOT])
        .forecast_table(table[table[TIME] <= SLOT], None, (80,))
        .equals(issued(forecaster, table))
    )
    plain = replace(forecaster, intervals=replace(forecaster.intervals, calibrated_until=None))
    assert (issued(plain, table)["hi-80"] != issued(forecaster, table)["hi-80"]).all()


def test_of_many_errors_the_newest_of_some_series_are_followed(forecaster, table, monkeypatch):
    monkeypatch.setattr(module, "_MAX_TIMES", 50)
    monkeypatch.setattr(module, "_MAX_WINDOWS", 50)
    newest = UNTIL + np.timedelta64(7 * 24 + 10 - 50, "h")  # 50 h before the slot
    some = replace(forecaster, intervals=replace(forecaster.intervals, calibrated_until=newest)).recalibrate(
        table[(table[TIME] <= SLOT) & (table[SERIES] == "north")]
    )
    expected = some.forecast_table(table[table[TIME] <= SLOT], None, (80,))
    pd.testing.assert_frame_equal(issued(forecaster, table), expected, check_exact=True)


def test_series_that_can_not_be_forecast_are_left_out_by_name_and_the_others_stay_the_same(forecaster, spec, hourly):
    north = hourly[hourly["shop"] == "north"]
    more = [
        hourly,
        north.assign(shop="south-2"),
        north[north["time"] > "2024-04-08T11"].assign(shop="west"),  # has not begun: nobody misses it
    ]
    normalizer = forecaster.normalizer
    names = (*normalizer.names, "south-3", "west")
    scales = {key: np.resize(getattr(normalizer, key), (4, 2)) for key in ("center", "scale")}
    knows = replace(forecaster, normalizer=replace(normalizer, names=names, **scales))
    short = north[north["time"] <= "2024-04-08T11"].tail(15).assign(shop="south-3")
    found = forecast_as_of(knows, canonicalize(pd.concat([*more, short]), spec), SLOT, (80,))
    assert found.left_out == {
        "south-2": "it was not there in training",
        "south-3": "a forecast needs 24 rows of history",
    }
    assert found.rows[SERIES].unique().tolist() == ["north", "south"]
    np.testing.assert_allclose(
        found.rows["forecast"], issued(forecaster, canonicalize(hourly, spec))["forecast"], rtol=1e-5
    )


def test_a_series_with_known_columns_alone_is_left_out_by_name(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    made = make_forecaster(spec, hourly)
    late = hourly[(hourly["shop"] == "north") | (hourly["time"] > "2024-04-08T11")]
    found = forecast_as_of(made, canonicalize(late, spec), SLOT, (80,))
    assert found.left_out == {"south": "no row has a value of every target by then"}
    assert found.rows[SERIES].unique().tolist() == ["north"]


@pytest.mark.parametrize(
    ("slot", "said"),
    [
        ("2024-02-01", "as of 2024-02-01T00:00:00.* no series can be forecast"),
        ("2024-03-01T05:00", "a forecast needs 24 rows of history"),
    ],
)
def test_a_slot_before_any_history_is_told(forecaster, table, slot, said):
    with pytest.raises(DataError, match=said):
        issued(forecaster, table, pd.Timestamp(slot, tz="UTC"))


def test_irregular_rows_are_known_from_their_time_on(hourly):
    random = np.random.default_rng(1)
    frame = hourly[random.random(len(hourly)) > 0.3]
    spec = DataSpec.parse({**DATA, "frequency": "irregular"})
    made, table = make_forecaster(spec, hourly), canonicalize(frame, spec)
    made = replace(made, intervals=replace(made.intervals, calibrated_until=UNTIL))
    few = needed_rows(made, table, SLOT, SLOT)
    assert few[TIME].max() <= SLOT
    pd.testing.assert_frame_equal(issued(made, few), issued(made, table), check_exact=True)


def test_several_targets_categories_and_static_columns_are_known_as_their_roles_say(hourly):
    weather, opened = np.where(np.arange(len(hourly)) % 3, "dry", "wet"), np.where(hourly.index % 24 < 8, "no", "yes")
    frame = hourly.assign(costs=hourly["sales"] / 2, weather=weather, opened=opened, size=1.0)
    roles = {"target": ["sales", "costs"], "observed": ["visitors", "weather"], "known": ["opened"], "static": ["size"]}
    spec = DataSpec.parse({**DATA, **roles, "categorical": ["weather", "opened"]})
    levels = {"weather": ["dry", "wet"], "opened": ["no", "yes"]}
    made, table = make_forecaster(spec, frame, targets=2, categories=levels), canonicalize(frame, spec)
    later = table[TIME] > SLOT
    now = table_as_of(table, spec, SLOT)
    assert now.loc[later, ["sales", "costs", "visitors", "weather"]].isna().all(axis=None)
    pd.testing.assert_frame_equal(now[["opened", "size"]], table[["opened", "size"]])
    other = table.assign(weather=table["weather"].mask(later, "wet"), costs=table["costs"].mask(later, -1.0))
    pd.testing.assert_frame_equal(issued(made, other), issued(made, table), check_exact=True)
    assert issued(made, table)["target"].tolist() == ["sales", "costs"] * 12
    closed = table.assign(opened=table["opened"].mask(later, "no"))
    assert (issued(made, closed)["forecast"] != issued(made, table)["forecast"]).any()
