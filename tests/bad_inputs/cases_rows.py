"""Choices of rows, and segments, that are refused."""

from tests.bad_inputs.case import Case
from tests.bad_inputs.tables import csv, frame

ROWS = (
    Case(
        "a choice by a column that is not there",
        "sales.csv: column 'shops' of data.where is not there.",
        "Did you mean 'shop'?",
        data={"where": {"shops": "north"}},
    ),
    Case(
        "a choice of a value that no row has",
        "sales.csv: no row has 'nort' in column 'shop', which data.where asks for.",
        "Did you mean 'north'?",
        data={"where": {"shop": ["south", "nort"]}},
    ),
    Case(
        "a choice of a number of which there are others only",
        "sales.csv: no row has 7 in column 'area', which data.where asks for.",
        "Known: 100, 200.",
        data={"where": {"area": 7}},
    ),
    Case(
        "a choice of values that never come together",
        "sales.csv: no row has what data.where asks for in area and shop at once.",
        "Ask for less.",
        data={"where": {"shop": "north", "area": 200}},
    ),
    Case(
        "a choice without a value",
        "sales.yaml: key 'data.where.shop': must be a text, a number or true or false, or a list of them (put a date "
        "in quotes), but got None.",
        "",
        data={"where": {"shop": None}},
    ),
    Case(
        "a choice among no values",
        "sales.yaml: key 'data.where.shop': must be a text, a number or true or false, or a list of them (put a date "
        "in quotes).",
        "",
        data={"where": {"shop": []}},
    ),
    Case(
        "a choice of rows of a wide table",
        "sales.yaml: key 'data': `where` chooses rows by a column, and `wide` makes series of columns:",
        "list the columns to keep in `wide`.",
        data={"wide": "all", "series": None, "where": {"shop": "north"}},
    ),
    Case(
        "segments by a column that is not there",
        "sales.csv: column 'region' of data.partition_by is not there.",
        "Known: area, sales, shop, time, visitors, weather.",
        data={"partition_by": "region"},
    ),
    Case(
        "segments by a column that is named twice",
        "sales.yaml: key 'data': `partition_by` must name each column once, but 'shop' is named twice.",
        "",
        data={"partition_by": ["shop", "shop"]},
    ),
    Case(
        "rows of no segment",
        "sales.csv: column 'zone' of data.partition_by is empty or NA in 24 rows.",
        "Give every row its segment, or name the segments to train: data.where: {zone: […]}.",
        {"sales.csv": csv(frame().assign(zone=["a"] * 24 + [None] * 24))},
        {"partition_by": "zone"},
    ),
    Case(
        "a backtest of partitioned data",
        "data.partition_by makes a model for each segment, and this is about one:",
        "name it, such as data.where: {shop: VALUE}, and leave data.partition_by out (--set data.partition_by=[]).",
        data={"partition_by": "shop"},
        arguments=("backtest", "sales.yaml"),
    ),
)
