"""`data.where` and the segments of `data.partition_by`, on every kind of source."""

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

KINDS = ("csv", "csv.gz", "parquet", "folder", "sql")
NORTH = {"shop": "north"}


@pytest.fixture
def frame() -> pd.DataFrame:
    """Three shops, and columns of several types beside."""
    made = make_hourly(4, ("north", "south", "west"))
    number = made["shop"].map({"north": 1, "south": 2, "west": 3})
    return made.assign(number=number, share=number / 2, code="0" + number.astype("str"), open=number > 1)


def source_of(kind: str, frame: pd.DataFrame, folder: Path, monkeypatch) -> object:
    """The frame as one kind of source."""
    if kind == "sql":
        import sqlite3

        with closing(sqlite3.connect(folder / "shops.db")) as connection:
            frame.to_sql("shops", connection, index=False)
        monkeypatch.setenv("SHOPS_DB", f"sqlite:///{folder / 'shops.db'}")
        return {"sql": "select * from shops", "uri": "env:SHOPS_DB"}
    path = folder / f"shops.{kind}"
    if kind == "folder":
        frame.to_parquet(path, partition_cols=["shop"])
    elif kind == "parquet":
        frame.to_parquet(path, row_group_size=100)
    else:
        frame.to_csv(path, index=False)
    return str(path)


def spec_of(source: object, **changes: object) -> DataSpec:
    return DataSpec.parse({**DATA, "source": source, **changes})


def rows_of(spec: DataSpec, folder: Path) -> pd.DataFrame:
    return pd.read_parquet(ingest_table(spec, folder, folder).path)


@pytest.mark.parametrize("kind", KINDS)
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
def test_rows_of_every_kind_of_source_are_kept_as_pandas_would(frame, tmp_path, monkeypatch, kind, where, query):
    spec = spec_of(source_of(kind, frame, tmp_path, monkeypatch), where=where)
    pd.testing.assert_frame_equal(rows_of(spec, tmp_path), canonicalize(frame.query(query), spec))


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_may_play_a_role_of_its_own(frame, tmp_path, monkeypatch, kind):
    roles = {"static": ["number", "code"], "categorical": ["code"]}
    spec = spec_of(source_of(kind, frame, tmp_path, monkeypatch), **roles, where={"number": 2, "code": "02"})
    kept = rows_of(spec, tmp_path)
    assert set(kept["series"]) == {"south"} and set(kept["number"]) == {2.0} and set(kept["code"]) == {"02"}


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_an_id_with_zeros_before_it_is_no_number(frame, tmp_path, monkeypatch, kind):
    source = source_of(kind, frame, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="no row has 2 in column 'code', which data.where asks for. Did you mean '02'?"):
        ingest_table(spec_of(source, where={"code": 2}), tmp_path, tmp_path)
    assert set(rows_of(spec_of(source, where={"code": "02"}), tmp_path)["series"]) == {"south"}


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_truths_are_kept_however_they_are_written(frame, tmp_path, monkeypatch, kind):
    source = source_of(kind, frame, tmp_path, monkeypatch)
    for value in (True, "True", "true"):
        assert set(rows_of(spec_of(source, where={"open": value}), tmp_path)["series"]) == {"south", "west"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
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
def test_values_are_the_same_by_text_or_as_numbers(one, other, same):
    assert (comparison_key(one) == comparison_key(other)) is same


def test_a_row_without_a_value_is_never_kept():
    chosen = RowFilter({"shop": ("nan", "None", "x")})
    assert chosen.mask(pd.DataFrame({"shop": [None, np.nan, "x", " "]})).tolist() == [False, False, True, False]


@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there_is_told(frame, tmp_path, monkeypatch, kind):
    source = source_of(kind, frame, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="column 'shops' of data.where is not there. Did you mean 'shop'?"):
        ingest_table(spec_of(source, where={"shops": "north"}), tmp_path, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_value_that_no_row_has_is_told_with_the_nearest_one_there_is(frame, tmp_path, monkeypatch, kind):
    spec = spec_of(source_of(kind, frame, tmp_path, monkeypatch), where={"shop": ["north", "sooth"]})
    with pytest.raises(DataError, match="no row has 'sooth' in column 'shop', .* Did you mean 'south'?"):
        ingest_table(spec, tmp_path, tmp_path)
    assert not list(tmp_path.glob("table-*")) and not list(tmp_path.glob(".ingest-*"))


def test_values_that_never_come_together_are_told(frame, tmp_path, monkeypatch):
    spec = spec_of(source_of("csv", frame, tmp_path, monkeypatch), where={"shop": "north", "number": 2})
    with pytest.raises(DataError, match="no row has what data.where asks for in shop and number at once"):
        ingest_table(spec, tmp_path, tmp_path)


def test_wide_tables_have_no_rows_to_choose(frame):
    with pytest.raises(ConfigError, match="`where` chooses rows by a column, and `wide` makes series of columns"):
        spec_of("-", series=[], wide="all", where=NORTH)


def test_each_choice_has_a_table_of_its_own(frame, tmp_path, monkeypatch):
    source = source_of("csv", frame, tmp_path, monkeypatch)
    tables = [ingest_table(spec_of(source, where={"shop": shop}), tmp_path, tmp_path) for shop in ("north", "south")]
    again = ingest_table(spec_of(source, where=NORTH), tmp_path, tmp_path)
    assert tables[0].sha256 != tables[1].sha256 and again == tables[0]


@pytest.mark.parametrize("kind", ["csv", "parquet", "folder"])
def test_a_message_names_the_row_of_the_file(frame, tmp_path, monkeypatch, kind):
    """Rows and whole row groups before it are left out, and count all the same."""
    frame = frame.astype({"sales": object})
    frame.loc[250, "sales"] = "much"
    frame["sales"] = frame["sales"].astype("str")
    spec = spec_of(source_of(kind, frame, tmp_path, monkeypatch), where={"shop": "west"})
    row = 251 if kind != "folder" else 251 - 2 * 96
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
    for kind, most in (("parquet", 200), ("folder", 96)):  # of 288 rows; row groups of 100
        read.clear()
        ingest_table(spec_of(source_of(kind, frame, tmp_path, monkeypatch), where=NORTH), tmp_path, tmp_path)
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
def test_statistics_leave_out_only_what_can_hold_no_such_value(low, high, value, may):
    assert may_contain(low, high, {comparison_key(value): value}) is may


def test_text_that_differs_from_file_to_file_in_type_is_one_value(tmp_path):
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
    assert len(rows_of(spec, tmp_path)) == 3


# --- Segments


@pytest.mark.parametrize("kind", KINDS)
def test_segments_are_the_values_that_come_together(frame, tmp_path, monkeypatch, kind):
    source = source_of(kind, frame, tmp_path, monkeypatch)
    assert find_segments(spec_of(source, partition_by="shop"), tmp_path, tmp_path) == (
        ("north",),
        ("south",),
        ("west",),
    )
    both = spec_of(source, partition_by=["number", "shop"], where={"shop": ["south", "west"]})
    assert find_segments(both, tmp_path, tmp_path) == (("2", "south"), ("3", "west"))


def test_segments_are_read_once(frame, tmp_path, monkeypatch):
    spec = spec_of(source_of("parquet", frame, tmp_path, monkeypatch), partition_by="shop")
    found = find_segments(spec, tmp_path, tmp_path)
    monkeypatch.setattr(Source, "chunks", lambda *_, **__: pytest.fail("read again"))
    assert find_segments(spec, tmp_path, tmp_path) == found


@pytest.mark.parametrize("kind", KINDS)
def test_a_row_of_no_segment_is_told_unless_it_is_left_out(frame, tmp_path, monkeypatch, kind):
    frame.loc[frame["shop"] == "west", "code"] = None
    source = source_of(kind, frame, tmp_path, monkeypatch)
    with pytest.raises(DataError, match="column 'code' of data.partition_by is empty or NA in 96 rows"):
        find_segments(spec_of(source, partition_by="code"), tmp_path, tmp_path)
    named = spec_of(source, partition_by="code", where={"code": ["01", "02"]})
    assert find_segments(named, tmp_path, tmp_path) == (("01",), ("02",))


def test_a_partition_column_that_is_not_there_is_told(frame, tmp_path, monkeypatch):
    spec = spec_of(source_of("parquet", frame, tmp_path, monkeypatch), partition_by="shops")
    with pytest.raises(DataError, match="column 'shops' of data.partition_by is not there. Did you mean 'shop'?"):
        find_segments(spec, tmp_path, tmp_path)


def test_partitioned_data_are_not_read_as_one_table(frame, tmp_path, monkeypatch):
    spec = spec_of(source_of("csv", frame, tmp_path, monkeypatch), partition_by="shop")
    with pytest.raises(ConfigError, match="data.partition_by makes a model for each segment, and this is about one"):
        ingest_table(spec, tmp_path, tmp_path)


@pytest.mark.parametrize("column", ["time", "sales"])
def test_times_and_targets_are_no_segments(column):
    with pytest.raises(ConfigError, match=f"`partition_by` names segments, but '{column}' is the time or a target"):
        spec_of("shops.csv", partition_by=column)


def test_a_column_of_lists_is_told_by_its_name():
    with pytest.raises(DataError, match="column 'tags': holds lists or mappings"):
        comparison_codes(pd.Series([["a"], ["b"]], name="tags"))
