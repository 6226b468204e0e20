"""The forecast log behaves the same for all formats."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
import sqlalchemy as sql

from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError, InputError, StoreError
from tasks.forecast_store.log import open_log
from tests.support.postgres import PASSWORD, QUOTED, postgres_server

SLOT = pd.Timestamp("2024-04-08T10:00", tz="UTC")
HOUR = pd.Timedelta("1h")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres_server() as address:
        yield address


@pytest.fixture(params=["parquet", "csv", "sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def kind(request, home, tmp_path, monkeypatch):
    """The section `forecast.log` of each back end, with an empty log."""
    if request.param in ("parquet", "csv"):
        return {"format": request.param}
    if request.param == "sqlite":
        monkeypatch.setenv("LOG_URI", f"sqlite:///{tmp_path}/log.db")
        return {"format": "sql", "uri": "env:LOG_URI"}
    monkeypatch.setenv("LOG_URI", request.getfixturevalue("server"))
    table = f"log_{os.urandom(4).hex()}"
    return {"format": "sql", "uri": "env:LOG_URI", "table": table}


def config(log, name="shops", targets=("sales",), levels=(80, 95)):
    data = {"source": "-", "time": "time", "series": "shop", "target": list(targets)}
    values = {"name": name, "data": data, "evaluate": {"levels": list(levels)}, "forecast": {"log": log}}
    return PipelineConfig.parse(values, where="test")


def rows(slot=SLOT, levels=(80, 95), targets=(), steps=3, version="shops/1", shift=0.0):
    """Return forecasts like those of `Forecaster.forecast_table`, with misleading names of series."""
    names = ("007", "NA", "north/süd, 'a'")
    times = slot + HOUR * np.arange(1, steps + 1)
    rows = pd.DataFrame(
        [
            (name, time, *((target,) if targets else ()))
            for name in names
            for time in times
            for target in targets or ("",)
        ],
        columns=["series", "time", *(["target"] if targets else [])],
    )
    rows = rows.astype({"series": "str", "time": "datetime64[us, UTC]"} | ({"target": "str"} if targets else {}))
    rows["forecast"] = np.random.default_rng(int(slot.timestamp())).normal(size=len(rows)) / 3 + shift
    for level in levels:
        rows[f"lo-{level}"], rows[f"hi-{level}"] = rows["forecast"] - level / 7, rows["forecast"] + level / 7
    return rows.assign(model_version=version, run="").astype({"model_version": "str", "run": "str"})


def written(frame, slot=SLOT):
    """Return rows with the types that a log returns."""
    issued = pd.Series(slot, index=frame.index, dtype="datetime64[us, UTC]")
    frame = frame.assign(issued_at=issued)
    last = ["issued_at", "model_version", "run"]
    return frame[[*(name for name in frame if name not in last), *last]]


def test_rows_are_read_as_they_were_written_to_the_bit(kind):
    log = open_log(config(kind))
    log.write(SLOT, rows())
    pd.testing.assert_frame_equal(log.read(), written(rows()), check_exact=True)


def test_several_targets_keep_their_order(kind):
    log = open_log(config(kind, targets=("sales", "costs")))
    frame = rows(targets=("sales", "costs"))
    log.write(SLOT, frame)
    pd.testing.assert_frame_equal(log.read(), written(frame), check_exact=True)


def test_an_empty_log_has_no_slots_and_rows_of_the_same_kind(kind):
    log = open_log(config(kind))
    assert log.slots() == []
    empty = log.read()
    assert len(empty) == 0 and log.drop(SLOT) == 0
    assert empty.dtypes.to_dict() == written(rows()).dtypes.to_dict()


def test_slots_are_sorted_and_can_start_at_a_time(kind):
    log = open_log(config(kind))
    for number in (2, 0, 1):
        log.write(SLOT + number * HOUR, rows(SLOT + number * HOUR))
    assert log.slots() == [SLOT, SLOT + HOUR, SLOT + 2 * HOUR]
    assert log.slots(SLOT + HOUR) == [SLOT + HOUR, SLOT + 2 * HOUR]
    assert {str(slot.tz) for slot in log.slots()} == {"UTC"}


def test_a_span_is_read_without_its_end(kind):
    log = open_log(config(kind))
    parts = [written(rows(SLOT + number * HOUR), SLOT + number * HOUR) for number in range(4)]
    for number, part in enumerate(parts):
        log.write(SLOT + number * HOUR, part)
    read = log.read(SLOT + HOUR, SLOT + 3 * HOUR)
    pd.testing.assert_frame_equal(read, pd.concat(parts[1:3], ignore_index=True), check_exact=True)
    assert len(log.read(SLOT + 4 * HOUR)) == 0


def test_a_second_write_replaces_the_rows_of_a_slot(kind):
    log = open_log(config(kind))
    log.write(SLOT, rows(steps=5, version="shops/1"))
    log.write(SLOT, rows(steps=3, version="shops/2", shift=1.0))
    expected = written(rows(steps=3, version="shops/2", shift=1.0))
    pd.testing.assert_frame_equal(log.read(), expected, check_exact=True)


def test_two_writers_of_one_slot_leave_one_copy(kind):
    log = open_log(config(kind))
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda _: log.write(SLOT, rows()), range(6)))
    pd.testing.assert_frame_equal(log.read(), written(rows()), check_exact=True)


def test_models_have_separate_logs(kind):
    first, second = open_log(config(kind, name="shops")), open_log(config(kind, name="shops.north"))
    first.write(SLOT, rows())
    assert second.slots() == [] and len(second.read()) == 0
    second.write(SLOT + HOUR, rows(SLOT + HOUR))
    assert second.drop(SLOT + 9 * HOUR) == 1
    assert first.slots() == [SLOT] and second.slots() == []


def test_old_slots_are_dropped_and_no_others(kind):
    log = open_log(config(kind))
    for number in range(4):
        log.write(SLOT + number * HOUR, rows(SLOT + number * HOUR))
    assert log.drop(SLOT + 2 * HOUR) == 2
    assert log.slots() == [SLOT + 2 * HOUR, SLOT + 3 * HOUR]
    assert log.drop(SLOT + 2 * HOUR) == 0


def test_levels_may_change_from_one_slot_to_the_next(kind):
    open_log(config(kind, levels=(80,))).write(SLOT, rows(levels=(80,)))
    log = open_log(config(kind, levels=(50, 80)))
    log.write(SLOT + HOUR, rows(SLOT + HOUR, levels=(50, 80)))
    read = log.read()
    assert {"lo-50", "hi-50", "lo-80", "hi-80"} <= set(read)
    assert read.groupby("issued_at")["lo-50"].count().tolist() == [0, 9]
    assert read["lo-80"].notna().all()


def test_the_same_time_in_another_zone_is_the_same_slot(kind):
    log = open_log(config(kind))
    log.write(SLOT.tz_convert("America/New_York"), rows())
    assert log.slots(SLOT.tz_convert("Asia/Tokyo")) == [SLOT]


@pytest.mark.parametrize("slot", [SLOT.tz_localize(None), SLOT + pd.Timedelta("500ms")])
def test_a_slot_has_whole_seconds_and_a_time_zone(kind, slot):
    with pytest.raises(ConfigError, match="whole seconds, with a time zone"):
        open_log(config(kind)).write(slot, rows())


def test_files_are_named_by_slot_and_other_files_are_ignored(home):
    log = open_log(config({"format": "parquet"}))
    log.write(SLOT, rows())
    folder = home / "forecasts" / "shops"
    assert [path.name for path in folder.iterdir()] == ["20240408T100000Z.parquet"]
    for name in (".20240408T110000Z.17.parquet", "notes.parquet", "20240408T120000Z.csv"):
        (folder / name).write_text("")
    assert log.slots() == [SLOT] and len(log.read()) == 9


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_a_damaged_file_is_named(home, format):
    log = open_log(config({"format": format}))
    log.write(SLOT, rows())
    path = home / "forecasts" / "shops" / f"20240408T100000Z.{format}"
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(StoreError, match=rf"20240408T100000Z.{format}: is damaged \(.+ run `forecast` with its `slot`"):
        log.read()


@pytest.mark.parametrize("column", ["forecast", "time", "issued_at"])
def test_a_file_with_text_for_a_number_or_time_is_named(home, column):
    open_log(config({"format": "parquet"})).write(SLOT, rows())
    path = home / "forecasts" / "shops" / "20240408T100000Z.parquet"
    pd.read_parquet(path).assign(**{column: "garbage"}).to_parquet(path)
    with pytest.raises(StoreError, match=r"20240408T100000Z.parquet: is damaged \("):
        open_log(config({"format": "parquet"})).read()


def test_a_file_without_forecasts_is_damaged_and_one_without_a_time_is_ignored(home):
    log = open_log(config({"format": "parquet"}))
    log.write(SLOT, rows())
    path = home / "forecasts" / "shops" / "20240408T100000Z.parquet"
    pd.read_parquet(path).assign(**{"lo-x": 1.0}).to_parquet(path)
    (path.parent / "99999999T999999Z.parquet").write_text("")
    assert log.slots() == [SLOT] and "lo-x" not in log.read()
    pd.read_parquet(path).drop(columns="forecast").to_parquet(path)
    with pytest.raises(StoreError, match="no column 'forecast'"):
        log.read()


@pytest.mark.parametrize("column", ["issued_at", "forecast"])
def test_an_invalid_row_of_a_table_is_an_error(home, tmp_path, monkeypatch, column):
    monkeypatch.setenv("LOG_URI", f"sqlite:///{tmp_path}/log.db")
    log = open_log(config({"format": "sql", "uri": "env:LOG_URI"}))
    log.write(SLOT, rows())
    engine = sql.create_engine(os.environ["LOG_URI"])
    with engine.begin() as connection:
        connection.exec_driver_sql(f"update lstm_forecasts set {column} = 'garbage'")
    engine.dispose()
    with pytest.raises(StoreError, match="table 'lstm_forecasts' of env:LOG_URI has an invalid row"):
        log.read()


def test_a_table_without_the_columns_of_the_log_is_refused(home, tmp_path, monkeypatch):
    monkeypatch.setenv("LOG_URI", f"sqlite:///{tmp_path}/log.db")
    engine = sql.create_engine(os.environ["LOG_URI"])
    with engine.begin() as connection:
        connection.exec_driver_sql("create table orders (name text, amount real)")
    engine.dispose()
    log = open_log(config({"format": "sql", "uri": "env:LOG_URI", "table": "orders"}))
    for ask in (log.slots, log.read, lambda: log.write(SLOT, rows())):
        with pytest.raises(StoreError, match="table 'orders' has no column 'issued_at', so it is no forecast log"):
            ask()


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, "env:LOG_URI: the variable is not set"),
        ("no address", "the variable's value (not shown) is no database URL"),
        ("sqlite:////nowhere/at/all.db", "can't be reached, or refuses (unable to open database file)"),
        (f"oracle://u:{QUOTED}@host/db", "can't be used"),
        (f"nosuch://u:{QUOTED}@host/db", "can't be used"),
    ],
)
def test_a_bad_address_is_an_error_without_its_password(home, monkeypatch, address, expected):
    if address is None:
        monkeypatch.delenv("LOG_URI", raising=False)
    else:
        monkeypatch.setenv("LOG_URI", address)
    with pytest.raises(InputError) as caught:
        open_log(config({"format": "sql", "uri": "env:LOG_URI"})).slots()
    message = str(caught.value)
    assert expected in message and "\n" not in message
    assert PASSWORD not in message and QUOTED not in message and "nowhere" not in message


@pytest.mark.service
def test_an_unreachable_server_is_an_error_without_its_password(home, monkeypatch, server):
    log = open_log(config({"format": "sql", "uri": "env:LOG_URI"}))
    for address in (server.replace(QUOTED, "wrong-word"), "postgresql://reader:wrong-word@127.0.0.1:1/postgres"):
        monkeypatch.setenv("LOG_URI", address)
        with pytest.raises(StoreError, match="can't be reached, or refuses") as caught:
            log.slots()
        assert "wrong-word" not in str(caught.value) and "127.0.0.1" not in str(caught.value)


@pytest.mark.service
def test_times_have_a_time_zone_in_postgres(home, monkeypatch, server):
    monkeypatch.setenv("LOG_URI", server)
    open_log(config({"format": "sql", "uri": "env:LOG_URI", "table": "typed"})).write(SLOT, rows())
    engine = sql.create_engine(server)
    with engine.connect() as connection:
        kinds = dict(
            connection.exec_driver_sql(
                "select column_name, data_type from information_schema.columns where table_name = 'typed'"
            ).all()
        )
        (epoch,) = connection.exec_driver_sql("select distinct extract(epoch from issued_at) from typed").scalars()
    engine.dispose()
    assert kinds["issued_at"] == kinds["time"] == "timestamp with time zone"
    assert kinds["forecast"] == kinds["lo-80"] == "double precision"
    assert float(epoch) == SLOT.timestamp()
