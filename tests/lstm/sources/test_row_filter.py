"""`data.where` and the segments of `data.partition_by`, on every type of source."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lstm.config.data import DataSpec
from lstm.data.ingest import ingest_table
from lstm.data.segments import find_segments
from lstm.data.table import canonicalize
from lstm.errors import ConfigError, DataError
from lstm.sources.row_filter import RowFilter, comparison_codes, comparison_key, may_contain
from lstm.sources.source import Source
from tests.support.tables import DATA, make_hourly

SOURCE_TYPES = ("csv", "csv.gz", "parquet", "folder", "sql")
NORTH = {"shop": "north"}


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three shops, with columns of several types."""
    rows = make_hourly(4, ("north", "south", "west"))
    number = rows["shop"].map({"north": 1, "south": 2, "west": 3})
    return rows.assign(number=number, share=number / 2, code="0" + number.astype("str"), open=number > 1)


def store_source(source_type: str, frame: pd.DataFrame, folder: Path, monkeypatch) -> object:
    """Store a frame as one type of source, and return `data.source`."""
    if source_type == "sql":
        import sqlite3

        with closing(sqlite3.connect(folder / "shops.db")) as connection:
            frame.to_sql("shops", connection, index=False)
        monkeypatch.setenv("SHOPS_DB", f"sqlite:///{folder / 'shops.db'}")
        return {"sql": "select * from shops", "uri": "env:SHOPS_DB"}
    path = folder / f"shops.{source_type}"
    if source_type == "folder":
        frame.to_parquet(path, partition_cols=["shop"])
    elif source_type == "parquet":
        frame.to_parquet(path, row_group_size=100)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def make_spec(source: object, **changes: object) -> DataSpec:
    return DataSpec.parse({**DATA, "source": source, **changes})


def ingest_rows(spec: DataSpec, folder: Path) -> pd.DataFrame:
    return pd.read_parquet(ingest_table(spec, folder, folder).path)


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
@pytest.mark.parametrize(
    ("where", "query"),
    [
        (NORTH, "shop == 'north'"),
        ({"shop": ["north", "west"]}, "shop in ('north', 'west')"),
        ({"number": 2}, "number == 2"),
        ({"number": "2.0", "shop": "south"}, "number == 2 and shop == 'south'"),
        ({"share": [0.5, 1.5]}, "share in (0.5, 1.5)"),
    ],
    ids=str,
)
def test_rows_of_every_source_are_selected_as_pandas_would(frame, tmp_path, monkeypatch, source_type, where, query):
    spec = make_spec(store_source(source_type, frame, tmp_path, monkeypatch), where=where)
    pd.testing.assert_frame_equal(ingest_rows(spec, tmp_path), canonicalize(frame.query(query), spec))


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
def test_a_filtered_column_may_also_have_a_role(frame, tmp_path, monkeypatch, source_type):
    roles = {"static": ["number", "code"], "categorical": ["code"]}
    spec = make_spec(
        store_source(source_type, frame, tmp_path, monkeypatch), **roles, where={"number": 2, "code": "02"}
    )
    kept = ingest_rows(spec, tmp_path)
    assert set(kept["series"]) == {"south"} and set(kept["number"]) == {2.0} and set(kept["code"]) == {"02"}


@pytest.mark.parametrize("source_type", ["csv", "parquet", "folder"])
def test_an_id_with_leading_zeros_is_no_number(frame, tmp_path, monkeypatch, source_type):
    source = store_source(source_type, frame, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="no row has 2 in column 'code', which data.where asks for. Did you mean '02'?"):
        ingest_table(make_spec(source, where={"code": 2}), tmp_path, tmp_path)
    assert set(ingest_rows(make_spec(source, where={"code": "02"}), tmp_path)["series"]) == {"south"}


@pytest.mark.parametrize("source_type", ["csv", "parquet", "folder"])
def test_booleans_match_in_any_spelling(frame, tmp_path, monkeypatch, source_type):
    source = store_source(source_type, frame, tmp_path, monkeypatch)
    for value in (True, "True", "true"):
        assert set(ingest_rows(make_spec(source, where={"open": value}), tmp_path)["series"]) == {"south", "west"}


@pytest.mark.parametrize(
    ("first", "second", "equal"),
    [
        (1, "1", True),
        (1.0, "1", True),
        ("1.50", 1.5, True),
        ("01", 1, False),
        ("01", "1", False),
        (np.int64(10**18 + 1), str(10**18 + 1), True),
        (10**18 + 1, 10**18, False),
        ("-0", 0, True),
        ("1.", "1", True),
        (True, "TRUE", True),
        (True, 1, False),
        ("north", "North", False),
        ("1e3", 1000, False),
        (1e20, "1e+20", True),
    ],
    ids=str,
)
def test_values_are_the_same_by_text_or_as_numbers(first, second, equal):
    assert (comparison_key(first) == comparison_key(second)) is equal


def test_a_row_without_a_value_is_never_selected():
    row_filter = RowFilter({"shop": ("nan", "None", "x")})
    assert row_filter.mask(pd.DataFrame({"shop": [None, np.nan, "x", " "]})).tolist() == [False, False, True, False]


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
def test_a_missing_column_is_refused(frame, tmp_path, monkeypatch, source_type):
    source = store_source(source_type, frame, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="column 'shops' of data.where is not there. Did you mean 'shop'?"):
        ingest_table(make_spec(source, where={"shops": "north"}), tmp_path, tmp_path)


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
def test_a_value_that_no_row_has_is_refused_with_the_closest_one(frame, tmp_path, monkeypatch, source_type):
    spec = make_spec(store_source(source_type, frame, tmp_path, monkeypatch), where={"shop": ["north", "sooth"]})
    with pytest.raises(DataError, match="no row has 'sooth' in column 'shop', .* Did you mean 'south'?"):
        ingest_table(spec, tmp_path, tmp_path)
    assert not list(tmp_path.glob("table-*")) and not list(tmp_path.glob(".ingest-*"))


def test_values_that_never_occur_together_are_refused(frame, tmp_path, monkeypatch):
    spec = make_spec(store_source("csv", frame, tmp_path, monkeypatch), where={"shop": "north", "number": 2})
    with pytest.raises(DataError, match="no row has what data.where asks for in shop and number at once"):
        ingest_table(spec, tmp_path, tmp_path)


def test_wide_tables_cannot_be_filtered(frame):
    with pytest.raises(ConfigError, match="`where` chooses rows by a column, and `wide` makes series of columns"):
        make_spec("-", series=[], wide="all", where=NORTH)


def test_each_filter_has_its_own_table(frame, tmp_path, monkeypatch):
    source = store_source("csv", frame, tmp_path, monkeypatch)
    tables = [ingest_table(make_spec(source, where={"shop": shop}), tmp_path, tmp_path) for shop in ("north", "south")]
    again = ingest_table(make_spec(source, where=NORTH), tmp_path, tmp_path)
    assert tables[0].sha256 != tables[1].sha256 and again == tables[0]


@pytest.mark.parametrize("source_type", ["csv", "parquet", "folder"])
def test_a_message_names_the_row_of_the_file(frame, tmp_path, monkeypatch, source_type):
    """Rows and whole row groups before it are left out, and count all the same."""
    frame = frame.astype({"sales": object})
    frame.loc[250, "sales"] = "much"
    frame["sales"] = frame["sales"].astype("str")
    spec = make_spec(store_source(source_type, frame, tmp_path, monkeypatch), where={"shop": "west"})
    row = 251 if source_type != "folder" else 251 - 2 * 96
    with pytest.raises(DataError, match=f"column 'sales', row {row}: 'much' is no number"):
        ingest_table(spec, tmp_path, tmp_path)


def test_row_groups_and_files_that_hold_none_of_the_rows_are_not_read(frame, tmp_path, monkeypatch):
    read: list[int] = []
    chunks = Source.chunks

    def counted(*arguments, **options):
        for chunk in chunks(*arguments, **options):
            read.append(len(chunk))
            yield chunk

    monkeypatch.setattr(Source, "chunks", counted)
    for source_type, most in (("parquet", 200), ("folder", 96)):  # of 288 rows; row groups of 100
        read.clear()
        ingest_table(
            make_spec(store_source(source_type, frame, tmp_path, monkeypatch), where=NORTH), tmp_path, tmp_path
        )
        assert 0 < sum(read) <= most


@pytest.mark.parametrize(
    ("low", "high", "value", "may"),
    [
        (1, 5, "3", True),
        (1, 5, 7, False),
        (1.5, 2.5, "2", True),
        (0.0, 1e21, 1e20, True),
        (1, 5, "north", False),
        ("a", "m", "north", False),
        ("a", "z", "north", True),
        ("a", "b", 1, True),
        (True, True, False, True),
        (pd.Timestamp("2024-01-01"), pd.Timestamp("2024-01-02"), "2023", True),
    ],
    ids=str,
)
def test_statistics_exclude_only_groups_that_cannot_hold_the_value(low, high, value, may):
    assert may_contain(low, high, {comparison_key(value): value}) is may


def test_values_of_different_types_in_different_files_match(tmp_path):
    (tmp_path / "parts").mkdir()
    for name, values in (("a", [1, 1]), ("b", [1.0, 2.0])):
        times = pa.array([f"2024-01-0{'12'[name == 'b']}T0{hour}:00Z" for hour in range(2)])
        pq.write_table(
            pa.table({"time": times, "sales": [1.0, 2.0], "zone": pa.array(values)}),
            tmp_path / "parts" / f"{name}.parquet",
        )
    spec = DataSpec.parse(
        {"source": str(tmp_path / "parts"), "time": "time", "target": "sales", "where": {"zone": "1"}}
    )
    assert len(ingest_rows(spec, tmp_path)) == 3


# --- Segments


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
def test_segments_are_the_combinations_of_values_that_occur(frame, tmp_path, monkeypatch, source_type):
    source = store_source(source_type, frame, tmp_path, monkeypatch)
    assert find_segments(make_spec(source, partition_by="shop"), tmp_path, tmp_path) == (
        ("north",),
        ("south",),
        ("west",),
    )
    both = make_spec(source, partition_by=["number", "shop"], where={"shop": ["south", "west"]})
    assert find_segments(both, tmp_path, tmp_path) == (("2", "south"), ("3", "west"))


def test_segments_are_read_once(frame, tmp_path, monkeypatch):
    spec = make_spec(store_source("parquet", frame, tmp_path, monkeypatch), partition_by="shop")
    segments = find_segments(spec, tmp_path, tmp_path)
    monkeypatch.setattr(Source, "chunks", lambda *_, **__: pytest.fail("read again"))
    assert find_segments(spec, tmp_path, tmp_path) == segments


@pytest.mark.parametrize("source_type", SOURCE_TYPES)
def test_a_row_without_a_segment_is_refused_unless_filtered(frame, tmp_path, monkeypatch, source_type):
    frame.loc[frame["shop"] == "west", "code"] = None
    source = store_source(source_type, frame, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="column 'code' of data.partition_by is empty or NA in 96 rows"):
        find_segments(make_spec(source, partition_by="code"), tmp_path, tmp_path)
    named = make_spec(source, partition_by="code", where={"code": ["01", "02"]})
    assert find_segments(named, tmp_path, tmp_path) == (("01",), ("02",))


def test_a_missing_partition_column_is_refused(frame, tmp_path, monkeypatch):
    spec = make_spec(store_source("parquet", frame, tmp_path, monkeypatch), partition_by="shops")
    with pytest.raises(DataError, match="column 'shops' of data.partition_by is not there. Did you mean 'shop'?"):
        find_segments(spec, tmp_path, tmp_path)


def test_partitioned_data_are_not_read_as_one_table(frame, tmp_path, monkeypatch):
    spec = make_spec(store_source("csv", frame, tmp_path, monkeypatch), partition_by="shop")
    with pytest.raises(ConfigError, match="data.partition_by makes a model for each segment, and this is about one"):
        ingest_table(spec, tmp_path, tmp_path)


@pytest.mark.parametrize("column", ["time", "sales"])
def test_times_and_targets_cannot_be_segments(column):
    with pytest.raises(
        ConfigError, match=f"`partition_by` names columns of segments, but '{column}' is the time or a target"
    ):
        make_spec("shops.csv", partition_by=column)


def test_a_column_of_lists_is_refused_by_name():
    with pytest.raises(DataError, match="column 'tags': holds lists or mappings"):
        comparison_codes(pd.Series([["a"], ["b"]], name="tags"))
