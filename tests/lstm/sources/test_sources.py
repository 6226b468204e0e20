import gzip
import hashlib
import importlib
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import create_engine

from lstm.config.data import DataSpec
from lstm.errors import DataError
from lstm.sources.catalogue import CATALOGUE
from lstm.sources.source import Source, open_source

ROLES = {"time": "time", "series": "shop", "target": "sales"}
SMALL = "time,shop,sales\n2024-01-01T00:00Z,007,1.5\n2024-01-01T01:00Z,007,2.5\n"
SECRET = "geheim"  # must appear nowhere


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LSTM_DATA_DIR", raising=False)
    return tmp_path


def open_table(source: object, **more: object) -> Source:
    return open_source(DataSpec.parse({**ROLES, "source": source, **more}), Path("downloads"))


def read(source: object, text: tuple[str, ...] = ("time", "shop"), **more: object) -> pd.DataFrame:
    return pd.concat(open_table(source, **more).chunks(None, text), ignore_index=True)


def error_message(source: object, **more: object) -> str:
    """Return the message of the error: one line without a secret, and without a cause that would print one."""
    with pytest.raises(DataError) as caught:
        read(source, **more)
    message = str(caught.value)
    assert "\n" not in message and SECRET not in message
    assert (caught.value.__cause__ is None and caught.value.__suppress_context__) or caught.value.__context__ is None
    return message


def write(path: str, content: str | bytes | pd.DataFrame) -> Path:
    where = Path(path)
    where.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pd.DataFrame):
        content.to_parquet(where)
    else:
        where.write_bytes(content.encode() if isinstance(content, str) else content)
    return where


def sha256(content: str | bytes) -> str:
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


# --- one file


@pytest.mark.parametrize("name", ["a.csv", "A.CSV", "a.csv.gz", "A.Csv.GZ", "a.parquet", "A.PARQUET"])
def test_each_format_holds_the_same_table_in_any_case_of_its_extension(name):
    frame = pd.DataFrame({"time": ["2024-01-01", "2024-01-02"], "shop": ["007", "é"], "sales": [1.5, np.nan]})
    text = frame.to_csv(index=False)
    lower = name.lower()
    write(name, frame if lower.endswith("parquet") else gzip.compress(text.encode()) if lower.endswith("gz") else text)
    pd.testing.assert_frame_equal(read(name), frame, check_dtype=False)
    assert open_table(name).name == name


def test_a_source_knows_its_columns_and_the_hash_of_its_bytes():
    write("data/a.csv", SMALL)
    source = open_table("data/a.csv")
    assert (source.name, source.columns(), source.sha256) == ("a.csv", ["time", "shop", "sales"], sha256(SMALL))


def test_only_the_requested_columns_are_read_and_unknown_ones_are_ignored():
    write("a.csv", SMALL)
    write("a.parquet", pd.read_csv("a.csv"))
    for name in ("a.csv", "a.parquet"):
        (chunk,) = open_table(name).chunks(["sales", "gone", "time"])
        assert list(chunk.columns) == ["time", "sales"]


def test_ids_of_a_csv_stay_text():
    write("a.csv", SMALL)
    assert read("a.csv")["shop"].tolist() == ["007", "007"]
    assert read("a.csv", text=())["shop"].tolist() == [7, 7]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_the_separator_is_detected_after_a_byte_order_mark(separator):
    text = SMALL.replace(",", separator)
    write("a.csv", b"\xef\xbb\xbf" + text.encode())
    assert open_table("a.csv").columns() == ["time", "shop", "sales"]
    assert read("a.csv")["sales"].tolist() == [1.5, 2.5]


def test_the_separator_is_the_one_that_finds_the_time_column():
    write("a.csv", 'time;"sales, in EUR, and, so, on"\n2024-01-01;1\n')
    assert open_table("a.csv").columns() == ["time", "sales, in EUR, and, so, on"]


def test_a_separator_that_is_given_is_not_guessed():
    write("a.csv", "time;x,sales\n1;2,3\n")
    assert open_table("a.csv", csv={"separator": ","}).columns() == ["time;x", "sales"]


def test_a_decimal_comma_is_read():
    write("a.csv", '"time";"shop";"sales"\n2024-01-01;1;"1,5"\n2024-01-02;1;-2,25\n')
    assert read("a.csv", csv={"decimal": ","})["sales"].tolist() == [1.5, -2.25]


def test_quoted_headers_may_hold_separators_and_line_ends():
    write("a.csv", '\n"time","shop, or\nplace",sales\n1,2,3\n')
    assert open_table("a.csv").columns() == ["time", "shop, or\nplace", "sales"]
    assert read("a.csv")["sales"].tolist() == [3]


def test_separators_at_the_end_of_each_row_add_no_column():
    write("a.csv", "time,sales\n1,2,\n3,4,\n")
    assert read("a.csv")["sales"].tolist() == [2, 4]


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_without_rows_is_one_empty_frame_with_its_columns(name):
    frame = pd.DataFrame({"time": pd.Series(dtype="str"), "sales": pd.Series(dtype="float64")})
    write(name, frame if name.endswith("parquet") else "time,sales\n")
    (chunk,) = open_table(name).chunks(["sales"])
    assert (len(chunk), list(chunk.columns)) == (0, ["sales"])


def test_parquet_keeps_time_zones_and_drops_the_unnamed_index_of_pandas():
    times = pd.date_range("2024-03-30", periods=48, freq="h", tz="Europe/Berlin")
    frame = pd.DataFrame({"time": times, "sales": range(48)}).iloc[::2]
    write("plain.parquet", frame)
    write("index.parquet", frame.set_index("time"))
    assert open_table("plain.parquet").columns() == ["time", "sales"]
    for name in ("plain.parquet", "index.parquet"):
        assert read(name)["time"].tolist() == times[::2].tolist()
        assert str(read(name)["time"].dt.tz) == "Europe/Berlin"


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_chunks_have_at_most_the_requested_rows_and_together_the_table(name):
    frame = pd.DataFrame({"time": np.arange(200_000), "sales": np.arange(200_000) / 8})
    if name.endswith("parquet"):
        pq.write_table(pa.Table.from_pandas(frame), name, row_group_size=33_000)
    else:
        frame.to_csv(name, index=False)
    chunks = list(open_table(name).chunks(None, rows=70_000))
    assert max(map(len, chunks)) <= 70_000
    assert all(chunk.index[0] == 0 for chunk in chunks)
    pd.testing.assert_frame_equal(pd.concat(chunks, ignore_index=True), frame)


def test_a_wide_table_comes_in_fewer_rows():
    write("a.csv", ",".join(f"c{i}" for i in range(2_000)) + "\n" + (",".join(["1"] * 2_000) + "\n") * 50)
    source = open_table("a.csv")
    assert sum(map(len, source.chunks(None))) == 50
    from lstm.sources.reading import limit_rows

    assert limit_rows(1_000_000, 2_000) == 10_000


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_parquet_of_one_huge_row_group_takes_a_bounded_amount_of_memory():
    rows = 6_000_000
    noise = np.random.default_rng(0).normal(size=rows)
    pq.write_table(pa.table({"time": np.arange(rows), "sales": noise}), "a.parquet", row_group_size=rows)
    script = """if True:
        from pathlib import Path
        from lstm.sources.source import open_source
        from lstm.config.data import DataSpec

        def peak():
            lines = Path("/proc/self/status").read_text().splitlines()
            return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024

        source = open_source(DataSpec(source="a.parquet", time="time", target="sales"), Path("downloads"))
        next(source.chunks(None, rows=1000))
        before, rows = peak(), 0
        for chunk in source.chunks(None, rows=100_000):
            rows += len(chunk)
        print(rows, peak() - before)
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    read_rows, megabytes = done.stdout.split()
    assert int(read_rows) == rows
    assert float(megabytes) < 48  # the table itself is 96


# --- bad files


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", "x", "a.txt: must end in .csv, .csv.gz or .parquet."),
        ("a.csv", "", "a.csv: is empty."),
        ("a.csv", "\n\n", "a.csv: holds no header."),
        ("a.csv", "time,sales\n1,\xe9\n".encode("latin-1"), "a.csv: is not UTF-8 text (byte 0xe9)."),
        ("a.csv", "time,\xe9\n1,2\n".encode("latin-1"), "a.csv: is not UTF-8 text (byte 0xe9)."),
        ("a.csv", "time,sales\n1,2\n".encode("utf-16"), "a.csv: is not UTF-8 text (byte 0xff)."),
        ("a.csv", gzip.compress(b"time,sales\n1,2\n", mtime=0), "a.csv: is gzip, not CSV."),
        ("a.csv", b"PAR1....PAR1", "a.csv: is Parquet, not CSV."),
        ("a.csv", b"PK\x03\x04....", "a.csv: is a ZIP archive, such as .xlsx, not CSV."),
        ("a.csv", "\n<!DOCTYPE html>\n<html>", "a.csv: is a web page or XML, not CSV."),
        ("a.csv", "time,sales\n1,2\n3,4,5\n", "a.csv: is no regular table (Expected 2 fields in line 3, saw 3)."),
        ("a.csv", "time,sales\n1,2,3\n4,5,6\n", "a.csv: a row has more fields than the header has names."),
        ("a.csv", 'time,sales\n"1,2\n', "a.csv: is no regular table (EOF inside string starting at row 1)."),
        ("a.csv", "time,sales,sales\n1,2,3\n", "a.csv: column 'sales' is there twice."),
        ("a.csv.gz", "time,sales\n1,2\n", "a.csv.gz: is plain text, not gzip."),
        (
            "a.csv.gz",
            gzip.compress(b"time,sales\n1,2\n", mtime=0)[:-9],
            "a.csv.gz: its gzip stream is cut off or damaged.",
        ),
        ("a.csv.gz", gzip.compress(b"<html>", mtime=0), "a.csv.gz: is a web page or XML, not CSV."),
        ("a.parquet", "", "a.parquet: is empty."),
        ("a.parquet", "time,sales\n", "a.parquet: is not Parquet."),
        ("a.parquet", b"PAR1....", "a.parquet: is cut off: a Parquet file without its end."),
        ("a.parquet", b"PAR1........PAR1", "a.parquet: can't be read as a table"),
    ],
)
def test_a_bad_file_is_refused_in_one_line_that_names_it(name, content, expected):
    write(name, content)
    assert error_message(name).startswith(expected)


def test_a_row_with_too_many_fields_is_refused_even_in_unused_columns():
    write("a.csv", "time,sales\n1,2\n3,4,5\n")
    with pytest.raises(DataError, match="Expected 2 fields in line 3, saw 3"):
        list(open_table("a.csv").chunks(["sales"]))


def test_a_truncated_gzip_stream_is_reported():
    noise = np.random.default_rng(0).integers(0, 10**9, 200_000)
    whole = gzip.compress(b"time\n" + "\n".join(map(str, noise)).encode())
    write("a.csv.gz", whole[: len(whole) // 2])
    chunks = open_table("a.csv.gz").chunks(None, rows=1000)
    assert len(next(chunks)) == 1000
    with pytest.raises(DataError, match="its gzip stream is cut off or damaged"):
        list(chunks)


@pytest.mark.parametrize(("checksums", "start"), [(False, 10), (True, 5_000)])
def test_damage_within_a_parquet_file_is_detected_by_structure_or_checksum(checksums, start):
    noise = np.random.default_rng(0).normal(size=50_000)
    pq.write_table(pa.table({"time": noise, "sales": noise}), "a.parquet", write_page_checksum=checksums)
    content = bytearray(Path("a.parquet").read_bytes())
    content[start : start + 100] = np.random.default_rng(1).bytes(100)
    Path("a.parquet").write_bytes(content)
    assert error_message("a.parquet").startswith("a.parquet: can't be read as a table")


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("shop.csv", "shop.csv: no such file, nor a data set of the catalogue. Did you mean 'shops.csv'?"),
        ("vic_electrcity", "Did you mean 'vic_electricity'?"),
        ("gone/q.csv", "Known: etth1, nyc_weather, vic_electricity."),
        ("q/*.csv", "q/*.csv: no file fits."),
    ],
)
def test_a_missing_file_is_reported_with_the_closest_one(source, expected):
    write("shops.csv", SMALL)
    assert expected in error_message(source)


# --- several files


def test_a_pattern_or_folder_is_read_in_the_order_of_the_paths():
    for month in ("02", "01", "10"):
        write(f"data/sub-{month}/part.csv", f"time,sales\n{month},{month}\n")
    write("data/_SUCCESS", "")
    write("data/README.md", "no table")
    for source in ("data", "data/**/*.csv", "data/sub-*/part.csv", str(Path("data").resolve())):
        assert read(source)["sales"].tolist() == [1, 2, 10]
    assert open_table("data").name == "data"
    assert open_table("data/*/*.csv").name == "data/*/*.csv"


def test_several_files_have_the_hash_of_their_sha256sum_list():
    write("data/b.csv", SMALL)
    write("data/a.csv", SMALL + "\n")
    lines = f"{sha256(SMALL + chr(10))}  a.csv\n{sha256(SMALL)}  b.csv\n"
    assert open_table("data").sha256 == open_table("data/*.csv").sha256 == sha256(lines)


def test_a_folder_that_is_a_column_changes_the_hash():
    frame = pd.DataFrame({"time": [1], "sales": [1.0]})
    write("one/year=2023/a.parquet", frame)
    write("two/year=2024/a.parquet", frame)
    assert open_table("one").sha256 != open_table("two").sha256


def test_files_may_order_their_columns_differently():
    write("data/a.csv", "time,sales\n1,2\n")
    write("data/b.csv", "sales;time\n4;3\n")
    assert read("data", text=()).to_dict("list") == {"time": [1, 3], "sales": [2, 4]}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ("time,sale\n", "b.csv: column 'sales' is not there, but is in a.csv. Give all files of data the same"),
        ("time,sales,extra\n", "b.csv: column 'extra' is there, but is not in a.csv."),
        ("", "b.csv: is empty."),
    ],
)
def test_of_several_files_the_bad_one_is_named(second, expected):
    write("data/a.csv", "time,sales\n1,2\n")
    write("data/b.csv", second)
    assert error_message("data").startswith(expected)


def test_a_folder_of_two_formats_or_without_tables_is_refused():
    write("both/a.csv", SMALL)
    write("both/b.parquet", pd.DataFrame({"time": [1]}))
    assert error_message("both").startswith("both: holds two kinds of files ('a.csv' and 'b.parquet').")
    write("none/README.md", "")
    assert error_message("none").startswith("none: holds no .csv, .csv.gz or .parquet file.")
    assert error_message("none/*").startswith("README.md: must end in .csv, .csv.gz or .parquet.")


def test_folders_of_a_partitioned_table_are_columns():
    frame = pd.DataFrame({"time": [1, 2], "sales": [1.0, 2.0]})
    for year in (2023, 2024):
        for shop in ("007", "a%2Fb"):
            write(f"data/year={year}/shop={shop}/part.parquet", frame)
    table = read("data")
    assert list(table.columns) == ["time", "sales", "year", "shop"]
    assert table["year"].tolist() == [2023] * 4 + [2024] * 4
    assert table["shop"].tolist() == ["007", "007", "a/b", "a/b"] * 2
    assert read("data/year=*/*/*.parquet").equals(table)
    assert open_table("data").columns() == ["time", "sales", "year", "shop"]
    (first, *_) = open_table("data").chunks(["year"])
    assert first.to_dict("list") == {"year": [2023, 2023]}


def test_an_id_in_a_folder_name_stays_text():
    for shop in ("007", "008"):
        write(f"data/shop={shop}/part.parquet", pd.DataFrame({"time": [1], "sales": [1.0]}))
    assert read("data")["shop"].tolist() == ["007", "008"]
    assert read("data", text=())["shop"].tolist() == [7, 8]


def test_files_in_folders_that_name_other_columns_are_refused():
    frame = pd.DataFrame({"time": [1], "sales": [1.0]})
    write("data/year=2023/a.parquet", frame)
    write("data/b.parquet", frame)
    assert "column 'year'" in error_message("data")
    Path("data/b.parquet").unlink()
    write("data/year=2023/a.parquet", frame.assign(year=2023))
    assert error_message("data").startswith("year=2023/a.parquet: column 'year' is there twice.")


def test_compatible_types_of_several_parquet_files_are_merged():
    write("data/a.parquet", pd.DataFrame({"shop": pd.Categorical(["x"]), "sales": [1]}))
    write("data/b.parquet", pd.DataFrame({"shop": ["y"], "sales": [1.5]}))
    write("data/c.parquet", pd.DataFrame({"shop": ["z"], "sales": [None]}))
    assert read("data").astype({"shop": str})["shop"].tolist() == ["x", "y", "z"]
    assert read("data")["sales"].tolist()[:2] == [1.0, 1.5]
    write("data/d.parquet", pd.DataFrame({"shop": ["z"], "sales": ["many"]}))
    assert error_message("data").startswith("d.parquet: column 'sales' holds large_string, but int64 in a.parquet.")


# --- pins


def test_pinned_content_is_read_and_other_content_refused_with_both_hashes():
    write("a.csv", SMALL)
    assert len(read("a.csv", sha256=sha256(SMALL))) == 2
    write("a.csv", SMALL + "x")
    message = error_message("a.csv", sha256=sha256(SMALL))
    assert f"its sha256 is {sha256(SMALL + 'x')}, but data.sha256 says {sha256(SMALL)}." in message


# --- the catalogue


def test_the_packaged_weather_has_the_expected_content():
    source = open_table("nyc_weather")
    (frame,) = source.chunks(["origin", "pressure"])
    assert (source.name, source.sha256) == ("nyc_weather", CATALOGUE["nyc_weather"].sha256)
    assert len(frame) == 26_115
    assert 0.10 < frame["pressure"].isna().mean() < 0.11


def test_every_entry_has_its_name_and_a_sha256():
    for name, entry in CATALOGUE.items():
        assert name == entry.name and len(entry.sha256) == 64
        assert entry.url is None or entry.url.startswith("https://")


def small_entry(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    entry = replace(CATALOGUE["etth1"], url=url, sha256=sha256(SMALL))
    monkeypatch.setitem(CATALOGUE, "etth1", entry)


def test_the_catalogue_reads_from_the_folder_in_the_environment(monkeypatch, folder):
    small_entry(monkeypatch, "http://127.0.0.1:9/ETTh1.csv")
    monkeypatch.setenv("LSTM_DATA_DIR", str(folder / "served"))
    assert "there is no file ETTh1.csv in LSTM_DATA_DIR=" in error_message("etth1")
    write("served/ETTh1.csv", SMALL)
    assert (len(read("etth1")), open_table("etth1").name) == (2, "etth1")
    write("served/ETTh1.csv", "other")
    assert f"its sha256 is {sha256('other')}, but the catalogue says {sha256(SMALL)}. Replace" in error_message("etth1")


def test_without_network_the_catalogue_names_the_folder_variable(monkeypatch):
    small_entry(monkeypatch, "http://127.0.0.1:9/ETTh1.csv")
    assert error_message("etth1") == (
        "etth1: no network: http://127.0.0.1:9/ETTh1.csv could not be reached (connection refused). "
        "Put ETTh1.csv into a folder and set LSTM_DATA_DIR to that folder."
    )
    assert list(Path("downloads").iterdir()) == []


def test_the_catalogue_is_downloaded_once(monkeypatch, web):
    small_entry(monkeypatch, f"{web.url}/ETTh1.csv")
    web.files["/ETTh1.csv"] = SMALL.encode()
    assert len(read("etth1")) == len(read("etth1")) == 2
    assert web.asked == ["/ETTh1.csv"]


# --- the network


class Web(ThreadingHTTPServer):
    """A server of `files` by path; `asked` are the paths that were fetched."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cut = False
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Web

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        content = self.server.files.get(self.path)
        self.send_response(403 if "sig=wrong" in self.path else 404 if content is None else 200)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write((content or b"")[: 5 if self.server.cut else None])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def web() -> Iterator[Web]:
    server = Web()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["shops.csv", "shops.csv.gz", "shops.parquet"])
def test_a_file_on_the_web_is_downloaded_each_time(web, name):
    frame = pd.DataFrame({"time": ["a", "b"], "shop": ["007", "8"], "sales": [1.5, 2.5]})
    for scale in (1, 2):
        scaled = frame.assign(sales=frame["sales"] * scale)
        text = scaled.to_csv(index=False).encode()
        web.files[f"/{name}"] = {"csv": text, "gz": gzip.compress(text), "parquet": scaled.to_parquet() or b""}[
            name.rsplit(".", 1)[1]
        ]
        source = open_table(f"{web.url}/{name}")
        assert (source.name, source.sha256) == (name, sha256(web.files[f"/{name}"]))
        assert read(f"{web.url}/{name}")["sales"].tolist() == [1.5 * scale, 2.5 * scale]


def test_a_pinned_file_is_downloaded_once_and_then_needs_no_network(web):
    web.files["/shops.csv"] = SMALL.encode()
    source, pin = f"{web.url}/shops.csv", sha256(SMALL)
    assert len(read(source, sha256=pin)) == 2
    web.files.clear()
    assert len(read(source, sha256=pin)) == 2
    assert web.asked == ["/shops.csv"]


def test_a_damaged_pinned_download_is_repeated(web):
    web.files["/shops.csv"] = SMALL.encode()
    pin = sha256(SMALL)
    read(f"{web.url}/shops.csv", sha256=pin)
    write(f"downloads/{pin}/table.csv", "damaged")
    assert len(read(f"{web.url}/shops.csv", sha256=pin)) == 2
    assert len(web.asked) == 2


def test_other_content_than_pinned_is_refused_and_not_stored(web):
    web.files["/shops.csv"] = b"other"
    message = error_message(f"{web.url}/shops.csv", sha256=sha256(SMALL))
    assert f"shops.csv: its sha256 is {sha256('other')}, but data.sha256 says {sha256(SMALL)}." in message
    assert list(Path("downloads").iterdir()) == []


def test_an_interrupted_download_leaves_no_file(web):
    web.files["/shops.csv"], web.cut = SMALL.encode(), True
    message = error_message(f"{web.url}/shops.csv")
    assert f"{web.url}/shops.csv could not be fetched (the connection broke off before the end of the file)" in message
    assert list(Path("downloads").iterdir()) == []


def test_a_download_that_cannot_be_stored_is_reported(web):
    web.files["/shops.csv"] = SMALL.encode()
    write("downloads", "a file where the folder should be")
    assert "shops.csv: can't be kept in downloads (File exists)." in error_message(f"{web.url}/shops.csv")


def test_concurrent_downloads_of_the_same_content_succeed(web):
    web.files["/shops.csv"] = SMALL.encode()
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(read, [f"{web.url}/shops.csv"] * 16))
    assert [len(table) for table in tables] == [2] * 16
    assert [path.name for path in Path("downloads").iterdir()] == [sha256(SMALL)]


def test_http_errors_are_reported_with_the_url_without_its_query(web):
    assert f"there is no file at {web.url}/gone.csv (not found)" in error_message(f"{web.url}/gone.csv?v={SECRET}")
    assert f"{web.url}/a.csv may not be read (HTTP status 403)" in error_message(
        f"{web.url}/a.csv?v={SECRET}&x=sig=wrong"
    )
    assert error_message(f"http://127.0.0.1:9/a.csv?v={SECRET}") == (
        "a.csv: no network: http://127.0.0.1:9/a.csv could not be reached (connection refused). "
        "Check the address and the network."
    )
    assert "(the name of the host is unknown)" in error_message("http://nowhere.invalid/a.csv")
    assert error_message(f"{web.url}/page").startswith("page: must end in .csv, .csv.gz or .parquet.")
    web.files["/login.csv"] = b"<html><body>Who are you?</body></html>"
    assert error_message(f"{web.url}/login.csv").startswith("login.csv: is a web page or XML, not CSV.")


def test_an_unknown_url_scheme_is_refused():
    assert "nothing can read the scheme of its address" in error_message("postgresql://host/table")


@pytest.mark.parametrize(
    ("scheme", "package", "fix"),
    [("s3", "s3fs", "pip install 'lstm[s3]'"), ("gs", "gcsfs", "pip install 'fsspec[gs]'")],
)
def test_a_missing_package_is_named_with_its_extra(monkeypatch, scheme, package, fix):
    monkeypatch.delitem(importlib.import_module("fsspec.registry")._registry, scheme, raising=False)
    monkeypatch.setitem(sys.modules, package, None)
    assert error_message(f"{scheme}://bucket/a.csv") == f"a.csv: {scheme}:// needs another package. Run: {fix}"


# --- addresses in the environment


def test_the_environment_may_hold_any_url_or_path(monkeypatch, web, folder):
    signed = f"/a.csv?sig={SECRET}%2F%3D"  # a signature must arrive as it was written
    web.files[signed] = SMALL.encode()
    monkeypatch.setenv("TABLE", f" {web.url}{signed}\n")
    assert (len(read("env:TABLE")), open_table("env:TABLE").name) == (2, "env:TABLE")
    write("data/a.csv", SMALL)
    for address in ("data/a.csv", "data", "data/*.csv", f"file://{folder}/data/a.csv", "nyc_weather"):
        monkeypatch.setenv("TABLE", address)
        assert len(read("env:TABLE")) >= 2


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (None, "env:TABLE: the variable is not set in the environment."),
        ("", "env:TABLE: the variable is not set in the environment."),
        (f"/{SECRET}/a.csv", "env:TABLE: names no file that is there (not shown)."),
        (f"{SECRET}/*.csv", "env:TABLE: no file fits."),
        (f"https://u:{SECRET}@127.0.0.1:9/a.csv?sig={SECRET}", "env:TABLE: no network: its address could not be"),
        (f"https://{SECRET}.invalid/{SECRET}.csv", "env:TABLE: no network: its address could not be reached"),
        (f"https://127.0.0.1/{SECRET}", "env:TABLE: must end in .csv, .csv.gz or .parquet."),
        (f"https://[{SECRET}/a.csv", "env:TABLE: its address could not be fetched (not an address)"),
        (f"{SECRET}://x/a.csv", "env:TABLE: nothing can read the scheme of its address."),
        (f"postgresql://u:{SECRET}@x/db", "for a database, write data.source: {sql: …, uri: env:NAME}."),
    ],
)
def test_a_url_in_the_environment_is_never_shown(monkeypatch, caplog, address, expected):
    monkeypatch.delenv("TABLE", raising=False) if address is None else monkeypatch.setenv("TABLE", address)
    assert expected in error_message("env:TABLE")
    assert SECRET not in caplog.text


def test_http_errors_of_a_secret_url_are_never_shown(monkeypatch, caplog, web):
    for path, expected in ((f"/{SECRET}.csv", "not found"), (f"/a.csv?k={SECRET}&x=sig=wrong", "HTTP status 403")):
        monkeypatch.setenv("TABLE", web.url + path)
        assert expected in error_message("env:TABLE")
        assert web.url not in error_message("env:TABLE")
    assert SECRET not in caplog.text


def test_a_bad_file_at_a_secret_path_is_named_by_its_variable(monkeypatch):
    for name, content in (("a.csv", b"\xe9"), ("a.parquet", b"PAR1........PAR1"), ("a.csv", b"")):
        monkeypatch.setenv("TABLE", str(write(f"{SECRET}/{name}", content).resolve()))
        assert error_message("env:TABLE").startswith("env:TABLE: ")


# --- queries


@pytest.fixture
def sql(folder, monkeypatch) -> dict[str, str]:
    """A source of 1000 rows in SQLite."""
    engine = create_engine(f"sqlite:///{folder}/{SECRET}")
    shops = pd.DataFrame({"time": range(1000), "shop": ["007", "8%"] * 500, "sales": np.arange(1000) / 4})
    with engine.begin() as connection:
        shops.to_sql("shops", connection, index=False)
    engine.dispose()
    monkeypatch.setenv("DB", f"sqlite:///{folder}/{SECRET}")
    return {"sql": "select * from shops order by time", "uri": "env:DB"}


def test_a_query_is_read_in_chunks(sql):
    source = open_table(sql)
    assert (source.name, source.sha256, source.columns()) == ("query on env:DB", None, ["time", "shop", "sales"])
    chunks = list(source.chunks(["sales", "time", "gone"], rows=300))
    assert [len(chunk) for chunk in chunks] == [300, 300, 300, 100]
    assert list(chunks[0].columns) == ["time", "sales"]
    assert pd.concat(chunks)["sales"].tolist() == (np.arange(1000) / 4).tolist()


def test_a_query_may_hold_percent_signs_and_colons(sql):
    assert len(read({**sql, "sql": "select * from shops where shop like '%\\%' escape '\\' and ' :x' <> ''"})) == 500


def test_a_query_without_rows_is_one_empty_frame(sql):
    (chunk,) = open_table({**sql, "sql": "select * from shops where sales < 0"}).chunks(["time", "sales"])
    assert (len(chunk), list(chunk.columns)) == (0, ["time", "sales"])


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "select * from nowhere",
            "query on env:DB: the database can't be reached or refuses (no such table: nowhere).",
        ),
        ("selec 1", 'near "selec": syntax error'),
        ("select time, time from shops", "query on env:DB: column 'time' is there twice."),
        ("delete from shops", "query on env:DB: the statement gives no rows. Write a SELECT."),
        (f"select * from {SECRET}", "(no such table: ***)"),
    ],
)
def test_a_bad_query_is_refused(sql, statement, expected):
    assert expected in error_message({**sql, "sql": statement})
    assert len(read(sql)) == 1000


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        (None, "env:DB: the variable is not set in the environment."),
        (SECRET, "the variable's value (not shown) is no database URL."),
        (f"nosql://u:{SECRET}@h/d", "SQLAlchemy knows no such database or driver"),
        (f"sqlite:////nowhere/{SECRET}.db", "there is no SQLite file where the variable says (not shown)"),
    ],
)
def test_a_bad_database_url_is_reported_but_not_shown(sql, monkeypatch, uri, expected):
    monkeypatch.delenv("DB") if uri is None else monkeypatch.setenv("DB", uri)
    assert expected in error_message(sql)


def test_the_driver_of_postgres_is_named_with_its_extra(sql, monkeypatch):
    monkeypatch.setenv("DB", f"postgresql://u:{SECRET}@127.0.0.1:9/d")
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "the database needs the package psycopg. Run: pip install 'lstm[postgres]'" in error_message(sql)


def test_a_query_cannot_be_pinned(sql):
    assert "data.sha256 can't pin a query" in error_message(sql, sha256=sha256(SMALL))


@pytest.mark.parametrize("password", [SECRET, "a", "p@ss w0rd/%", "%70w"])
def test_a_drivers_message_never_contains_the_password(password):
    from urllib.parse import quote, unquote

    from lstm.sources.queries import scrub_secrets

    for secret in (f"db://me:{quote(password, safe='')}@host:1/shop", f"db://host/shop?password={quote(password)}"):
        for text in (secret, f"login of me with {password} failed", f"xx{password}xx", quote(password, safe="")):
            message = scrub_secrets(RuntimeError(text), secret)
            assert message == "RuntimeError" or (password not in message and unquote(password) not in message)
