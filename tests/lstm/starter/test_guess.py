"""Guesses for tables of many kinds, and that each guessed configuration has windows to train on."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import ingest_table
from lstm.data.origins import window_origins
from lstm.data.panel_store import PanelStore, write_panel, write_splits
from lstm.data.splits import compute_cuts
from lstm.errors import DataError
from lstm.load_config import load_config
from lstm.presets.presets import with_defaults
from lstm.profiling.run_lengths import RunLengths
from lstm.starter.config import format_config, guess_from_source
from lstm.starter.guess import Guess, guess_config
from tests.support.tables import make_hourly


def days(count: int, unit: str = "D", form: str = "%Y-%m-%d") -> pd.Index:
    return pd.date_range("2019-01-01", periods=count, freq=unit).strftime(form)


def hours(count: int) -> pd.Index:
    return days(count, "h", "%Y-%m-%dT%H:%M:%SZ")


def wave(count: int, season: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.5, count)
    return 20 + 5 * np.sin(2 * np.pi * np.arange(count) / season) + noise


def walk(count: int, start: float, seed: int = 0) -> np.ndarray:
    return start * np.exp(np.random.default_rng(seed).normal(0, 0.01, count).cumsum())


def stocks(count: int = 400) -> pd.DataFrame:
    prices = {f"T{letter}": walk(count, 20 + 30 * seed, seed) for seed, letter in enumerate("ABCDE")}
    return pd.DataFrame({"Date": days(count, "B"), **prices})


def irregular(count: int = 2000, seed: int = 0) -> pd.DataFrame:
    seconds = np.random.default_rng(seed).exponential(300, count).cumsum()
    times = pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, unit="s")
    return pd.DataFrame({"at": times.strftime("%Y-%m-%dT%H:%M:%S.%fZ"), "reading": wave(count, 50)})


def shops() -> pd.DataFrame:
    rows = make_hourly()
    number = rows["shop"].map({"north": 7, "south": 9})
    return rows.assign(shop_id=number, size=number * 10.5, row=np.arange(len(rows)), currency="EUR")


def monthly() -> pd.DataFrame:
    return pd.DataFrame({"Month": days(144, "MS", "%Y-%m"), "Passengers": wave(144, 12)})


def categories() -> pd.DataFrame:
    random = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "time": days(900, "h", "%Y-%m-%d %H:%M"),
            "load": wave(900, 24),
            "sky: #1": random.choice(["clear", "rain, heavy", "no"], 900),
            "note": [f"note {row}" for row in range(900)],
            "Public Holiday": random.integers(0, 2, 900),
            "promo": random.integers(0, 2, 900),
            "rare": np.where(np.arange(900) % 3, np.nan, 1.5),
        }
    )


FRAMES = {
    "shops": shops,
    "stocks": stocks,
    "monthly": monthly,
    "irregular": irregular,
    "categories": categories,
    "short": lambda: pd.DataFrame({"day": days(24), "v": wave(24, 7)}),
    "repeated": lambda: pd.concat([make_hourly(), make_hourly().tail(7)]),
    "two_columns": lambda: pd.DataFrame({"time": days(600, "15min", "%Y-%m-%dT%H:%MZ"), "value": wave(600, 96)}),
    "office_hours": lambda: make_hourly(90)[lambda rows: rows["time"].str[11:13].between("09", "16")],
    "some_off_the_grid": lambda: make_hourly().assign(time=lambda rows: rows["time"].str.replace("T07:00", "T07:20")),
    "holey_months": lambda: monthly()[lambda rows: np.random.default_rng(3).random(len(rows)) > 0.2],
    "yearly": lambda: pd.DataFrame({"year": np.arange(1950, 2020), "population": walk(70, 9)}),
}


def guess_csv(frame: pd.DataFrame, folder: Path, name: str = "table.csv") -> tuple[Guess, PipelineConfig]:
    """Return the guess and the configuration that its text parses to."""
    frame.to_csv(folder / name, index=False)
    guess = guess_from_source(str(folder / name), folder)
    (folder / "guess.yaml").write_text(format_config(guess), encoding="utf-8")
    return guess, load_config(folder / "guess.yaml")


def windows(config: PipelineConfig, folder: Path) -> dict[str, int]:
    """Return the number of windows of each split, computed as in training."""
    data = config.data
    table = ingest_table(data, folder, folder)
    frequency = Frequency.parse(data.frequency, data.timezone)
    cuts = compute_cuts(pd.Timestamp(table.first), pd.Timestamp(table.last), frequency, config.split)
    panel, splits = folder / "panel", folder / "splits"
    panel.mkdir()
    write_panel(table, data, config.normalize, cuts, panel)
    store = PanelStore.load(panel)
    config = with_defaults(config, RunLengths.of(store, config.evaluate.season, config.window.horizon))
    lookback, horizon = max(config.longest_lookback, config.evaluate.season), config.window.horizon
    splits.mkdir()
    write_splits(store, lookback, splits)
    arrays = {split: SplitArrays.load(splits / split) for split in cuts.spans}
    return {
        split: len(window_origins(part.segment, lookback, horizon, 1, part.allowed)) for split, part in arrays.items()
    }


@pytest.mark.parametrize("name", FRAMES)
def test_every_split_of_a_guessed_configuration_has_windows(name, tmp_path):
    guess, config = guess_csv(FRAMES[name](), tmp_path)
    assert all(windows(config, tmp_path).values())
    assert guess_from_source(str(tmp_path / "table.csv"), tmp_path) == guess


def test_shops_are_series_and_redundant_columns_are_left_out(tmp_path):
    guess, config = guess_csv(shops(), tmp_path)
    data = config.data
    assert (data.time, data.series, data.target, data.observed) == ("time", ("shop",), ("sales",), ("visitors",))
    assert (data.static, data.frequency, data.timezone, data.duplicates) == (("size",), "1h", "UTC", "refuse")
    assert guess.left_out == {
        "shop_id": "another name of the series",
        "row": "numbers the rows",
        "currency": "constant",
    }
    assert (config.evaluate.season, config.window.horizon) == (24, 24)
    assert data.calendar.features == ("hour", "dayofweek")


def test_columns_of_one_quantity_are_wide(tmp_path):
    guess, config = guess_csv(stocks(), tmp_path)
    data = config.data
    assert (data.wide, data.target, data.frequency) == (("TA", "TB", "TC", "TD", "TE"), ("value",), "B")
    assert "look like one quantity: none negative, medians within a factor of" in guess.wide.reason
    assert (config.evaluate.season, config.window.horizon) == (1, 5)


def test_columns_of_different_sizes_are_covariates_of_the_last(tmp_path):
    sizes = {f"x{letter}": wave(600, 24, seed) * 10**seed for seed, letter in enumerate("abcd")}
    data = guess_csv(pd.DataFrame({"time": hours(600), **sizes}), tmp_path)[1].data
    assert (data.wide, data.target, data.observed) == ((), ("xd",), ("xa", "xb", "xc"))


def test_a_column_named_like_a_target_is_one_at_any_position(tmp_path):
    frame = stocks().rename(columns={"TB": "close_price", "TE": "country"})
    assert guess_csv(frame, tmp_path)[1].data.target == ("close_price",)


def test_months_have_a_season_of_twelve(tmp_path):
    config = guess_csv(monthly(), tmp_path)[1]
    assert (config.data.frequency, config.evaluate.season, config.data.calendar.features) == ("MS", 12, ("month",))
    assert config.split.test == 0.15


def test_irregular_rows_are_averaged_over_a_plain_step(tmp_path):
    guess, config = guess_csv(irregular(), tmp_path)
    assert (config.data.frequency, config.data.resample) == ("5min", "mean")
    assert "no step fits half of the rows" in guess.frequency.reason


def test_repeated_rows_are_counted_and_averaged(tmp_path):
    guess, config = guess_csv(FRAMES["repeated"](), tmp_path)
    assert (guess.duplicates.value, config.data.duplicates) == (7, "mean")
    assert "rows with a series and time that came before: 7; averaged" in (tmp_path / "guess.yaml").read_text()


def test_text_becomes_categories_and_only_holidays_are_known_ahead(tmp_path):
    guess, config = guess_csv(categories(), tmp_path)
    data = config.data
    assert (data.target, data.observed, data.categorical) == (("load",), ("sky: #1", "promo"), ("sky: #1",))
    assert data.known == ("Public Holiday",)
    assert guess.left_out == {"note": "text with 900 levels", "rare": "66.7 % missing"}


def test_columns_that_go_on_after_the_target_are_known_ahead():
    frame = make_hourly().assign(promo=np.arange(1920) % 7 == 0)
    frame.loc[frame["time"] >= "2024-04-08", ["sales", "visitors"]] = np.nan
    guess = guess_config(frame, "shops.csv")
    assert (guess.known.value, guess.observed.value) == (("promo",), ("visitors",))
    assert guess.known.reason.startswith("goes on after the target ends")


def test_german_dates_and_decimals_are_parsed(tmp_path):
    sold = [f"{value:.2f}".replace(".", ",") for value in wave(300, 7)]
    frame = pd.DataFrame({"Datum": days(300, "D", "%d.%m.%Y"), "Umsatz": sold})
    frame.to_csv(tmp_path / "umsatz.csv", index=False, sep=";")
    guess = guess_from_source(str(tmp_path / "umsatz.csv"), tmp_path)
    (tmp_path / "guess.yaml").write_text(format_config(guess))
    config = load_config(tmp_path / "guess.yaml")
    assert (config.data.time_format, config.data.csv.decimal, config.evaluate.season) == ("%d.%m.%Y", ",", 7)
    assert all(windows(config, tmp_path).values())


@pytest.mark.parametrize(
    ("form", "time_format"), [("%d/%m/%Y", "%d/%m/%Y"), ("%m/%d/%Y %I:%M %p", "%m/%d/%Y %I:%M %p")]
)
def test_all_rows_decide_between_day_and_month(form, time_format, tmp_path):
    frame = pd.DataFrame({"when": days(200, "D", form), "v": wave(200, 7)})
    assert guess_csv(frame, tmp_path)[1].data.time_format == time_format


def test_the_zone_is_guessed_from_the_offsets(tmp_path):
    times = pd.date_range("2023-01-01", periods=500, freq="D", tz="America/New_York")
    frame = pd.DataFrame({"t": [moment.isoformat() for moment in times], "v": wave(500, 7)})
    data = guess_csv(frame, tmp_path)[1].data
    assert (data.timezone, data.frequency) == ("America/New_York", "1d")


def test_sensors_with_times_of_their_own_are_series(tmp_path):
    rows = pd.concat([irregular(seed=seed).assign(sensor=name) for seed, name in enumerate("ab")])
    data = guess_csv(rows.sort_values("at"), tmp_path)[1].data
    assert data.series == ("sensor",)


def bad_cell() -> pd.DataFrame:
    frame = pd.DataFrame({"time": days(100), "v": wave(100, 7)})
    frame.loc[50, "time"] = "soon"
    return frame


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame({"a": [1.5] * 50, "b": range(50)}), "no column holds times; its columns are 'a', 'b'. Give it"),
        (pd.DataFrame({"year": 2020, "month": range(50), "v": 1.5}), "Join 'year', 'month' into one column"),
        (pd.DataFrame({"time": days(50), "b": "x"}), "no column holds numbers .* 'time', 'b' \\('b': constant\\)"),
        (pd.DataFrame({"time": days(12), "v": wave(12, 7)}), "holds 12 times of 'v' at most"),
        (pd.DataFrame({"time": days(0), "v": 1.0}), "holds no rows"),
        (
            pd.DataFrame({"day": np.repeat(days(40), 24), "hr": np.tile(np.arange(24), 40), "cnt": wave(960, 24)}),
            "column 'day' holds days and column 'hr' the time of day",
        ),
        (bad_cell(), "column 'time', row 51: 'soon' is no time, while 99 of 100 rows hold one"),
    ],
)
def test_a_table_without_a_guess_is_refused_in_one_line(frame, message):
    with pytest.raises(DataError, match=message) as caught:
        guess_config(frame, "table.csv")
    assert str(caught.value).startswith("table.csv: ")
    assert "\n" not in str(caught.value)
