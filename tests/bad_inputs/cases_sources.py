"""Sources that are refused."""

from tests.bad_inputs.case import EXTENSION, NUMERIC, ONCE, PASSWORD, Case
from tests.bad_inputs.tables import column, csv, frame, lines, parquet, repeated, zipped

SOURCES = (
    Case(
        "a file that is not there",
        "gone.csv: no such file, nor a data set of the catalogue.",
        "Known: etth1, nyc_weather, vic_electricity.",
        data={"source": "gone.csv"},
    ),
    Case(
        "a name that is nearly right",
        "sale.csv: no such file, nor a data set of the catalogue.",
        "Did you mean 'sales.csv'?",
        data={"source": "sale.csv"},
    ),
    Case("a pattern that fits nothing", "*.parquet: no file fits.", "Check the path.", data={"source": "*.parquet"}),
    Case(
        "a folder without tables",
        "shops: holds no .csv, .csv.gz or .parquet file.",
        "Check the path.",
        {"shops/readme.txt": "Nothing yet."},
        {"source": "shops"},
    ),
    Case(
        "a folder of two kinds",
        "shops: holds two kinds of files ('a.csv' and 'b.parquet').",
        "Name one kind by a pattern: *.csv.",
        {"shops/a.csv": csv(), "shops/b.parquet": parquet()},
        {"source": "shops"},
    ),
    Case(
        "files with other columns",
        "b.csv: column 'sales' is not there, but is in a.csv.",
        "Give all files of shops the same columns.",
        {"shops/a.csv": csv(), "shops/b.csv": csv(frame().rename(columns={"sales": "sold"}))},
        {"source": "shops"},
    ),
    Case(
        "files with other types",
        "b.parquet: column 'sales' holds string, but double in a.parquet.",
        "Write it in one type.",
        {"shops/a.parquet": parquet(), "shops/b.parquet": parquet(sales=repeated("many"))},
        {"source": "shops"},
    ),
    Case(
        "files that overlap",
        "shops: rows 1 and 49: series 'north' has 2024-01-01T00:00:00+00:00 twice.",
        ONCE,
        {"shops/a.csv": csv(), "shops/b.csv": csv()},
        {"source": "shops"},
    ),
    Case(
        "a workbook",
        "sales.xlsx: must end in .csv, .csv.gz or .parquet.",
        "Convert it, or rename it.",
        {"sales.xlsx": b"PK\x03\x04"},
        {"source": "sales.xlsx"},
    ),
    Case(
        "a workbook called .csv",
        "sales.csv: is a ZIP archive, such as .xlsx, not CSV.",
        EXTENSION,
        {"sales.csv": b"PK\x03\x04"},
    ),
    Case("a file of zero bytes", "sales.csv: is empty.", "Name a file with data.", {"sales.csv": ""}),
    Case(
        "blank lines alone", "sales.csv: holds no header.", "Name the columns in the first line.", {"sales.csv": "\n\n"}
    ),
    Case("a header alone", "sales.csv: holds no rows.", "Name a source with data.", {"sales.csv": "time,shop,sales\n"}),
    Case(
        "a row with more fields",
        "sales.csv: is no regular table (Expected 3 fields in line 3, saw 4).",
        "Mend that line, or set data.csv.separator.",
        {"sales.csv": lines("2024-01-01T00:00Z,a,1", "2024-01-01T01:00Z,a,2,3")},
    ),
    Case(
        "rows with more fields than names",
        "sales.csv: a row has more fields than the header has names.",
        "Name every column, or set data.csv.separator.",
        {"sales.csv": lines("2024-01-01T00:00Z,a,1,2")},
    ),
    Case(
        "a quote that never ends",
        "sales.csv: is no regular table (EOF inside string starting at row 1).",
        "Mend that line, or set data.csv.separator.",
        {"sales.csv": lines('"2024-01-01T00:00Z,a,1')},
    ),
    Case(
        "text that is not UTF-8",
        "sales.csv: is not UTF-8 text (byte 0xe9).",
        "Save it as UTF-8.",
        {"sales.csv": column(shop="caf\xe9").encode("latin-1")},
    ),
    Case(
        "a web page called .csv",
        "sales.csv: is a web page or XML, not CSV.",
        "Fetch the file itself (is a login needed?).",
        {"sales.csv": "<!DOCTYPE html><title>Log in</title>"},
    ),
    Case("gzip called .csv", "sales.csv: is gzip, not CSV.", EXTENSION, {"sales.csv": zipped(csv())}),
    Case(
        "plain text called .csv.gz",
        "sales.csv.gz: is plain text, not gzip.",
        EXTENSION,
        {"sales.csv.gz": csv()},
        {"source": "sales.csv.gz"},
    ),
    Case(
        "a CSV that is cut off",
        "sales.csv: is cut off: its last line has 2 of 6 fields and no end.",
        "Copy or make it again.",
        {"sales.csv": csv() + "2024-04-09T23:00:00Z,sou"},
    ),
    Case(
        "a bad row in the second file of a folder",
        "b.csv: column 'sales', row 1: 'many' is no number.",
        NUMERIC,
        {"year/a.csv": csv(), "year/b.csv": column(sales="many")},
        {"source": "year"},
    ),
    Case(
        "gzip that is cut off",
        "sales.csv.gz: its gzip stream is cut off or damaged.",
        "Copy or make it again.",
        {"sales.csv.gz": zipped(csv(), cut=12)},
        {"source": "sales.csv.gz"},
    ),
    Case(
        "Parquet that is cut off",
        "sales.parquet: is cut off: a Parquet file without its end.",
        "Copy or make it again.",
        {"sales.parquet": parquet(keep=0.5)},
        {"source": "sales.parquet"},
    ),
    Case(
        "text called .parquet",
        "sales.parquet: is not Parquet.",
        EXTENSION,
        {"sales.parquet": csv()},
        {"source": "sales.parquet"},
    ),
    Case(
        "another content than the pinned one",
        "sales.csv: its sha256 is …, but data.sha256 says "
        "0000000000000000000000000000000000000000000000000000000000000000.",
        "Restore the pinned content, or set data.sha256 to the new one if it is meant.",
        data={"sha256": "0" * 64},
    ),
    Case(
        "a variable that is not set",
        "env:SALES_URL: the variable is not set in the environment.",
        "Set it to the address of the data or database.",
        data={"source": "env:SALES_URL"},
    ),
    Case(
        "a variable that names no file",
        "env:SALES_URL: names no file that is there (not shown).",
        "Check the variable's value.",
        data={"source": "env:SALES_URL"},
        environment={"SALES_URL": f"/{PASSWORD}/sales.csv"},
    ),
    Case(
        "a host that does not answer",
        "sales.csv: no network: http://127.0.0.1:9/sales.csv could not be reached (connection refused).",
        "Check the address and the network.",
        data={"source": "http://127.0.0.1:9/sales.csv"},
    ),
    Case(
        "a scheme that nothing reads",
        "sales.db: nothing can read the scheme of its address.",
        "Use a path, https:// or s3://; for a database, write data.source: {sql: …, uri: env:NAME}.",
        data={"source": "sqlite:///sales.db"},
    ),
    Case(
        "a data set that its folder does not hold",
        "etth1: there is no file ETTh1.csv in LSTM_DATA_DIR=sets.",
        "Put it there, or unset LSTM_DATA_DIR to download it from "
        "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/main/ETT-small/ETTh1.csv.",
        data={"source": "etth1"},
        environment={"LSTM_DATA_DIR": "sets"},
    ),
)
