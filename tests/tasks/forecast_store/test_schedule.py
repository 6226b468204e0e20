"""Which slot a moment falls in, and which were missed."""

import pandas as pd
import pytest

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.config.operations import ForecastSpec
from lstm.errors import ConfigError
from tasks.forecast_store.schedule import slot_grid, slots_to_run
from tasks.runtime.timestamps import as_utc

HOUR = Frequency.parse("1h")


def stamps(*texts):
    return tuple(pd.Timestamp(text, tz="UTC") for text in texts)


def data(**keys):
    return DataSpec.parse({"source": "-", "time": "time", "target": "sales", **keys})


def test_the_first_run_makes_its_own_slot_alone():
    plan = slots_to_run(HOUR, pd.Timestamp("2024-03-01T12:17:05+02:00"), [], 24)
    assert (plan.slots, plan.left_out) == (stamps("2024-03-01T10:00"), 0)


def test_a_slot_that_is_there_is_not_due():
    plan = slots_to_run(HOUR, *stamps("2024-03-01T10:59"), stamps("2024-03-01T09:00", "2024-03-01T10:00"), 24)
    assert (plan.slot, plan.slots) == (*stamps("2024-03-01T10:00"), ())


def test_missed_slots_come_first_the_oldest_before_the_others():
    plan = slots_to_run(HOUR, *stamps("2024-03-01T10:05"), stamps("2024-03-01T07:00", "2024-03-01T04:00"), 24)
    assert plan.slots == stamps("2024-03-01T08:00", "2024-03-01T09:00", "2024-03-01T10:00")


@pytest.mark.parametrize(("backfill", "n_slots", "left_out"), [(0, 1, 9), (3, 4, 6), (9, 10, 0), (50, 10, 0)])
def test_of_many_missed_slots_the_newest_are_made_and_the_others_counted(backfill, n_slots, left_out):
    plan = slots_to_run(HOUR, *stamps("2024-03-02T10:05"), stamps("2024-03-02T00:00"), backfill)
    assert (len(plan.slots), plan.left_out) == (n_slots, left_out)
    assert plan.slots[-1] == plan.slot and list(plan.slots) == sorted(plan.slots)


def test_slots_after_the_moment_are_no_reason_to_go_back():
    plan = slots_to_run(HOUR, *stamps("2024-03-01T10:05"), stamps("2024-03-05T00:00"), 24)
    assert plan.slots == stamps("2024-03-01T10:00")


def test_a_log_of_another_step_is_gone_on_from():
    plan = slots_to_run(Frequency.parse("6h"), *stamps("2024-03-01T19:00"), stamps("2024-03-01T05:00"), 24)
    assert plan.slots == stamps("2024-03-01T06:00", "2024-03-01T12:00", "2024-03-01T18:00")


def test_days_are_days_of_the_data_s_time_zone_also_when_the_clocks_change():
    grid = slot_grid(ForecastSpec(), data(frequency="1d", timezone="America/New_York"))
    plan = slots_to_run(grid, *stamps("2024-03-12T12:00"), stamps("2024-03-09T05:00"), 24)
    assert plan.slots == stamps("2024-03-10T05:00", "2024-03-11T04:00", "2024-03-12T04:00")


def test_months_begin_with_their_first_day():
    grid = slot_grid(ForecastSpec(), data(frequency="MS"))
    plan = slots_to_run(grid, *stamps("2024-05-17"), stamps("2024-02-01"), 24)
    assert plan.slots == stamps("2024-03-01", "2024-04-01", "2024-05-01")


def test_every_wins_over_the_frequency_and_may_be_a_calendar_step():
    grid = slot_grid(ForecastSpec(every="W-MON"), data(frequency="irregular", missing={"max_gap": "6h"}))
    assert slots_to_run(grid, *stamps("2024-05-17"), (), 0).slots == stamps("2024-05-13")


@pytest.mark.parametrize("frequency", ["irregular", "100ms"])
def test_a_frequency_that_makes_no_slots_needs_every(frequency):
    with pytest.raises(ConfigError, match=f"forecast.every: is needed where data.frequency is {frequency}"):
        slot_grid(ForecastSpec(), data(frequency=frequency))


@pytest.mark.parametrize("every", ["1500ms", "often", "0h"])
def test_a_step_that_is_none_is_refused(every):
    with pytest.raises(ConfigError, match="every"):
        ForecastSpec.parse({"every": every}, where="forecast")


@pytest.mark.parametrize("moment", ["yesterday", "NaT", "2026-13-45", 1.5, object()])
def test_what_is_no_moment_is_refused_by_the_parameters_name(moment):
    with pytest.raises(ConfigError, match="^slot=.*: must be a time such as 2026-01-31T06:00:00Z.$"):
        as_utc(moment, "slot")


def test_a_moment_without_a_time_zone_is_in_utc():
    assert (
        as_utc("2026-01-31T06:00", "slot") == as_utc("2026-01-31T08:00+02:00", "slot") == stamps("2026-01-31T06:00")[0]
    )
