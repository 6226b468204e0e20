import numpy as np
import pandas as pd
import pytest

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.data.panel import build_panel
from lstm.data.table import canonicalize
from lstm.metrics.bootstrap import MIN_BLOCKS
from lstm.monitoring.live_scores import LiveForecasts
from tests.support.tables import DATA, make_hourly

HOUR, DAY = pd.Timedelta(1, "h"), np.timedelta64(24, "h")
FREQUENCY = Frequency.parse("1h")
NAIVE = np.array([[2.0], [0.5]])  # of north and south
SPEC = DataSpec.parse(DATA)


def table(days=12):
    return canonicalize(make_hourly(days), SPEC)


def issued(rows, slots, horizon=6, seed=0):
    """What was measured, with noise, as a forecast of each slot; the step after the slot comes first."""
    random, parts = np.random.default_rng(seed), []
    for slot in slots:
        ahead = rows[(rows["time"] > slot) & (rows["time"] <= slot + horizon * HOUR)]
        made = ahead[["series", "time"]].assign(forecast=ahead["sales"] + random.normal(0, 1, len(ahead)))
        bands = {"lo-80": made["forecast"] - 1.28, "hi-80": made["forecast"] + 1.28}
        parts.append(made.assign(**bands, issued_at=slot))
    return pd.concat(parts, ignore_index=True)


def slots(rows, count=20, every=6):
    return [rows["time"].min() + (30 + every * number) * HOUR for number in range(count)]


def live(rows, forecasts, season=24):
    return LiveForecasts.of(forecasts, build_panel(rows, SPEC), NAIVE, season, FREQUENCY)


def beside(rows, forecasts):
    """Forecast and actual, by a plain merge."""
    known = rows[["series", "time", "sales"]].dropna()
    return forecasts.merge(known, on=["series", "time"])


def test_scores_are_those_of_one_line_of_numpy():
    rows = table()
    forecasts = issued(rows, slots(rows))
    found, both = live(rows, forecasts).scores, beside(rows, forecasts)
    error = both["forecast"] - both["sales"]
    unit = both["series"].map({"north": 2.0, "south": 0.5})
    assert found["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert found["mae"] == pytest.approx(error.abs().mean())
    assert found["mase"] == pytest.approx((error.abs() / unit).mean())
    assert found["coverage_80"] == pytest.approx(both["sales"].between(both["lo-80"], both["hi-80"]).mean())


def test_skill_is_against_the_seasonal_naive_as_of_each_slot_on_the_same_rows():
    rows = table()
    forecasts = issued(rows, slots(rows), horizon=30)
    both = beside(rows, forecasts)
    # Seen at the slot: the same hour of the day before it, again for the steps beyond a day.
    ahead = (both["time"] - both["issued_at"]) // HOUR
    before = both.assign(time=both["time"] - ((ahead - 1) // 24 + 1) * 24 * HOUR)[["series", "time"]]
    naive = before.merge(rows, on=["series", "time"])["sales"].to_numpy()
    reference = np.sqrt(np.mean((naive - both["sales"]) ** 2))
    found = live(rows, forecasts).scores
    assert found["rmse_skill"] == pytest.approx(1 - found["rmse"] / reference)


def test_what_comes_after_a_slot_changes_nothing_of_its_naive():
    rows, others = table(), table()
    (slot,) = slots(rows, 1)
    later = others["time"] > slot
    others.loc[later, "sales"] *= 3
    forecasts = issued(rows, [slot], horizon=30)
    assert (live(rows, forecasts).naive == live(others, forecasts).naive).all()


def test_a_forecast_without_an_actual_is_waiting_and_scores_nothing():
    rows = table()
    forecasts = issued(rows, slots(rows))
    now = slots(rows)[-1] - 3 * HOUR  # of the last two slots some or all steps lie ahead
    known = rows[rows["time"] <= now]
    found = live(known, forecasts)
    assert found.waiting == (forecasts["time"] > now).sum()
    assert len(found) == 2 * 19
    both = beside(known, forecasts)
    assert found.scores["rmse"] == pytest.approx(np.sqrt(((both["forecast"] - both["sales"]) ** 2).mean()))


def test_a_missing_actual_counts_for_nothing():
    rows = table()
    forecasts = issued(rows, slots(rows))
    rows.loc[rows.index[100:103], "sales"] = np.nan
    both, found = beside(rows, forecasts), live(rows, forecasts)
    assert len(both) < len(forecasts)
    assert found.waiting == len(forecasts) - len(both)
    assert found.scores["mae"] == pytest.approx((both["forecast"] - both["sales"]).abs().mean())


def test_a_row_that_is_there_twice_counts_once_and_the_last_one_counts():
    rows = table()
    forecasts = issued(rows, slots(rows))
    wrong = forecasts.iloc[[3, 7]].assign(forecast=1e6)
    found = live(rows, pd.concat([wrong, forecasts.sample(frac=1, random_state=0)]))
    assert found.repeated == 2
    assert found.scores == pytest.approx(live(rows, forecasts).scores)


def test_the_same_time_forecast_by_two_slots_counts_twice():
    rows = table()
    forecasts = issued(rows, slots(rows, every=3))
    assert len(live(rows, forecasts)) == 40
    assert live(rows, forecasts).windows.actual.size == len(forecasts)


def test_a_lost_row_of_a_slot_leaves_the_others_at_their_steps():
    rows = table()
    forecasts = issued(rows, slots(rows))
    ahead = (forecasts["time"] - forecasts["issued_at"]) // HOUR
    found = live(rows, forecasts[ahead != 3]).by_step
    whole = live(rows, forecasts).by_step
    assert np.isnan(found["rmse"][2])
    assert found["rmse"].drop(2).tolist() == pytest.approx(whole["rmse"].drop(2).tolist())


def test_a_series_that_the_source_lost_is_waiting():
    rows = table()
    forecasts = issued(rows, slots(rows))
    found = live(rows[rows["series"] == "north"], forecasts)
    assert found.waiting == (forecasts["series"] == "south").sum()
    assert len(found) == 20


def test_without_a_season_at_hand_the_naive_repeats_the_last_value():
    rows = table()
    forecasts = issued(rows, slots(rows, 1))
    found = live(rows, forecasts, season=1000)
    last = rows.loc[rows["time"] == slots(rows)[0], "sales"].to_numpy()
    assert (found.naive[:, :, 0] == last[:, None]).all()


def test_ages_are_binned_and_scored_as_the_whole_is():
    rows = table()
    found = live(rows, issued(rows, slots(rows)))
    ages = (found.issued - found.issued.min()) / DAY
    by_age = found.by_age(ages)
    assert by_age[["from_day", "to_day"]].to_numpy().tolist() == [[0, 1], [1, 3], [3, 7]]
    assert by_age["windows"].sum() == len(found)
    second = found.part((ages >= 1) & (ages < 3)).scores
    assert by_age["rmse"][1] == pytest.approx(second["rmse"])
    assert by_age["mase_skill"][1] == pytest.approx(second["mase_skill"])


def test_several_targets_are_told_apart():
    spec = DataSpec.parse({**DATA, "target": ["sales", "visitors"], "observed": []})
    rows = canonicalize(make_hourly(), spec)
    (slot,) = slots(rows, 1)
    ahead = rows[(rows["time"] > slot) & (rows["time"] <= slot + 2 * HOUR)]
    long = ahead.melt(["series", "time"], ["sales", "visitors"], "target", "forecast").assign(issued_at=slot)
    long["forecast"] += np.where(long["target"] == "visitors", 3.0, 1.0)
    found = LiveForecasts.of(long, build_panel(rows, spec), np.ones((2, 2)), 24, FREQUENCY)
    error = found.forecast - found.windows.actual
    assert error[..., 0] == pytest.approx(np.ones((2, 2)))
    assert error[..., 1] == pytest.approx(3 * np.ones((2, 2)))


def test_the_interval_of_the_rmse_holds_it_and_few_days_have_none():
    rows = table(40)
    found = live(rows, issued(rows, slots(rows, 120)))
    low, high = found.rmse_interval(DAY)
    assert low < found.scores["rmse"] < high
    few = live(rows, issued(rows, slots(rows, 4 * MIN_BLOCKS)))
    assert np.isnan(few.rmse_interval(DAY)).all()


def test_errors_are_put_together_on_the_scale_of_mase():
    rows = table()
    forecasts = issued(rows, slots(rows))
    times, squared = live(rows, forecasts).squared_errors()
    both = beside(rows, forecasts)
    unit = both["series"].map({"north": 2.0, "south": 0.5})
    assert len(times) == len(both)
    assert squared.sum() == pytest.approx((((both["forecast"] - both["sales"]) / unit) ** 2).sum())
    assert times.min() == both["time"].min().tz_localize(None).to_datetime64()


def test_rows_that_lie_on_no_grid_are_numbered_by_their_order():
    spec = DataSpec.parse({**DATA, "frequency": "irregular", "missing": {"max_gap": "6h"}})
    rows = canonicalize(make_hourly(12), spec)
    forecasts = issued(rows, slots(rows, 3))
    found = LiveForecasts.of(forecasts, build_panel(rows, spec), NAIVE, 24, None)
    both = beside(rows, forecasts)
    assert found.scores["rmse"] == pytest.approx(np.sqrt(((both["forecast"] - both["sales"]) ** 2).mean()))
