import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.data.spec import DataSpec
from lstm.data.table import canonical, fingerprint, read_source
from lstm.errors import DataError

from ..conftest import DATA, make_hourly

SPEC = DataSpec.parse(DATA)


def test_embedded_weather_is_the_one_described():
    frame, _ = read_source("nyc_weather")
    assert len(frame) == 26_115
    assert sorted(frame["origin"].unique()) == ["EWR", "JFK", "LGA"]
    assert 0.10 < frame["pressure"].isna().mean() < 0.11


def test_canonical_is_sorted_in_utc_and_leaves_the_input_alone(hourly):
    shuffled = hourly.sample(frac=1, random_state=1)
    before = shuffled.copy()
    table = canonical(shuffled, SPEC)
    pd.testing.assert_frame_equal(shuffled, before)
    assert list(table.columns) == ["series", "time", "sales", "visitors"]
    assert str(table["time"].dt.tz) == "UTC"
    assert table.groupby("series")["time"].is_monotonic_increasing.all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: f.rename(columns={"sales": "sale"}), "column 'sales' is not there. Did you mean 'sale'"),
        (lambda f: f.assign(sales="many"), "column 'sales', row 1: 'many' is no number"),
        (lambda f: f.assign(visitors=np.inf), "column 'visitors', row 1: inf is not finite"),
        (lambda f: f.assign(time="soon"), "column 'time', row 1: 'soon' is no time"),
        (lambda f: pd.concat([f, f.tail(1)]), r"row 1921: series 'south' has 2024-04-09T23:00:00\+00:00 twice"),
        (lambda f: f.assign(time=f["time"].str.replace("T05:00", "T05:01")), "off the grid of data.frequency=1h"),
        (lambda f: f.assign(sales=np.nan), "target 'sales' has no value"),
        (lambda f: f.head(0), "holds no rows"),
        (lambda f: f.assign(sales=1e40), "row 1: 1e\\+40 is over 1e30"),
        (lambda f: f.assign(shop=None), "column 'shop', row 1: the id is empty"),
        (lambda f: f.assign(time=range(len(f))), "column 'time' holds numbers"),
        (lambda f: f.assign(time=f["time"].str.replace("2024", "1492")), "row 1: .* is not in 1800 to 2200"),
        (lambda f: f.rename(columns={"visitors": "sales"}), "column 'sales' is there twice"),
    ],
)
def test_refusals_name_the_place_and_the_rule(hourly, change, said):
    with pytest.raises(DataError, match=said) as caught:
        canonical(change(hourly), SPEC, "shops.csv")
    assert str(caught.value).startswith("shops.csv: ")
    assert "\n" not in str(caught.value)


def test_one_bad_row_among_many_is_found(hourly):
    hourly["sales"] = hourly["sales"].astype(object)
    hourly.loc[777, "sales"] = "n/a?"
    with pytest.raises(DataError, match="row 778: 'n/a\\?' is no number"):
        canonical(hourly, SPEC)


def test_local_times_without_offset_are_read_in_the_zone(hourly):
    hourly["time"] = hourly["time"].str.removesuffix("Z")
    table = canonical(hourly, DataSpec.parse({**DATA, "timezone": "Asia/Tokyo"}))
    assert table["time"].iloc[0] == pd.Timestamp("2024-02-29T15:00Z")


def test_a_local_hour_that_happens_twice_is_refused():
    frame = pd.DataFrame({"time": ["2024-11-03 00:00", "2024-11-03 01:00"], "shop": "a", "sales": 1.0, "visitors": 1.0})
    with pytest.raises(DataError, match="row 2: local time '2024-11-03 01:00' is ambiguous or does not exist"):
        canonical(frame, DataSpec.parse({**DATA, "timezone": "America/New_York"}))


def test_several_id_columns_are_joined(hourly):
    table = canonical(hourly.assign(city="x"), DataSpec.parse({**DATA, "series": ["city", "shop"]}))
    assert sorted(table["series"].unique()) == ["x/north", "x/south"]


def test_static_columns_must_be_static(hourly):
    spec = DataSpec.parse({**DATA, "static": ["area"]})
    canonical(hourly.assign(area=hourly["shop"].map({"north": 1.0, "south": 2.0})), spec)
    with pytest.raises(DataError, match="static column 'area' changes within series 'north'"):
        canonical(hourly.assign(area=np.arange(len(hourly))), spec)


@pytest.mark.parametrize("suffix", ["csv", "csv.gz", "parquet"])
def test_formats_hold_the_same_table(hourly, tmp_path, suffix):
    path = tmp_path / f"shops.{suffix}"
    hourly.to_parquet(path) if suffix == "parquet" else hourly.to_csv(path, index=False)
    frame, name = read_source(str(path))
    assert name == path.name
    assert fingerprint(canonical(frame, SPEC)) == fingerprint(canonical(hourly, SPEC))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gone.csv", None, "no such file, nor the name of an embedded data set"),
        ("a.txt", b"x", "must end in .csv, .csv.gz or .parquet"),
        ("a.parquet", b"not parquet", "can't be read as a table"),
        ("a.csv", b"", "can't be read as a table"),
        ("a.csv.gz", b"not gzip", "can't be read as a table"),
    ],
)
def test_unreadable_sources_are_named(tmp_path, name, content, said):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        read_source(str(tmp_path / name))


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_fingerprint_ignores_the_order_of_rows_and_columns(random):
    frame = make_hourly(days=3)
    rows, columns = list(range(len(frame))), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    assert fingerprint(canonical(frame.iloc[rows][columns], SPEC)) == fingerprint(canonical(frame, SPEC))


def test_fingerprint_sees_one_changed_value(hourly):
    before = fingerprint(canonical(hourly, SPEC))
    hourly.loc[5, "sales"] += 1e-9
    assert fingerprint(canonical(hourly, SPEC)) != before


def test_ids_stay_text_and_a_name_twice_is_refused(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("time,shop,sales\n2024-01-01T00:00Z,007,1\n")
    assert read_source(str(path), ("shop",))[0]["shop"].tolist() == ["007"]
    path.write_text("time,shop,sales,sales\n2024-01-01T00:00Z,007,1,2\n")
    with pytest.raises(DataError, match="'sales' is there twice in the header"):
        read_source(str(path))


def test_a_frequency_that_is_far_too_fine_is_refused():
    with pytest.raises(DataError, match="data.frequency=1us makes a grid of .* rows for 1920 measured"):
        canonical(make_hourly(), DataSpec.parse({**DATA, "frequency": "1us"}))
