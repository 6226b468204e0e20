"""Bad queries, splits and windows."""

import numpy as np

from tests.bad_inputs.case import LOGARITHM, PASSWORD, QUERY, WINDOWLESS, Case
from tests.bad_inputs.tables import csv, database, frame, query, stamps

# The flow alone runs a query: a check before it would run the query twice.
QUERIES = (
    Case(
        "a database without an address",
        "env:SALES_DB: the variable is not set in the environment.",
        "Set it to the address of the data or database.",
        data={"source": query("select * from sales")},
    ),
    Case(
        "an address of a database that is none",
        "query on env:SALES_DB: the variable's value (not shown) is no database URL.",
        "Write postgresql://user:password@host/database.",
        data={"source": query("select * from sales")},
        environment={"SALES_DB": PASSWORD},
    ),
    Case(
        "an SQLite file that is not there",
        "query on env:SALES_DB: there is no SQLite file where the variable says (not shown).",
        "Check its value.",
        data={"source": query("select * from sales")},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
    Case(
        "an SQLite file in no folder",
        "query on env:SALES_DB: there is no SQLite file where the variable says (not shown).",
        "Check its value.",
        data={"source": query("select * from sales")},
        environment={"SALES_DB": "sqlite:///gone/sales.db"},
    ),
    Case(
        "a database that does not answer",
        "query on env:SALES_DB: the database can't be reached or refuses (connection failed: …).",
        QUERY,
        data={"source": query("select * from sales")},
        environment={"SALES_DB": f"postgresql://me:{PASSWORD}@127.0.0.1:9/shop"},
    ),
    Case(
        "a query on a table that is not there",
        "query on env:SALES_DB: the database can't be reached or refuses (no such table: sold).",
        QUERY,
        {"sales.db": database},
        {"source": query("select * from sold")},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
    Case(
        "a query with an error",
        'query on env:SALES_DB: the database can\'t be reached or refuses (near "selec": syntax error).',
        QUERY,
        {"sales.db": database},
        {"source": query("selec * from sales")},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
    Case(
        "a query that gives no rows",
        "query on env:SALES_DB: the statement gives no rows.",
        "Write a SELECT.",
        {"sales.db": database},
        {"source": query("create table other (time text)")},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
    Case(
        "a query with a column twice",
        "query on env:SALES_DB: column 'sales' is there twice.",
        "Give each column its own name.",
        {"sales.db": database},
        {"source": query("select *, sales from sales")},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
    Case(
        "a query, pinned",
        "query on env:SALES_DB: data.sha256 can't pin a query, whose rows change with the database.",
        "Leave it out, or write the rows to a file and pin that.",
        {"sales.db": database},
        {"source": query("select * from sales"), "sha256": "0" * 64},
        environment={"SALES_DB": "sqlite:///sales.db"},
    ),
)

# Ten days of good data, a lookback of 24 steps, a horizon of 6, two days each of validation and test.
# The length of the data tells these before a Prefect server starts.
SPLITS = (
    Case(
        "a horizon longer than a split",
        "split validation (2024-01-07T00:00:00 to 2024-01-09T00:00:00) holds no window of lookback 24 "
        "+ window.horizon 100 rows without a gap.",
        WINDOWLESS,
        sections={"window": {"horizon": 100}},
    ),
    Case(
        "a lookback longer than the data",
        "split train (2024-01-01T00:00:00 to 2024-01-07T00:00:00) holds no window of lookback 500 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        sections={"model": {"sequence_length": 500}},
    ),
    Case(
        "a season longer than the data",
        "split train (2024-01-01T00:00:00 to 2024-01-07T00:00:00) holds no window of lookback 500 "
        "(evaluate.season, which the seasonal naive repeats) + window.horizon 6 rows without a gap.",
        "Lower evaluate.season (1: none), shorten the horizon, lengthen the split, or bring more data.",
        sections={"evaluate": {"season": 500}},
    ),
    Case(
        "splits longer than the data",
        "split: validation=60d and test=2d leave nothing to train on: the data span 2024-01-01T00:00:00 "
        "to 2024-01-11T00:00:00.",
        "Make them shorter, or bring more data.",
        sections={"split": {"validation": "60d", "test": "2d"}},
    ),
    Case(
        "a split shorter than the horizon",
        "split test (2024-01-10T22:00:00 to 2024-01-11T00:00:00) holds no window of lookback 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        sections={"split": {"validation": "2d", "test": "2h"}},
    ),
    Case(
        "a training span that is cut too short",
        "split train (2024-01-06T12:00:00 to 2024-01-07T00:00:00) holds no window of lookback 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        sections={"split": {"validation": "2d", "test": "2d", "train": 12}},
    ),
    Case(
        "one row",
        "split: validation=2d and test=2d leave nothing to train on: the data span 2024-01-01T00:00:00 "
        "to 2024-01-01T01:00:00.",
        "Make them shorter, or bring more data.",
        {"sales.csv": stamps("2024-01-01T00:00Z")},
    ),
    Case(
        "splits in rows where rows are irregular",
        "split: 20 rows of an irregular series are no span of time.",
        "Use a duration such as 30d.",
        data={"frequency": "irregular"},
        sections={"split": {"validation": 20, "test": 20}},
    ),
    Case(
        "row counts longer than the data",
        "split: train=200, validation=48 and test=48 are 296 rows, but the data hold 240, from 2024-01-01T00:00:00 to "
        "2024-01-10T23:00:00.",
        "Make them shorter, or bring more data.",
        sections={"split": {"train": 200, "validation": 48, "test": 48}},
    ),
)

# Only the panel tells these: where the gaps are, and which values are missing.
PANELS = (
    Case(
        "gaps everywhere",
        "split train (2024-01-01T00:00:00 to 2024-01-06T13:00:00) holds no window of lookback 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        {"sales.csv": csv(frame(240).iloc[::12])},
    ),
    Case(
        "gaps that may not be filled",
        "split train (2024-01-01T00:00:00 to 2024-01-06T23:00:00) holds no window of lookback 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        {"sales.csv": csv(frame(240).iloc[::2])},
        {"missing": {"method": "none"}},
    ),
    Case(
        "irregular rows farther apart than a gap",
        "split train (2024-01-01T00:00:00 to 2024-01-06T23:00:00) holds no window of lookback 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        data={"frequency": "irregular", "missing": {"max_gap": "10min"}},
    ),
    Case(
        "a covariate without a value to train on",
        "column 'visitors' has no value in the training span.",
        "Leave the column out, or shorten split.validation.",
        {"sales.csv": csv(frame(240).assign(visitors=np.nan))},
        {"observed": "visitors"},
    ),
    Case(
        "a target that is measured too late",
        "column 'sales' has no value in the training span.",
        "Leave the column out, or shorten split.validation.",
        {"sales.csv": csv(frame(240).assign(sales=lambda table: table["sales"].where(table["time"] > "2024-01-09")))},
    ),
    Case(
        "a zero where logarithms are modelled",
        "series 'north': target 'sales' must be above 0 where normalize.log is true, but is 0 at 2024-01-01T01:00:00Z.",
        LOGARITHM,
        {"sales.csv": csv(frame(240).assign(sales=lambda table: table["sales"].where(table.index != 1, 0.0)))},
        sections={"normalize": {"log": True}},
    ),
    Case(
        "a value below zero in the test span where logarithms are modelled",
        "series 'south': target 'sales' must be above 0 where normalize.log is true, but is -2.5 at "
        "2024-01-10T23:00:00Z.",
        LOGARITHM,
        {"sales.csv": csv(frame(240).assign(sales=lambda table: table["sales"].where(table.index != 479, -2.5)))},
        sections={"normalize": {"log": True}},
    ),
)
