"""Shapes and types of a table that are accepted."""

from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa

from tests.bad_inputs.form import GOOD, PARQUET, SALES, Form, at
from tests.bad_inputs.tables import csv, parquet, saved, wide

PIVOTED = GOOD.pivot(index="time", columns="shop", values="sales").reset_index()
WIDE = "series: []\nwide: all"


SHAPES = (
    Form(
        "a long table: one row a series and time, in any order",
        "series: shop",
        {"sales.csv": csv(GOOD.sample(frac=1, random_state=0))},
    ),
    Form("one series", "series: []", {"sales.csv": csv(GOOD[:24])}, tuple(at(*SALES[:24], series="all"))),
    Form(
        "several id columns, joined by a /",
        "series: [weather, shop]",
        rows=tuple(
            (f"dry/{row[0]}", *row[1:])
            for shop, part in GOOD.groupby("shop")
            for row in at(*part["sales"], series=shop)
        ),
    ),
    Form(
        "series of different lengths",
        "",
        {"sales.csv": csv(GOOD[:26])},
        (*at(*SALES[:24]), *at(*SALES[24:26], series="south")),
    ),
    Form(
        "some rows of a table, by what a column holds",
        "where: {shop: south, area: [200, 300]}",
        {"sales.csv": csv(pd.concat([GOOD, GOOD[:1].assign(area=300, shop="south", time="2024-01-02T00:00Z")]))},
        (*at(*SALES[24:], series="south"), ("south", "2024-01-02T00:00", 10.5)),
    ),
    Form("a wide table: a column a series", WIDE, {"sales.csv": csv(PIVOTED)}),
    Form(
        "a wide table, some of its columns",
        "series: []\nwide: [north, south]",
        {"sales.csv": csv(PIVOTED.assign(note="?"))},
    ),
    Form(
        "a wide table with a covariate that all series share",
        f"{WIDE}\nknown: open",
        {"sales.csv": wide("2024-01-01T00:00Z,1,2,0", "2024-01-01T01:00Z,3,4,1", header="time,north,south,open")},
        (
            ("north", "2024-01-01T00:00", 1.0, 0.0),
            ("north", "2024-01-01T01:00", 3.0, 1.0),
            ("south", "2024-01-01T00:00", 2.0, 0.0),
            ("south", "2024-01-01T01:00", 4.0, 1.0),
        ),
    ),
    Form(
        "several targets",
        "target: [sales, visitors]",
        {"sales.csv": csv(GOOD[:2])},
        (("north", "2024-01-01T00:00", 10.5, 0.0), ("north", "2024-01-01T01:00", 11.5, 1.0)),
    ),
    Form(
        "covariates: measured, known ahead, and one value a series",
        "observed: visitors\nknown: weekday\nstatic: area",
        {"sales.csv": csv(GOOD[:2].assign(weekday=1))},
        (("north", "2024-01-01T00:00", 10.5, 0.0, 1.0, 100.0), ("north", "2024-01-01T01:00", 11.5, 1.0, 1.0, 100.0)),
    ),
    Form(
        "the index that pandas writes into Parquet, if it has a name",
        PARQUET,
        {"sales.parquet": saved(GOOD.set_index(["shop", "time"]))},
    ),
)

TYPES = (
    Form(
        "decimal numbers",
        PARQUET,
        {"sales.parquet": parquet(sales=[Decimal(str(value)) for value in SALES])},
    ),
    Form("numbers that are text (Parquet)", PARQUET, {"sales.parquet": parquet(sales=SALES.astype("str").tolist())}),
    Form("numbers of half precision", PARQUET, {"sales.parquet": parquet(sales=pa.array(SALES.astype("float16")))}),
    Form("numbers in a dictionary", PARQUET, {"sales.parquet": parquet(sales=pa.array(SALES).dictionary_encode())}),
    Form(
        "text as bytes, without a logical type",
        PARQUET,
        {
            "sales.parquet": parquet(
                shop=[shop.encode() for shop in GOOD["shop"]], time=[time.encode() for time in GOOD["time"]]
            )
        },
    ),
    Form(
        "truth values: 1 and 0",
        PARQUET,
        {"sales.parquet": saved(GOOD[:2].assign(sales=[True, False]))},
        tuple(at(1.0, 0.0)),
    ),
    Form(
        "nullable whole numbers",
        PARQUET,
        {"sales.parquet": saved(GOOD[:2].assign(sales=pd.array([7, None], "UInt8")))},
        tuple(at(7.0, None)),
    ),
    Form(
        "ids that are numbers, up to 64 bits",
        PARQUET,
        {"sales.parquet": saved(GOOD[:2].assign(shop=np.uint64(2**64 - 1)))},
        tuple(at(10.5, 11.5, series="18446744073709551615")),
    ),
)

CATEGORIES = (
    Form(
        "text as categories",
        "observed: weather\ncategorical: weather",
        {"sales.csv": csv(GOOD[:2])},
        (("north", "2024-01-01T00:00", 10.5, "dry"), ("north", "2024-01-01T01:00", 11.5, "dry")),
    ),
    Form(
        "numbers as categories: 3.0 is 3, 007 is not 7",
        "known: code\ncategorical: code",
        {"sales.csv": csv(GOOD[:2].assign(code=["007", "3.0"]))},
        (("north", "2024-01-01T00:00", 10.5, "007"), ("north", "2024-01-01T01:00", 11.5, "3")),
    ),
    Form(
        "a category a series",
        f"{PARQUET}\nstatic: kind\ncategorical: kind",
        {"sales.parquet": saved(GOOD[:1].assign(kind=pd.Categorical(["big"])))},
        (("north", "2024-01-01T00:00", 10.5, "big"),),
    ),
    Form(
        "a category that is missing",
        "observed: weather\ncategorical: weather",
        {"sales.csv": csv(GOOD[:1].assign(weather=""))},
        (("north", "2024-01-01T00:00", 10.5, None),),
    ),
)
