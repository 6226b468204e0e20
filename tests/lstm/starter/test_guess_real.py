"""Guesses for real files; `LSTM_DATA_DIR` names the folder that holds all but the embedded one."""

import os

import pytest

from lstm.starter.config import guess_from_source

FOLDER = os.environ.get("LSTM_DATA_DIR", "")
real = pytest.mark.skipif(not FOLDER, reason="LSTM_DATA_DIR is not set")


def test_embedded_weather_is_guessed_like_its_example(tmp_path):
    guess = guess_from_source("nyc_weather", tmp_path)
    data = guess.time.value, guess.series.value, guess.target.value, guess.frequency.value
    assert data == ("time_hour", ("origin",), "temp", "1h")
    assert guess.observed.value == ("dewp", "humid", "wind_dir", "wind_speed", "precip", "pressure", "visib")
    assert sorted(guess.left_out) == ["day", "hour", "month", "wind_gust", "year"]
    assert guess.timezone.value == "America/New_York"
    assert (guess.season.value, guess.horizon.value, guess.split.value) == (24, 24, "30d")


@real
def test_etth1_has_one_target_and_six_covariates(tmp_path):
    guess = guess_from_source(f"{FOLDER}/ETTh1.csv", tmp_path)
    assert (guess.time.value, guess.target.value, guess.wide.value) == ("date", "OT", ())
    assert guess.observed.value == ("HUFL", "HULL", "MUFL", "MULL", "LUFL", "LULL")
    assert (guess.frequency.value, guess.season.value, guess.split.value) == ("1h", 24, "60d")


@real
def test_vic_electricity_is_in_utc_beside_local_days(tmp_path):
    guess = guess_from_source(f"{FOLDER}/vic_electricity.csv", tmp_path)
    assert (guess.time.value, guess.target.value, guess.observed.value) == ("Time", "Demand", ("Temperature",))
    assert (guess.known.value, list(guess.left_out)) == (("Holiday",), ["Date"])
    assert (guess.frequency.value, guess.season.value) == ("30min", 48)
    assert guess.timezone.value == "Australia/Sydney"
    assert "Australia/Melbourne" in guess.timezone.reason


@real
def test_stocks_are_wide_and_have_no_season(tmp_path):
    guess = guess_from_source(f"{FOLDER}/stocks_10x1000.csv", tmp_path)
    assert len(guess.wide.value) == 10
    assert (guess.frequency.value, guess.season.value, guess.horizon.value) == ("B", 1, 5)
