from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm import Forecaster
from lstm.config.data import DataSpec
from lstm.errors import ConfigError, DataError
from tests.support.forecasters import make_forecaster
from tests.support.tables import DATA, make_hourly


@pytest.fixture
def forecaster(spec, hourly):
    return make_forecaster(spec, hourly)


def test_every_series_goes_on_from_its_own_end(forecaster, hourly):
    short = hourly[(hourly["shop"] == "north") | (hourly["time"] < "2024-04-01")]
    made = forecaster.forecast(short)
    assert list(made.columns) == ["series", "time", "forecast", "lo-80", "hi-80", "lo-95", "hi-95"]
    assert made.groupby("series").size().to_dict() == {"north": 6, "south": 6}
    first = made.groupby("series")["time"].min()
    assert first["north"] == pd.Timestamp("2024-04-10T00:00Z")
    assert first["south"] == pd.Timestamp("2024-04-01T00:00Z")
    assert (made["lo-95"] < made["lo-80"]).all() and (made["hi-80"] < made["hi-95"]).all()


def test_horizon_and_levels_are_chosen_by_the_caller(forecaster, hourly):
    made = forecaster.forecast(hourly, horizon=2, levels=(50,))
    assert len(made) == 4
    assert list(made.columns)[-2:] == ["lo-50", "hi-50"]
    full = forecaster.forecast(hourly)
    assert made["forecast"].tolist() == full.groupby("series").head(2)["forecast"].tolist()


def test_save_then_load_gives_the_same_bits(forecaster, hourly, tmp_path):
    forecaster.save(tmp_path / "f")
    again = Forecaster.load(tmp_path / "f")
    pd.testing.assert_frame_equal(again.forecast(hourly), forecaster.forecast(hourly), check_exact=True)
    assert sorted(path.name for path in (tmp_path / "f").iterdir()) == ["forecaster.json", "model.safetensors"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32 - 1))
def test_order_of_rows_columns_and_series_changes_nothing(forecaster, hourly, seed):
    random = np.random.default_rng(seed)
    shuffled = hourly.iloc[random.permutation(len(hourly))][random.permutation(hourly.columns)]
    made = forecaster.forecast(shuffled)
    pd.testing.assert_frame_equal(made, forecaster.forecast(hourly), check_exact=True)


def test_another_series_changes_nothing(forecaster, hourly):
    alone = forecaster.forecast(hourly[hourly["shop"] == "south"]).reset_index(drop=True)
    both = forecaster.forecast(hourly)
    both = both[both["series"] == "south"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, both, rtol=1e-6)


def test_history_older_than_the_look_back_changes_nothing(forecaster, hourly):
    newest = hourly.groupby("shop").tail(24 + 7)
    pd.testing.assert_frame_equal(forecaster.forecast(newest), forecaster.forecast(hourly), check_exact=True)


def test_the_newest_row_changes_the_first_step(forecaster, hourly):
    before = forecaster.forecast(hourly)
    hourly.loc[hourly.index[-1], "visitors"] += 3
    after = forecaster.forecast(hourly)
    moved = (before["forecast"] - after["forecast"]).abs()
    assert moved[6] > 1e-6 and (moved[:6] == 0).all()


def test_a_gap_just_before_the_origin_is_not_filled_from_beyond(forecaster, hourly):
    gappy = hourly.copy()
    gappy.loc[hourly["time"] >= "2024-04-09T22:00:00Z", "sales"] = np.nan
    made = forecaster.forecast(gappy)
    assert made["time"].min() == pd.Timestamp("2024-04-09T22:00Z")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.groupby("shop").tail(23), "series 'north': a forecast needs 24 rows of history .* there are 23"),
        (lambda f: f.assign(shop="west").drop_duplicates("time"), "series 'west' was not there in training"),
        (lambda f: f.drop(columns="visitors"), "column 'visitors' is not there"),
        (lambda f: f[(f["time"] < "2024-04-09T05") | (f["time"] > "2024-04-09T15")], "there are 9 before"),
    ],
)
def test_history_that_does_not_do_is_told(forecaster, hourly, change, said):
    with pytest.raises(DataError, match=said):
        forecaster.forecast(change(hourly))


def test_bounds_are_told(forecaster, hourly):
    with pytest.raises(ConfigError, match="`1 <= horizon <= 600` .* must hold, but got 601"):
        forecaster.forecast(hourly, horizon=601)
    with pytest.raises(ConfigError, match="but got 2.0"):
        forecaster.forecast(hourly, horizon=2.0)
    with pytest.raises(DataError, match="must be a pandas DataFrame, but is a list"):
        forecaster.forecast([1, 2])
    with pytest.raises(ConfigError, match="whole percents"):
        forecaster.forecast(hourly, levels=(101,))


def test_one_normaliser_for_all_knows_every_series(spec, hourly):
    forecaster = make_forecaster(spec, hourly, per="all")
    assert len(forecaster.forecast(hourly.assign(shop="new").drop_duplicates("time"))) == 6


def test_several_targets_have_a_column_for_their_name(hourly):
    spec = DataSpec.parse({**DATA, "target": ["sales", "visitors"], "observed": []})
    made = make_forecaster(spec, hourly, targets=2).forecast(hourly, horizon=2)
    assert made["target"].tolist() == ["sales", "visitors"] * 4
    assert made.groupby("target")["forecast"].mean()["sales"] > made.groupby("target")["forecast"].mean()["visitors"]


def test_known_covariates_reach_their_step(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    forecaster = make_forecaster(spec, hourly)
    future = hourly.copy()
    future.loc[future["time"] >= "2024-04-09T18:00:00Z", "sales"] = np.nan
    before = forecaster.forecast(future)
    future.loc[(future["time"] == "2024-04-09T20:00:00Z"), "visitors"] += 5
    moved = (forecaster.forecast(future)["forecast"] - before["forecast"]).abs() > 1e-9
    assert moved.tolist() == [False, False, True, False, False, False] * 2


def test_an_ensemble_is_the_mean_of_its_members(forecaster, hourly):
    alone = [
        replace(forecaster, members=(member,), weights=(1.0,)).forecast(hourly)["forecast"]
        for member in forecaster.members
    ]
    np.testing.assert_allclose(forecaster.forecast(hourly)["forecast"], (alone[0] + alone[1]) / 2)


def test_series_that_were_left_out_are_passed_over(forecaster, hourly):
    partial = replace(forecaster, left_out=("north",))
    assert set(partial.forecast(hourly)["series"]) == {"south"}
    with pytest.raises(DataError, match="holds only series that were left out of the training"):
        partial.forecast(hourly[hourly["shop"] == "north"])


def test_categories_missing_indicators_and_months_go_all_the_way(tmp_path):
    months = pd.date_range("2015-01-01", periods=90, freq="MS").strftime("%Y-%m-%d")
    frame = pd.DataFrame({"time": months, "sales": np.arange(90.0), "kind": ["a", "b", "c"] * 30}).drop(index=80)
    spec = DataSpec.parse(
        {
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
    )
    forecaster = make_forecaster(spec, frame, categories={"kind": ["a", "b"]})
    forecaster.save(tmp_path)
    made = Forecaster.load(tmp_path).forecast(frame)
    local = made["time"].dt.tz_convert("Europe/Berlin").dt.strftime("%Y-%m-%d %H:%M").tolist()
    assert local == [f"2022-{month:02d}-01 00:00" for month in range(7, 13)]
    pd.testing.assert_frame_equal(made, forecaster.forecast(frame.tail(40)), check_exact=True)


def test_of_several_targets_a_forecast_begins_after_the_last_row_with_all(hourly):
    spec = DataSpec.parse({**DATA, "target": ["sales", "visitors"], "observed": []})
    forecaster = make_forecaster(spec, hourly, targets=2)
    hourly.loc[hourly["time"] >= "2024-04-09T22:00:00Z", "visitors"] = np.nan
    made = forecaster.forecast(hourly)
    assert made["time"].min() == pd.Timestamp("2024-04-09T22:00Z")
    assert made["target"].unique().tolist() == ["sales", "visitors"]


def test_irregular_rows_are_forecast_at_their_usual_distance():
    gaps = np.tile([60, 60, 120], 40)
    times = pd.Timestamp("2024-01-01T00:00Z") + pd.to_timedelta(np.cumsum(gaps), unit="s")
    frame = pd.DataFrame({"time": times, "sales": np.arange(120.0)})
    values = {
        "source": "-",
        "time": "time",
        "target": "sales",
        "frequency": "irregular",
        "missing": {"max_gap": "5min"},
    }
    made = make_forecaster(DataSpec.parse(values), frame).forecast(frame)
    assert (made["time"] - times[-1]).dt.total_seconds().tolist() == [60, 120, 180, 240, 300, 360]


def test_forecasting_does_not_touch_the_global_generator(forecaster, hourly):
    state = torch.random.get_rng_state()
    forecaster.forecast(hourly)
    make_hourly()
    assert torch.equal(torch.random.get_rng_state(), state)
