"""What the command meets behind the heavy imports, and what `lstm forecast` refuses."""

import numpy as np

from .case import FREQUENCY, NUMERIC, PASSWORD, QUERY, WINDOWLESS, Case
from .tables import cell, csv, database, frame, hours, query, stamps

# A query is not run twice, and so not before the flow runs.
QUERIES = (
    Case(
        "a database without an address",
        "env:SALES_DB: the variable is not set in the environment.",
        "Set it to the address of the data.",
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

# Ten days of good data, 24 steps of look-back and 6 of horizon, two days each of validation and test.
WINDOWS = (
    Case(
        "a horizon longer than a split",
        "split validation (2024-01-07T00:00:00 to 2024-01-09T00:00:00) holds no window of look-back 24 "
        "+ window.horizon 100 rows without a gap.",
        WINDOWLESS,
        sections={"window": {"horizon": 100}},
    ),
    Case(
        "a look-back longer than the data",
        "split train (2024-01-01T00:00:00 to 2024-01-07T00:00:00) holds no window of look-back 500 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        sections={"model": {"sequence_length": 500}},
    ),
    Case(
        "a season longer than the data",
        "split train (2024-01-01T00:00:00 to 2024-01-07T00:00:00) holds no window of look-back 500 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
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
        "split test (2024-01-10T22:00:00 to 2024-01-11T00:00:00) holds no window of look-back 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        sections={"split": {"validation": "2d", "test": "2h"}},
    ),
    Case(
        "a training span that is cut too short",
        "split train (2024-01-06T12:00:00 to 2024-01-07T00:00:00) holds no window of look-back 24 + "
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
        "gaps everywhere",
        "split train (2024-01-01T00:00:00 to 2024-01-06T13:00:00) holds no window of look-back 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        {"sales.csv": csv(frame(240).iloc[::12])},
    ),
    Case(
        "gaps that may not be filled",
        "split train (2024-01-01T00:00:00 to 2024-01-06T23:00:00) holds no window of look-back 24 + "
        "window.horizon 6 rows without a gap.",
        WINDOWLESS,
        {"sales.csv": csv(frame(240).iloc[::2])},
        {"missing": {"method": "none"}},
    ),
    Case(
        "splits in rows where rows are irregular",
        "split: 20 rows of an irregular series are no span of time.",
        "Use a duration such as 30d.",
        data={"frequency": "irregular"},
        sections={"split": {"validation": 20, "test": 20}},
    ),
    Case(
        "irregular rows farther apart than a gap",
        "split train (2024-01-01T00:00:00 to 2024-01-06T23:00:00) holds no window of look-back 24 + "
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
)

# A model of 24 steps of look-back and a horizon of 6, in the folder `model`.
FORECASTS = (
    Case(
        "a model that is not registered",
        "sales: there is no registered model 'sales', nor a folder of that name.",
        "Nothing is registered in … yet. Run: lstm train CONFIG",
        arguments=("forecast", "sales"),
    ),
    Case(
        "a folder without a model",
        "empty: holds no forecaster (forecaster.json: [Errno 2] No such file or directory: 'empty/forecaster.json').",
        "",
        {"empty/readme.txt": ""},
        arguments=("forecast", "./empty"),
    ),
    Case(
        "a history that is not there",
        "gone.csv: no such file, nor a data set of the catalogue.",
        "Known: etth1, nyc_weather, vic_electricity.",
        arguments=("forecast", "./model", "--data", "gone.csv"),
    ),
    Case(
        "a history that is no table",
        "new.txt: must end in .csv, .csv.gz or .parquet.",
        "Convert it, or rename it.",
        {"new.txt": "1"},
        arguments=("forecast", "./model", "--data", "new.txt"),
    ),
    Case(
        "a history with a password",
        "--data: key 'source': must not hold credentials, but got a URL with some (not shown): set it "
        "in the environment and write `source: env:NAME`.",
        "",
        arguments=("forecast", "./model", "--data", f"https://me:{PASSWORD}@example.org/new.csv"),
    ),
    Case(
        "a history without the target",
        "new.csv: column 'sales' is not there.",
        "Known: area, shop, time, visitors, weather.",
        {"new.csv": csv(frame().drop(columns="sales"))},
        arguments=("forecast", "./model", "--data", "new.csv"),
    ),
    Case(
        "a history with text among its numbers",
        "new.csv: column 'sales', row 2: 'many' is no number.",
        NUMERIC,
        {"new.csv": cell(2, sales="many")},
        arguments=("forecast", "./model", "--data", "new.csv"),
    ),
    Case(
        "a history of another rhythm",
        "new.csv: row 25: time 2024-01-02T00:30:00+00:00 is off the grid of data.frequency=1h, counted "
        "from 2024-01-01T00:00:00+00:00.",
        FREQUENCY,
        {"new.csv": stamps(*hours(), "2024-01-02T00:30Z")},
        arguments=("forecast", "./model", "--data", "new.csv"),
    ),
    Case(
        "a history that is too short",
        "series 'north': a forecast needs 24 rows of history without a gap over 6h, but there are 12 "
        "before 2024-01-01T12:00:00Z.",
        "Give a longer history.",
        {"new.csv": stamps(*hours(12))},
        arguments=("forecast", "./model", "--data", "new.csv"),
    ),
    Case(
        "a series that the model does not know",
        "series 'west' was not there in training.",
        "Known: north, south.",
        {"new.csv": stamps(*hours(), shop="west")},
        arguments=("forecast", "./model", "--data", "new.csv"),
    ),
    Case(
        "a horizon that was not trained for",
        "`1 <= horizon <= 6` must hold, but got 99.",
        "For a longer horizon train with a larger window.horizon.",
        arguments=("forecast", "./model", "--data", "sales.csv", "--horizon", "99"),
    ),
    Case(
        "levels that are no numbers",
        "--levels '80,wide': must be whole percents by comma, each once, such as 80,95.",
        "",
        arguments=("forecast", "./model", "--levels", "80,wide"),
    ),
    Case(
        "a level that is no percent",
        "levels must be whole percents from 1 to 99, but got 100.",
        "",
        arguments=("forecast", "./model", "--data", "sales.csv", "--levels", "100"),
    ),
    Case(
        "a file of a kind that can't be written",
        "--out made.xlsx: must end in .parquet or .csv.",
        "",
        arguments=("forecast", "./model", "--out", "made.xlsx"),
    ),
    Case(
        "a folder for a file",
        "--out made.csv: is a folder.",
        "Name a file in it.",
        {"made.csv/readme.txt": ""},
        arguments=("forecast", "./model", "--out", "made.csv"),
    ),
    Case(
        "a place that can't be written",
        "--out made/new.csv: can't be written (File exists).",
        "",
        {"made": "a file"},
        arguments=("forecast", "./model", "--data", "sales.csv", "--out", "made/new.csv"),
    ),
)
