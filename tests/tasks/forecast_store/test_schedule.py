"""The slot of a time, and missed slots."""

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


def test_the_first_run_forecasts_its_slot_only():
    plan = slots_to_run(HOUR, pd.Timestamp("2024-03-01T12:17:05+02:00"), [], 24)
    assert (plan.slots, plan.left_out) == (stamps("2024-03-01T10:00"), 0)


def test_a_logged_slot_is_not_forecast_again():
    plan = slots_to_run(HOUR, *stamps("2024-03-01T10:59"), stamps("2024-03-01T09:00", "2024-03-01T10:00"), 24)
    assert (plan.slot, plan.slots) == (*stamps("2024-03-01T10:00"), ())


def test_missed_slots_come_first_oldest_first():
    plan = slots_to_run(HOUR, *stamps("2024-03-01T10:05"), stamps("2024-03-01T07:00", "2024-03-01T04:00"), 24)
    assert plan.slots == stamps("2024-03-01T08:00", "2024-03-01T09:00", "2024-03-01T10:00")


@pytest.mark.parametrize(("backfill", "n_slots", "left_out"), [(0, 1, 9), (3, 4, 6), (9, 10, 0), (50, 10, 0)])
def test_of_many_missed_slots_the_newest_are_taken_and_the_others_counted(backfill, n_slots, left_out):
    plan = slots_to_run(HOUR, *stamps("2024-03-02T10:05"), stamps("2024-03-02T00:00"), backfill)
    assert (len(plan.slots), plan.left_out) == (n_slots, left_out)
    assert plan.slots[-1] == plan.slot and list(plan.slots) == sorted(plan.slots)


def test_later_slots_cause_no_backfill():
    plan = slots_to_run(HOUR, *stamps("2024-03-01T10:05"), stamps("2024-03-05T00:00"), 24)
    assert plan.slots == stamps("2024-03-01T10:00")


def test_a_log_with_another_step_is_continued():
    plan = slots_to_run(Frequency.parse("6h"), *stamps("2024-03-01T19:00"), stamps("2024-03-01T05:00"), 24)
    assert plan.slots == stamps("2024-03-01T06:00", "2024-03-01T12:00", "2024-03-01T18:00")


def test_days_follow_the_time_zone_of_the_data_across_clock_changes():
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
def test_a_frequency_without_slots_needs_every(frequency):
    with pytest.raises(ConfigError, match=f"forecast.every: is needed where data.frequency is {frequency}"):
        slot_grid(ForecastSpec(), data(frequency=frequency))


@pytest.mark.parametrize("every", ["1500ms", "often", "0h"])
def test_an_invalid_step_is_refused(every):
    with pytest.raises(ConfigError, match="every"):
        ForecastSpec.parse({"every": every}, where="forecast")


@pytest.mark.parametrize("moment", ["yesterday", "NaT", "2026-13-45", 1.5, object()])
def test_an_invalid_time_is_refused_with_the_parameters_name(moment):
    with pytest.raises(ConfigError, match="^slot=.*: must be a time such as 2026-01-31T06:00:00Z.$"):
        as_utc(moment, "slot")


def test_a_time_without_a_zone_is_in_utc():
    assert (
        as_utc("2026-01-31T06:00", "slot") == as_utc("2026-01-31T08:00+02:00", "slot") == stamps("2026-01-31T06:00")[0]
    )
