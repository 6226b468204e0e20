import itertools
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.config.data import DataSpec
from lstm.data.canonicalizer import Canonicalizer
from lstm.data.fingerprint import Fingerprint, fingerprint
from lstm.data.rows import RowReader
from lstm.data.sorting import sort_rows
from lstm.data.table import canonicalize, resolve_frequency
from lstm.errors import DataError
from tests.support.tables import DATA, make_hourly

SPEC = DataSpec.parse(DATA)


def test_canonical_is_sorted_in_utc_and_leaves_the_input_alone(hourly):
    shuffled = hourly.sample(frac=1, random_state=1)
    before = shuffled.copy()
    table = canonicalize(shuffled, SPEC)
    pd.testing.assert_frame_equal(shuffled, before)
    assert list(table.columns) == ["series", "time", "sales", "visitors"]
    assert str(table["time"].dt.tz) == "UTC"
    assert table.groupby("series")["time"].is_monotonic_increasing.all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda f: f.rename(columns={"sales": "sale"}), "column 'sales' is not there. Did you mean 'sale'"),
        (lambda f: f.assign(sales="many"), "column 'sales', row 1: 'many' is no number"),
        (lambda f: f.assign(visitors=np.inf), "column 'visitors', row 1: inf is not finite"),
        (lambda f: f.assign(time="soon"), "column 'time', row 1: 'soon' is no time"),
        (
            lambda f: pd.concat([f, f.tail(1)]),
            r"rows 1920 and 1921: series 'south' has 2024-04-09T23:00:00\+00:00 twice",
        ),
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
def test_errors_name_the_cell_and_the_rule(hourly, change, expected):
    with pytest.raises(DataError, match=expected) as caught:
        canonicalize(change(hourly), SPEC, "shops.csv")
    assert str(caught.value).startswith("shops.csv: ")
    assert "\n" not in str(caught.value)


def test_one_bad_row_among_many_is_found(hourly):
    hourly["sales"] = hourly["sales"].astype(object)
    hourly.loc[777, "sales"] = "n/a?"
    with pytest.raises(DataError, match="row 778: 'n/a\\?' is no number"):
        canonicalize(hourly, SPEC)


def test_local_times_without_offset_are_read_in_the_zone(hourly):
    hourly["time"] = hourly["time"].str.removesuffix("Z")
    table = canonicalize(hourly, DataSpec.parse({**DATA, "timezone": "Asia/Tokyo"}))
    assert table["time"].iloc[0] == pd.Timestamp("2024-02-29T15:00Z")


def test_a_local_hour_that_happens_twice_is_refused():
    frame = pd.DataFrame({"time": ["2024-11-03 00:00", "2024-11-03 01:00"], "shop": "a", "sales": 1.0, "visitors": 1.0})
    with pytest.raises(DataError, match="row 2: local time '2024-11-03 01:00' comes twice in America/New_York"):
        canonicalize(frame, DataSpec.parse({**DATA, "timezone": "America/New_York"}))


def test_several_id_columns_are_joined(hourly):
    table = canonicalize(hourly.assign(city="x"), DataSpec.parse({**DATA, "series": ["city", "shop"]}))
    assert sorted(table["series"].unique()) == ["x/north", "x/south"]


def test_static_columns_must_be_static(hourly):
    spec = DataSpec.parse({**DATA, "static": ["area"]})
    canonicalize(hourly.assign(area=hourly["shop"].map({"north": 1.0, "south": 2.0})), spec)
    with pytest.raises(DataError, match="static column 'area' changes within series 'north'"):
        canonicalize(hourly.assign(area=np.arange(len(hourly))), spec)


@settings(max_examples=20, deadline=None)
@given(st.randoms(use_true_random=False))
def test_fingerprint_ignores_the_order_of_rows_and_columns(random):
    frame = make_hourly(days=3)
    rows, columns = list(range(len(frame))), list(frame.columns)
    random.shuffle(rows)
    random.shuffle(columns)
    assert fingerprint(canonicalize(frame.iloc[rows][columns], SPEC)) == fingerprint(canonicalize(frame, SPEC))


def test_fingerprint_sees_one_changed_value(hourly):
    before = fingerprint(canonicalize(hourly, SPEC))
    hourly.loc[5, "sales"] += 1e-9
    assert fingerprint(canonicalize(hourly, SPEC)) != before


def test_a_frequency_that_is_far_too_fine_is_refused():
    with pytest.raises(DataError, match="data.frequency=1s makes a grid of .* rows for 1920 measured"):
        canonicalize(make_hourly(), DataSpec.parse({**DATA, "frequency": "1s"}))


def test_every_type_of_number_is_read(hourly):
    kinds = {
        "decimal": hourly["sales"].round(2).map(lambda value: Decimal(str(value))),
        "nullable": hourly["sales"].round().astype("Int64"),
        "arrow": hourly["sales"].astype("double[pyarrow]"),
        "flag": hourly["sales"] > 20,
        "whole": hourly["sales"].round().astype("int16"),
        "text": hourly["sales"].map(str),
    }
    kinds["nullable"].iloc[3] = pd.NA
    kinds["decimal"].iloc[4] = None
    kinds["mixed flag"] = kinds["flag"].astype(object).mask(hourly.index == 2)
    spec = DataSpec.parse({**DATA, "observed": list(kinds)})
    table = canonicalize(hourly.assign(**kinds), spec)
    assert (table[list(kinds)].dtypes == "float64").all()
    assert table[list(kinds)].isna().sum().to_dict() == {
        **dict.fromkeys(kinds, 0),
        "nullable": 1,
        "decimal": 1,
        "mixed flag": 1,
    }
    np.testing.assert_allclose(table["text"], table["sales"])
    assert set(table["flag"]) == {0.0, 1.0}


def test_categories_are_text_whatever_their_type(hourly):
    whole = pd.Series(np.where(hourly.index == 0, np.nan, 3.0), index=hourly.index)
    frame = hourly.assign(kind=pd.Categorical(["a", "b"] * (len(hourly) // 2)), number=whole)
    spec = DataSpec.parse({**DATA, "observed": ["kind", "number"], "categorical": ["kind", "number"]})
    table = canonicalize(frame, spec)
    assert set(table["kind"]) == {"a", "b"}
    assert table["number"].isna().sum() == 1 and set(table["number"].dropna()) == {"3"}


def test_the_error_for_text_in_a_covariate_names_data_categorical(hourly):
    with pytest.raises(DataError, match=r"'sunny' is no number. .* set data.categorical: \[visitors\]"):
        canonicalize(hourly.assign(visitors="sunny"), SPEC)


def test_a_decimal_comma_is_recognised(hourly):
    with pytest.raises(DataError, match="set data.csv.decimal: ','"):
        canonicalize(hourly.assign(sales="1,5"), SPEC)


def test_a_wide_table_is_the_long_one(hourly):
    wide = hourly.pivot(index="time", columns="shop", values="sales").reset_index().rename_axis(columns=None)
    spec = DataSpec.parse({"source": "-", "time": "time", "wide": "all", "target": "sales"})
    named = DataSpec.parse({**spec.model_dump(), "wide": ["north", "south"]})
    long = canonicalize(hourly.drop(columns="visitors"), DataSpec.parse({**DATA, "observed": []}))
    assert fingerprint(canonicalize(wide, spec)) == fingerprint(canonicalize(wide, named)) == fingerprint(long)
    with pytest.raises(DataError, match="column 'south', row 3: 'x' is no number"):
        canonicalize(wide.assign(south=np.where(wide.index == 2, "x", "1")), spec)


@pytest.mark.parametrize(("rule", "expected"), [("mean", 15.0), ("last", 10.0)])
def test_duplicates_are_merged_by_the_configured_rule(hourly, rule, expected):
    hourly.loc[0, "sales"] = 20.0
    twice = pd.concat([hourly, hourly.head(1).assign(sales=10.0)])
    table = canonicalize(twice, DataSpec.parse({**DATA, "duplicates": rule}))
    assert len(table) == len(hourly)
    assert table["sales"].iloc[0] == expected


@pytest.mark.parametrize(("rule", "expected"), [("mean", 2.0), ("sum", 6.0), ("min", 1.0), ("max", 3.0), ("last", 3.0)])
def test_irregular_rows_are_resampled_by_the_rule(rule, expected):
    times = ["2024-01-01T00:07Z", "2024-01-01T00:20Z", "2024-01-01T00:59:59Z", "2024-01-01T03:30Z"]
    frame = pd.DataFrame({"time": times, "sales": [1.0, 2.0, 3.0, 9.0]})
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", "resample": rule})
    table = canonicalize(frame, spec)
    assert table["time"].tolist() == [pd.Timestamp("2024-01-01T00:00Z"), pd.Timestamp("2024-01-01T03:00Z")]
    assert table["sales"].tolist() == [expected, 9.0]


@pytest.mark.parametrize("frequency", ["1s", "1min", "30min", "1h", "1d", "1w", "B", "MS", "ME", "QS", "YE"])
def test_every_frequency_is_accepted_and_inferred(frequency):
    zone = "America/New_York"
    alias = {"1d": "D", "1w": "W-THU"}.get(frequency, frequency)
    times = pd.date_range("2020-02-06", periods=80, freq=alias, tz=zone)
    frame = pd.DataFrame({"time": times.strftime("%Y-%m-%dT%H:%M:%S%z"), "sales": np.arange(80.0)}).drop(index=[5, 6])
    values = {"source": "-", "time": "time", "target": "sales", "timezone": zone}
    canonicalize(frame, DataSpec.parse({**values, "frequency": frequency}))
    rows = sort_rows(RowReader(DataSpec.parse(values), "table").read(frame))
    assert resolve_frequency(DataSpec.parse({**values, "frequency": "infer"}), rows, "table").frequency == frequency
    with pytest.raises(DataError, match="off the grid"):
        moved = frame["time"].mask(frame.index == 9, (times[9] + pd.Timedelta("500ms")).isoformat())
        canonicalize(frame.assign(time=moved), DataSpec.parse({**values, "frequency": frequency}))


def test_days_keep_the_local_clock_through_daylight_saving():
    days = pd.date_range("2024-01-01", "2024-12-31", freq="D").strftime("%Y-%m-%d")
    frame = pd.DataFrame({"time": days, "sales": 1.0})
    spec = DataSpec.parse(
        {"source": "-", "time": "time", "target": "sales", "frequency": "1d", "timezone": "America/New_York"}
    )
    lengths = canonicalize(frame, spec)["time"].diff().dropna().value_counts()
    assert lengths.to_dict() == {pd.Timedelta(hours=24): 363, pd.Timedelta(hours=23): 1, pd.Timedelta(hours=25): 1}


def test_a_local_hour_that_does_not_exist_is_refused():
    frame = pd.DataFrame({"time": ["2024-03-10 01:00", "2024-03-10 02:00"], "sales": 1.0})
    with pytest.raises(DataError, match="row 2: local time '2024-03-10 02:00' does not exist in America/New_York"):
        canonicalize(
            frame, DataSpec.parse({"source": "-", "time": "time", "target": "sales", "timezone": "America/New_York"})
        )


def test_offsets_resolve_the_hour_that_happens_twice():
    times = ["2024-11-03T00:30-04:00", "2024-11-03T01:30-04:00", "2024-11-03T01:30-05:00", "2024-11-03T02:30-05:00"]
    frame = pd.DataFrame({"time": times, "sales": 1.0})
    table = canonicalize(
        frame, DataSpec.parse({"source": "-", "time": "time", "target": "sales", "timezone": "America/New_York"})
    )
    assert (table["time"].diff().dropna() == pd.Timedelta("1h")).all()


def test_offsets_in_only_some_rows_are_refused(hourly):
    hourly.loc[4, "time"] = "2024-03-01T04:00:00"
    with pytest.raises(DataError, match="row 5: '2024-03-01T04:00:00' has no offset, unlike the rows before"):
        canonicalize(hourly, SPEC)


def test_other_time_formats_are_configured_not_guessed(hourly):
    hourly["time"] = pd.to_datetime(hourly["time"]).dt.strftime("%d/%m/%Y %H:%M")
    with pytest.raises(DataError, match="'01/03/2024 00:00' is no time. .* data.time_format"):
        canonicalize(hourly, SPEC)
    table = canonicalize(hourly, DataSpec.parse({**DATA, "time_format": "%d/%m/%Y %H:%M"}))
    assert table["time"].iloc[0] == pd.Timestamp("2024-03-01T00:00Z")


def test_irregular_rows_are_kept_with_frequency_irregular():
    times = pd.to_datetime(["2024-01-01T00:07Z", "2024-01-01T00:20Z", "2024-01-01T03:30Z"])
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", "frequency": "irregular"})
    table = canonicalize(pd.DataFrame({"time": times, "sales": [1.0, 2.0, 3.0]}), spec)
    assert table["time"].tolist() == list(times)


def test_a_table_without_a_frequency_to_infer_is_refused():
    times = ["2024-01-01T00:07Z", "2024-01-01T00:20Z", "2024-01-01T03:30Z", "2024-01-02T13:31:03Z"]
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", "frequency": "infer"})
    with pytest.raises(DataError, match="finds no step that most rows follow"):
        canonicalize(pd.DataFrame({"time": times, "sales": 1.0}), spec)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_pieces_give_the_same_canonical_table_as_the_whole(data):
    """Duplicates and bins may lie on both sides of a border between pieces."""
    frame = make_hourly(days=3, shops=("a", "b", "c")).assign(size=1.0)
    frame = frame.drop(index=data.draw(st.sets(st.integers(0, len(frame) - 1), max_size=60)))
    frame = pd.concat([frame, frame.sample(frac=0.3, random_state=1).assign(sales=5.0)], ignore_index=True)
    changes = data.draw(
        st.sampled_from([{"duplicates": "mean"}, {"duplicates": "last"}, {"resample": "sum", "frequency": "4h"}])
    )
    spec = DataSpec.parse({**DATA, "static": ["size"], **changes})
    rows = sort_rows(RowReader(spec, "table").read(frame))
    cuts = sorted(data.draw(st.sets(st.integers(1, len(rows) - 1), max_size=8)))
    pieces = [rows.iloc[low:high] for low, high in itertools.pairwise([0, *cuts, len(rows)])]
    canonicalizer = Canonicalizer(spec, "table")
    pd.testing.assert_frame_equal(
        pd.concat(canonicalizer.process(iter(pieces)), ignore_index=True),
        canonicalize(frame, spec),
    )
    canonicalizer.check_complete()
    assert canonicalizer.series == 3 and canonicalizer.rows + canonicalizer.merged == len(rows)
    digest = Fingerprint()
    for low, high in itertools.pairwise([0, *cuts, len(rows)]):
        digest.update(canonicalize(frame, spec).iloc[low:high])
    assert digest.hexdigest() == fingerprint(canonicalize(frame, spec))
