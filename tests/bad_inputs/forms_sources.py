"""Sources that are accepted, and the ways in which a CSV may be written."""

import hashlib
from typing import Any

from tests.bad_inputs.form import GOOD, PARQUET, SALES, Form, at
from tests.bad_inputs.tables import csv, database, frame, lines, parquet, saved, stamps, zipped

PINNED = hashlib.sha256(csv().encode()).hexdigest()


def named(**columns: Any) -> str:
    """The good table with other columns, as CSV."""
    return csv(GOOD.assign(**columns))


SOURCES = (
    Form("a CSV file", "source: sales.csv"),
    Form("a gzipped CSV file", "source: sales.csv.gz", {"sales.csv.gz": zipped(csv())}),
    Form("a Parquet file", PARQUET, {"sales.parquet": parquet()}),
    Form(
        "a folder, its files in the order of their paths, what is no table left out",
        "source: shops",
        {"shops/b.csv": csv(GOOD[24:]), "shops/a.csv": csv(GOOD[:24]), "shops/_SUCCESS": "", "shops/readme.txt": ""},
    ),
    Form(
        "files with their columns in another order, or another separator",
        "source: shops",
        {
            "shops/a.csv": csv(GOOD[:24]),
            "shops/b.csv": csv(GOOD[24:][["area", "sales", "shop", "time", "visitors", "weather"]], ";"),
        },
    ),
    Form(
        "a pattern",
        "source: shops/20*/*.csv",
        {"shops/2023/a.csv": csv(GOOD[:30]), "shops/2024/a.csv": csv(GOOD[30:]), "shops/old/a.csv": "nothing"},
    ),
    Form(
        "a partitioned folder: shop=north is a column (Parquet)",
        "source: shops",
        {f"shops/shop={shop}/part.parquet": saved(rows.drop(columns="shop")) for shop, rows in GOOD.groupby("shop")},
    ),
    Form(
        "Parquet files whose types meet: whole numbers and fractions",
        "source: shops",
        {
            "shops/a.parquet": saved(GOOD[:24]),
            "shops/b.parquet": saved(frame().assign(shop="east", sales=range(48))[:2]),
        },
        (*at(0.0, 1.0, series="east"), *at(*SALES[:24])),
    ),
    Form(
        "a data set of the catalogue",
        "source: nyc_weather\ntime: time_hour\nseries: origin\ntarget: temp",
        size=(26115, 3),
    ),
    Form("a URL (http, https)", "source: {web}/sales.csv"),
    Form("an address in the environment", "source: env:SALES_URL", environment={"SALES_URL": "{web}/sales.csv"}),
    Form("a path in the environment", "source: env:SALES_PATH", environment={"SALES_PATH": "sales.csv"}),
    Form(
        "a query",
        'source: {sql: "select * from sales", uri: env:SALES_DB}',
        {"sales.db": database},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
    Form("a content that is pinned", f"source: sales.csv\nsha256: {PINNED}"),
)

DIALECTS = (
    Form("semicolons, found in the header", "", {"sales.csv": csv(separator=";")}),
    Form("tabs", "", {"sales.csv": csv(separator="\t")}),
    Form("bars", "", {"sales.csv": csv(separator="|")}),
    Form("a separator that is given", 'csv: {separator: ";"}', {"sales.csv": csv(separator=";")}),
    Form(
        "a decimal comma",
        "csv: {decimal: ','}",
        {"sales.csv": csv(GOOD.assign(sales=SALES.map(lambda value: str(value).replace(".", ","))), ";")},
    ),
    Form(
        "a byte order mark and Windows line ends",
        "",
        {"sales.csv": b"\xef\xbb\xbf" + csv().replace("\n", "\r\n").encode()},
    ),
    Form("blank lines", "", {"sales.csv": csv().replace("\n", "\n\n")}),
    Form("quoted text with separators and line ends", "", {"sales.csv": named(weather="dry,\nwindy")}),
    Form("a separator at the end of each row", "", {"sales.csv": csv().replace("\n", ",\n").replace(",\n", "\n", 1)}),
    Form("columns without a role: they are not checked", "", {"sales.csv": named(note="n/a?", other=float("inf"))}),
    Form(
        "a missing value: empty, NA, N/A, n/a, NaN, null, NULL, None or #N/A",
        "",
        {
            "sales.csv": stamps(*(time for time, _ in zip(GOOD["time"], range(2), strict=False)))
            + "".join(
                f"2024-01-01T{hour:02d}:00Z,north,{text}\n"
                for hour, text in enumerate(("", "NA", "N/A", "n/a", "NaN", "null", "NULL", "None", "#N/A"), start=2)
            )
        },
        tuple(at(0.0, 1.0, *[None] * 9)),
    ),
    Form(
        "a row that ends early: the rest of it is missing",
        "",
        {"sales.csv": lines("2024-01-01T00:00Z,north,1", "2024-01-01T01:00Z,north")},
        tuple(at(1.0, None)),
    ),
    Form(
        "true and false: 1 and 0",
        "",
        {"sales.csv": lines("2024-01-01T00:00Z,north,true", "2024-01-01T01:00Z,north,FALSE")},
        tuple(at(1.0, 0.0)),
    ),
    Form(
        "numbers with spaces around them, or an exponent",
        "",
        {"sales.csv": lines("2024-01-01T00:00Z,north, 1 ", "2024-01-01T01:00Z,north,1.5e3")},
        tuple(at(1.0, 1500.0)),
    ),
    Form(
        "ids of digits stay text: 007 is not 7",
        "",
        {"sales.csv": stamps(*GOOD["time"][:2], shop="007")},
        tuple(at(0.0, 1.0, series="007")),
    ),
)
