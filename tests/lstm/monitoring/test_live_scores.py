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


def log_forecasts(rows, slots, horizon=6, seed=0):
    """Return a forecast per slot: the actual values with noise, from the step after the slot on."""
    random, parts = np.random.default_rng(seed), []
    for slot in slots:
        ahead = rows[(rows["time"] > slot) & (rows["time"] <= slot + horizon * HOUR)]
        forecast = ahead[["series", "time"]].assign(forecast=ahead["sales"] + random.normal(0, 1, len(ahead)))
        bands = {"lo-80": forecast["forecast"] - 1.28, "hi-80": forecast["forecast"] + 1.28}
        parts.append(forecast.assign(**bands, issued_at=slot))
    return pd.concat(parts, ignore_index=True)


def slots(rows, count=20, every=6):
    return [rows["time"].min() + (30 + every * number) * HOUR for number in range(count)]


def score_log(rows, forecasts, season=24):
    return LiveForecasts.of(forecasts, build_panel(rows, SPEC), NAIVE, season, FREQUENCY)


def with_actual(rows, forecasts):
    """Join forecasts and actual values by a plain merge."""
    known = rows[["series", "time", "sales"]].dropna()
    return forecasts.merge(known, on=["series", "time"])


def test_scores_equal_plain_numpy():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    scores, both = score_log(rows, forecasts).scores, with_actual(rows, forecasts)
    error = both["forecast"] - both["sales"]
    unit = both["series"].map({"north": 2.0, "south": 0.5})
    assert scores["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert scores["mae"] == pytest.approx(error.abs().mean())
    assert scores["mase"] == pytest.approx((error.abs() / unit).mean())
    assert scores["coverage_80"] == pytest.approx(both["sales"].between(both["lo-80"], both["hi-80"]).mean())


def test_skill_is_against_the_seasonal_naive_as_of_each_slot_on_the_same_rows():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows), horizon=30)
    both = with_actual(rows, forecasts)
    # Seen at the slot: the same hour of the day before it, again for the steps beyond a day.
    ahead = (both["time"] - both["issued_at"]) // HOUR
    before = both.assign(time=both["time"] - ((ahead - 1) // 24 + 1) * 24 * HOUR)[["series", "time"]]
    naive = before.merge(rows, on=["series", "time"])["sales"].to_numpy()
    reference = np.sqrt(np.mean((naive - both["sales"]) ** 2))
    scores = score_log(rows, forecasts).scores
    assert scores["rmse_skill"] == pytest.approx(1 - scores["rmse"] / reference)


def test_values_after_a_slot_do_not_change_its_naive_forecast():
    rows, others = table(), table()
    (slot,) = slots(rows, 1)
    later = others["time"] > slot
    others.loc[later, "sales"] *= 3
    forecasts = log_forecasts(rows, [slot], horizon=30)
    assert (score_log(rows, forecasts).naive == score_log(others, forecasts).naive).all()


def test_a_forecast_without_an_actual_value_is_waiting_and_not_scored():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    now = slots(rows)[-1] - 3 * HOUR  # of the last two slots some or all steps lie ahead
    known = rows[rows["time"] <= now]
    scored = score_log(known, forecasts)
    assert scored.waiting == (forecasts["time"] > now).sum()
    assert len(scored) == 2 * 19
    both = with_actual(known, forecasts)
    assert scored.scores["rmse"] == pytest.approx(np.sqrt(((both["forecast"] - both["sales"]) ** 2).mean()))


def test_a_missing_actual_value_is_not_scored():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    rows.loc[rows.index[100:103], "sales"] = np.nan
    both, scored = with_actual(rows, forecasts), score_log(rows, forecasts)
    assert len(both) < len(forecasts)
    assert scored.waiting == len(forecasts) - len(both)
    assert scored.scores["mae"] == pytest.approx((both["forecast"] - both["sales"]).abs().mean())


def test_of_duplicate_rows_the_last_one_counts():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    wrong = forecasts.iloc[[3, 7]].assign(forecast=1e6)
    scored = score_log(rows, pd.concat([wrong, forecasts.sample(frac=1, random_state=0)]))
    assert scored.repeated == 2
    assert scored.scores == pytest.approx(score_log(rows, forecasts).scores)


def test_the_same_time_forecast_by_two_slots_counts_twice():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows, every=3))
    assert len(score_log(rows, forecasts)) == 40
    assert score_log(rows, forecasts).windows.actual.size == len(forecasts)


def test_a_missing_row_of_a_slot_leaves_the_others_at_their_steps():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    ahead = (forecasts["time"] - forecasts["issued_at"]) // HOUR
    table_by_step = score_log(rows, forecasts[ahead != 3]).by_step
    whole = score_log(rows, forecasts).by_step
    assert np.isnan(table_by_step["rmse"][2])
    assert table_by_step["rmse"].drop(2).tolist() == pytest.approx(whole["rmse"].drop(2).tolist())


def test_a_series_missing_from_the_source_is_waiting():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    scored = score_log(rows[rows["series"] == "north"], forecasts)
    assert scored.waiting == (forecasts["series"] == "south").sum()
    assert len(scored) == 20


def test_without_a_season_of_history_the_naive_repeats_the_last_value():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows, 1))
    scored = score_log(rows, forecasts, season=1000)
    last = rows.loc[rows["time"] == slots(rows)[0], "sales"].to_numpy()
    assert (scored.naive[:, :, 0] == last[:, None]).all()


def test_ages_are_binned_and_scored_as_the_whole_is():
    rows = table()
    scored = score_log(rows, log_forecasts(rows, slots(rows)))
    ages = (scored.issued - scored.issued.min()) / DAY
    by_age = scored.by_age(ages)
    assert by_age[["from_day", "to_day"]].to_numpy().tolist() == [[0, 1], [1, 3], [3, 7]]
    assert by_age["windows"].sum() == len(scored)
    second = scored.select((ages >= 1) & (ages < 3)).scores
    assert by_age["rmse"][1] == pytest.approx(second["rmse"])
    assert by_age["mase_skill"][1] == pytest.approx(second["mase_skill"])


def test_several_targets_are_scored_separately():
    spec = DataSpec.parse({**DATA, "target": ["sales", "visitors"], "observed": []})
    rows = canonicalize(make_hourly(), spec)
    (slot,) = slots(rows, 1)
    ahead = rows[(rows["time"] > slot) & (rows["time"] <= slot + 2 * HOUR)]
    long = ahead.melt(["series", "time"], ["sales", "visitors"], "target", "forecast").assign(issued_at=slot)
    long["forecast"] += np.where(long["target"] == "visitors", 3.0, 1.0)
    scored = LiveForecasts.of(long, build_panel(rows, spec), np.ones((2, 2)), 24, FREQUENCY)
    error = scored.forecast - scored.windows.actual
    assert error[..., 0] == pytest.approx(np.ones((2, 2)))
    assert error[..., 1] == pytest.approx(3 * np.ones((2, 2)))


def test_the_interval_of_the_rmse_contains_it_and_needs_enough_days():
    rows = table(40)
    scored = score_log(rows, log_forecasts(rows, slots(rows, 120)))
    low, high = scored.rmse_interval(DAY)
    assert low < scored.scores["rmse"] < high
    few = score_log(rows, log_forecasts(rows, slots(rows, 4 * MIN_BLOCKS)))
    assert np.isnan(few.rmse_interval(DAY)).all()


def test_squared_errors_are_in_units_of_the_naive_error():
    rows = table()
    forecasts = log_forecasts(rows, slots(rows))
    times, squared = score_log(rows, forecasts).squared_errors()
    both = with_actual(rows, forecasts)
    unit = both["series"].map({"north": 2.0, "south": 0.5})
    assert len(times) == len(both)
    assert squared.sum() == pytest.approx((((both["forecast"] - both["sales"]) / unit) ** 2).sum())
    assert times.min() == both["time"].min().tz_localize(None).to_datetime64()


def test_irregular_rows_are_numbered_by_their_order():
    spec = DataSpec.parse({**DATA, "frequency": "irregular", "missing": {"max_gap": "6h"}})
    rows = canonicalize(make_hourly(12), spec)
    forecasts = log_forecasts(rows, slots(rows, 3))
    scored = LiveForecasts.of(forecasts, build_panel(rows, spec), NAIVE, 24, None)
    both = with_actual(rows, forecasts)
    assert scored.scores["rmse"] == pytest.approx(np.sqrt(((both["forecast"] - both["sales"]) ** 2).mean()))
