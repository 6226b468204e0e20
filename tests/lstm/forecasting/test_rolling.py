"""Forecasts beyond the trained horizon (6 steps here) against what one does by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec
from lstm.errors import ConfigError, DataError
from lstm.forecasting.rolling import MAX_BLOCKS, RollingForward
from tests.support.forecasters import make_forecaster
from tests.support.tables import DATA, make_hourly

H = 6


@pytest.fixture
def forecaster(spec, hourly):
    return make_forecaster(spec, hourly)


def rolled(forecaster, frame, horizon, **options):
    with pytest.warns(RollingForward):
        return forecaster.forecast(frame, horizon, **options)


def by_hand(forecaster, frame, blocks, covariates):
    """The forecasts of so many blocks: each one's are written below the history, with `covariates(rows, frame)`."""
    made = []
    for _ in range(blocks):
        block = forecaster.forecast(frame)
        made.append(block)
        rows = pd.DataFrame(
            {
                "time": block["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
                "shop": block["series"],
                "sales": block["forecast"],
            }
        )
        frame = pd.concat([frame, covariates(rows, frame)], ignore_index=True)
    return pd.concat(made).sort_values(["series", "time"], ignore_index=True)[["series", "time", "forecast"]]


def monthly(rows=90, frequency="MS"):
    times = pd.date_range("2015-01-01", periods=rows, freq=frequency).strftime("%Y-%m-%d")
    sales = 20 + np.sin(np.arange(rows) / 2)
    return pd.DataFrame({"time": times, "sales": sales, "kind": np.resize(["a", "b", "c"], rows)})


MONTHLY = {
    "source": "-",
    "time": "time",
    "target": "sales",
    "observed": "kind",
    "categorical": "kind",
    "frequency": "MS",
    "timezone": "Europe/Berlin",
    "calendar": {"features": ["month"]},
    "missing": {"max_gap": 2, "indicators": True},
}


def of_months():
    return make_forecaster(DataSpec.parse(MONTHLY), monthly(), categories={"kind": ["a", "b"]}), monthly()


def of_business_days():
    spec = DataSpec.parse({**MONTHLY, "frequency": "B", "calendar": {"features": ["dayofweek"], "holidays": "DE"}})
    return make_forecaster(spec, monthly(frequency="B"), categories={"kind": ["a", "b"]}), monthly(frequency="B")


def of_two_targets():
    spec = DataSpec.parse({**DATA, "target": ["sales", "visitors"], "observed": []})
    frame = make_hourly()
    return make_forecaster(spec, frame, targets=2), frame


def of_a_wide_table():
    frame = make_hourly().pivot(index="time", columns="shop", values="sales").reset_index()
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", "wide": "all", "frequency": "1h"})
    return make_forecaster(spec, frame), frame


def of_logarithms():
    spec = DataSpec.parse({**DATA, "calendar": {"features": ["hour"]}})
    return make_forecaster(spec, make_hourly(), normalize=NormalizeSpec(log=True)), make_hourly()


def of_known_and_static_columns():
    frame = make_hourly().assign(area=lambda rows: (rows["shop"] == "north") * 3.0, kind="a")
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"], "static": ["area", "kind"]})
    spec = spec.model_copy(update={"categorical": ("kind",)})
    forecaster = make_forecaster(spec, frame, categories={"kind": ["a", "b"]})
    return forecaster, frame.assign(sales=frame["sales"].where(frame["time"] < "2024-04-07T00:00:00Z"))


def of_days_over_a_change_of_clocks():
    frame = make_hourly(days=2)[["time", "shop", "sales", "visitors"]]
    days = pd.date_range("2024-02-01", periods=48, freq="D", tz="Europe/Berlin").tz_convert("UTC")
    frame = frame.assign(time=np.tile(days.strftime("%Y-%m-%dT%H:%M:%SZ"), 2))
    spec = DataSpec.parse({**DATA, "frequency": "1d", "timezone": "Europe/Berlin", "missing": {"max_gap": 2}})
    return make_forecaster(spec, frame), frame


CASES = (
    of_months,
    of_business_days,
    of_two_targets,
    of_a_wide_table,
    of_logarithms,
    of_known_and_static_columns,
    of_days_over_a_change_of_clocks,
)
every_case = pytest.mark.parametrize("make", CASES, ids=[make.__name__ for make in CASES])


@every_case
def test_the_trained_steps_are_the_same_bits_and_the_later_ones_follow_on_the_grid(make):
    forecaster, frame = make()
    short, long = forecaster.forecast(frame), rolled(forecaster, frame, 3 * H + 2)
    assert list(long.columns) == [*short.columns, "rolled"]
    first = long[~long["rolled"]].drop(columns="rolled").reset_index(drop=True)
    pd.testing.assert_frame_equal(first, short, check_exact=True)
    assert np.isfinite(long["forecast"]).all() and len(long) == len(short) // H * (3 * H + 2)
    zone, frequency = forecaster.spec.timezone, {"1h": "h", "1d": "D"}.get(forecaster.spec.frequency)
    for _, rows in long.groupby("series"):
        times = rows["time"].drop_duplicates().dt.tz_convert(zone)
        ruler = pd.date_range(times.iloc[0], periods=len(times), freq=frequency or forecaster.spec.frequency)
        assert times.tolist() == ruler.tolist()


@pytest.mark.slow
@every_case
@pytest.mark.parametrize("steps", [H + 1, 2 * H, 3 * H - 1])
def test_asking_for_more_never_changes_earlier_steps(make, steps):
    forecaster, frame = make()
    fewer, more = rolled(forecaster, frame, steps), rolled(forecaster, frame, 4 * H)
    targets = len(forecaster.spec.target)
    begin = more.groupby("series").head(steps * targets).reset_index(drop=True)
    pd.testing.assert_frame_equal(begin, fewer, check_exact=True)


def test_it_equals_rolling_by_hand_where_the_last_value_of_an_observed_column_goes_on(forecaster, hourly):
    def last(rows, frame):
        return rows.assign(visitors=rows["shop"].map(frame.groupby("shop")["visitors"].last()))

    made = rolled(forecaster, hourly, 4 * H)
    pd.testing.assert_frame_equal(
        made[["series", "time", "forecast"]], by_hand(forecaster, hourly, 4, last), check_exact=True
    )


def test_it_equals_rolling_by_hand_where_the_season_before_of_an_observed_column_comes_back(spec, hourly):
    forecaster = make_forecaster(spec, hourly, season=4)

    back = {shop: one["visitors"].tail(4).tolist() for shop, one in hourly.groupby("shop")}
    end = pd.Timestamp(hourly["time"].max())

    def season(rows, _):
        step = ((pd.to_datetime(rows["time"]) - end) // pd.Timedelta("1h") - 1) % 4
        return rows.assign(visitors=[back[shop][place] for shop, place in zip(rows["shop"], step, strict=True)])

    made = rolled(forecaster, hourly, 4 * H)
    pd.testing.assert_frame_equal(
        made[["series", "time", "forecast"]], by_hand(forecaster, hourly, 4, season), check_exact=True
    )


def test_it_equals_rolling_by_hand_with_known_columns(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    forecaster = make_forecaster(spec, hourly)
    frame = hourly.assign(sales=hourly["sales"].where(hourly["time"] < "2024-04-07T00:00:00Z"))
    made, filled = rolled(forecaster, frame, 3 * H), frame.set_index(["shop", "time"])
    for block in range(3):
        again = forecaster.forecast(filled.reset_index())
        own = made.groupby("series").nth(list(range(block * H, block * H + H))).reset_index(drop=True)
        assert own["forecast"].tolist() == again["forecast"].tolist()
        keys = list(zip(again["series"], again["time"].dt.strftime("%Y-%m-%dT%H:%M:%SZ"), strict=True))
        filled.loc[keys, "sales"] = again["forecast"].to_numpy()


def test_observed_values_that_the_table_holds_ahead_are_taken(forecaster, hourly):
    ahead = hourly.assign(sales=hourly["sales"].where(hourly["time"] < "2024-04-09T12:00:00Z"))
    bare = ahead.assign(visitors=ahead["visitors"].where(ahead["sales"].notna()))
    with_values, without = rolled(forecaster, ahead, 2 * H), rolled(forecaster, bare, 2 * H)
    moved = (with_values["forecast"] - without["forecast"]).abs() > 1e-9
    assert moved.tolist() == ([False] * H + [True] * H) * 2


def test_where_the_newest_row_lacks_an_observed_value_the_newest_one_there_is_goes_on(forecaster, hourly):
    hourly.loc[hourly["time"] >= "2024-04-09T20:00:00Z", "visitors"] = np.nan
    value = hourly[hourly["time"] == "2024-04-09T19:00:00Z"].set_index("shop")["visitors"]

    def newest(rows, _):
        return rows.assign(visitors=rows["shop"].map(value))

    made = rolled(forecaster, hourly, 3 * H)
    pd.testing.assert_frame_equal(
        made[["series", "time", "forecast"]], by_hand(forecaster, hourly, 3, newest), check_exact=True
    )


def test_a_known_column_must_be_given_for_every_step_that_is_asked_for(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    forecaster = make_forecaster(spec, hourly)
    frame = hourly.assign(sales=hourly["sales"].where(hourly["time"] < "2024-04-09T15:00:00Z"))
    assert len(rolled(forecaster, frame, 9)) == 18  # all that is given
    with pytest.raises(DataError) as told:
        forecaster.forecast(frame, 10)
    assert str(told.value).startswith(
        "series 'north': known column 'visitors' has no value at 2024-04-10T00:00:00+00:00, which the horizon covers."
    )
    frame.loc[(frame["time"] == "2024-04-09T22:00:00Z") & (frame["shop"] == "south"), "visitors"] = np.nan
    with pytest.raises(DataError, match="series 'south': known column 'visitors' has no value at 2024-04-09T22"):
        forecaster.forecast(frame, 9)


def test_rows_at_irregular_times_are_refused():
    times = pd.Timestamp("2024-01-01T00:00Z") + pd.to_timedelta(np.arange(120) * 60, unit="s")
    frame = pd.DataFrame({"time": times, "sales": np.arange(120.0)})
    roles = {"source": "-", "time": "time", "target": "sales", "frequency": "irregular"}
    forecaster = make_forecaster(DataSpec.parse({**roles, "missing": {"max_gap": "5min"}}), frame)
    with pytest.raises(ConfigError, match="`horizon <= 6` must hold where rows are irregular .* but got 7"):
        forecaster.forecast(frame, 7)


def test_the_horizon_is_bounded(forecaster, hourly):
    most = MAX_BLOCKS * H
    assert len(rolled(forecaster, hourly[hourly["shop"] == "north"], most)) == most
    with pytest.raises(ConfigError, match=f"`1 <= horizon <= {most}` .100 times the trained 6. must hold, but got"):
        forecaster.forecast(hourly, most + 1)


def test_a_forecast_that_runs_away_is_refused(forecaster, hourly):
    for member in forecaster.members:
        for parameter in member.head.parameters():
            parameter.data.fill_(1e9)
    with pytest.warns(RollingForward), pytest.raises(ConfigError, match="series 'north': rolled forward, .* shorter"):
        forecaster.forecast(hourly, 12 * H)


def test_of_a_random_walk_the_intervals_grow_as_the_root_of_the_steps(forecaster, hourly):
    radius = np.broadcast_to(np.sqrt(np.arange(1, H + 1.0))[:, None], forecaster.intervals.quantile_offsets.shape)
    walk = replace(forecaster, intervals=replace(forecaster.intervals, quantile_offsets=radius))
    made = rolled(walk, hourly, 5 * H, levels=(80,))
    scale = np.repeat(walk.normalizer.target_scale(["north", "south"]).scale[:, 0], 5 * H)
    expected = np.tile(np.sqrt(np.arange(1, 5 * H + 1)), 2) * scale
    np.testing.assert_allclose(made["hi-80"] - made["forecast"], expected, rtol=1e-9)
    np.testing.assert_allclose(made["forecast"] - made["lo-80"], expected, rtol=1e-9)


def test_the_intervals_of_logarithms_add_up_on_their_own_scale():
    forecaster, frame = of_logarithms()
    made = rolled(forecaster, frame, 2 * H, levels=(90,))
    half = np.log(made["hi-90"] / made["forecast"]).to_numpy().reshape(2, 2, H)  # (series, block, steps)
    np.testing.assert_allclose(half[:, 1], np.sqrt(half[:, 0, -1:] ** 2 + half[:, 0] ** 2), rtol=1e-9)
    np.testing.assert_allclose(np.log(made["forecast"] / made["lo-90"]).to_numpy(), half.ravel(), rtol=1e-9)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(1, 99), min_size=2, max_size=5, unique=True), st.integers(H + 1, 4 * H))
def test_wider_levels_stay_wider_and_no_interval_shrinks_below_its_block_s_own(forecaster, hourly, levels, steps):
    made = rolled(forecaster, hourly, steps, levels=levels)
    for low, high in zip(sorted(levels), sorted(levels)[1:], strict=False):
        assert (made[f"lo-{high}"] <= made[f"lo-{low}"]).all() and (made[f"hi-{low}"] <= made[f"hi-{high}"]).all()
        assert (made[f"lo-{low}"] <= made["forecast"]).all() and (made["forecast"] <= made[f"hi-{low}"]).all()
    width = (made[f"hi-{levels[0]}"] - made["forecast"]).to_numpy().reshape(2, steps)
    own = width[:, np.arange(H, steps) % H]
    assert (width[:, H:] > own).all()


def test_it_says_so_in_one_line_and_only_then(forecaster, hourly):
    assert "rolled" not in forecaster.forecast(hourly, H)
    with pytest.warns(RollingForward) as told:
        made = forecaster.forecast(hourly, H + 1)
    assert len(told) == 1
    assert str(told[0].message) == (
        "horizon 7: trained for 6 steps; later ones go on from the model's own forecasts, and their intervals follow "
        "a rule that was not calibrated (column `rolled`)."
    )
    assert made["rolled"].tolist() == [*[False] * H, True] * 2


def test_the_table_is_left_alone(forecaster, hourly):
    before = hourly.copy()
    rolled(forecaster, hourly, 2 * H)
    pd.testing.assert_frame_equal(hourly, before)


def test_series_that_end_at_other_times_roll_from_their_own_end(forecaster, hourly):
    short = hourly[(hourly["shop"] == "north") | (hourly["time"] < "2024-04-01")]
    made = rolled(forecaster, short, 2 * H)
    alone = rolled(forecaster, short[short["shop"] == "south"], 2 * H)
    assert made.groupby("series")["time"].min()["south"] == pd.Timestamp("2024-04-01T00:00Z")
    both = made[made["series"] == "south"].reset_index(drop=True)
    pd.testing.assert_frame_equal(both, alone, rtol=1e-5)
