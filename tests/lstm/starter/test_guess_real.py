"""What real files are taken for; `LSTM_DATA_DIR` names the folder that holds all but the embedded one."""

import os

import pytest

from lstm.starter.config import first_look

FOLDER = os.environ.get("LSTM_DATA_DIR", "")
real = pytest.mark.skipif(not FOLDER, reason="LSTM_DATA_DIR is not set")


def test_embedded_weather_is_guessed_as_its_example_says_it(tmp_path):
    found = first_look("nyc_weather", tmp_path)
    data = found.time.value, found.series.value, found.target.value, found.frequency.value
    assert data == ("time_hour", ("origin",), "temp", "1h")
    assert found.observed.value == ("dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
    assert sorted(found.left_out) == ["day", "hour", "month", "wind_gust", "year"]
    assert found.timezone.value == "America/New_York"
    assert (found.season.value, found.horizon.value, found.split.value) == (24, 24, "30d")


@real
def test_etth1_has_one_target_and_six_covariates(tmp_path):
    found = first_look(f"{FOLDER}/ETTh1.csv", tmp_path)
    assert (found.time.value, found.target.value, found.wide.value) == ("date", "OT", ())
    assert found.observed.value == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL")
    assert (found.frequency.value, found.season.value, found.split.value) == ("1h", 24, "60d")


@real
def test_vic_electricity_is_in_utc_beside_local_days(tmp_path):
    found = first_look(f"{FOLDER}/vic_electricity.csv", tmp_path)
    assert (found.time.value, found.target.value, found.observed.value) == ("Time", "Demand", ("Temperature",))
    assert (found.known.value, list(found.left_out)) == (("Holiday",), ["Date"])
    assert (found.frequency.value, found.season.value) == ("30min", 48)
    assert found.timezone.value == "Australia/Sydney"
    assert "Australia/Melbourne" in found.timezone.reason


@real
def test_stocks_are_wide_and_have_no_season(tmp_path):
    found = first_look(f"{FOLDER}/stocks_10x1000.csv", tmp_path)
    assert len(found.wide.value) == 10
    assert (found.frequency.value, found.season.value, found.horizon.value) == ("B", 1, 5)
