"""Columns and types that are refused."""

import datetime

from tests.bad_inputs.case import ID, NUMERIC, Case
from tests.bad_inputs.tables import cell, column, csv, frame, lines, parquet, repeated, wide

COLUMNS = (
    Case(
        "a column that is not there",
        "sales.csv: column 'turnover' is not there.",
        "Known: area, sales, shop, time, visitors, weather.",
        data={"target": "turnover"},
    ),
    Case(
        "a column whose name is nearly right",
        "sales.csv: column 'Sales' is not there.",
        "Did you mean 'sales'?",
        data={"target": "Sales"},
    ),
    Case(
        "a header with spaces",
        "sales.csv: column 'shop' is not there.",
        "Did you mean ' shop'?",
        {"sales.csv": lines("2024-01-01T00:00Z,a,1", header="time, shop, sales")},
    ),
    Case(
        "a table without a header",
        "sales.csv: column 'time' is not there.",
        "Known: 1, 2024-01-01T00:00Z, a.",
        {"sales.csv": "2024-01-01T00:00Z,a,1\n2024-01-01T01:00Z,a,2\n"},
    ),
    Case(
        "a column twice",
        "sales.csv: column 'sales' is there twice.",
        "Give each column its own name.",
        {"sales.csv": lines("2024-01-01T00:00Z,a,1,2", header="time,shop,sales,sales")},
    ),
    Case(
        "text in a target",
        "sales.csv: column 'sales', row 2: 'many' is no number.",
        NUMERIC,
        {"sales.csv": cell(2, sales="many")},
    ),
    Case(
        "a dash for a missing value",
        "sales.csv: column 'sales', row 2: '-' is no number.",
        NUMERIC,
        {"sales.csv": cell(2, sales="-")},
    ),
    Case(
        "a unit behind a number",
        "sales.csv: column 'sales', row 2: '12 %' is no number.",
        NUMERIC,
        {"sales.csv": cell(2, sales="12 %")},
    ),
    Case(
        "an error of a spreadsheet",
        "sales.csv: column 'sales', row 2: '#DIV/0!' is no number.",
        NUMERIC,
        {"sales.csv": cell(2, sales="#DIV/0!")},
    ),
    Case(
        "text in a covariate",
        "sales.csv: column 'weather', row 1: 'dry' is no number.",
        "Leave a missing value empty; if the column holds categories, set data.categorical: [weather].",
        data={"observed": "weather"},
    ),
    Case(
        "text in a static column",
        "sales.csv: column 'weather', row 1: 'dry' is no number.",
        "Leave a missing value empty; if the column holds categories, set data.categorical: [weather].",
        data={"static": "weather"},
    ),
    Case(
        "yes and no as numbers",
        "sales.csv: column 'visitors', row 1: 'yes' is no number.",
        "Leave a missing value empty; if the column holds categories, set data.categorical: [visitors].",
        {"sales.csv": column(visitors="yes")},
        {"observed": "visitors"},
    ),
    Case(
        "an infinite value",
        "sales.csv: column 'sales', row 2: inf is not finite.",
        "Leave a missing value empty.",
        {"sales.csv": cell(2, sales="inf")},
    ),
    Case(
        "a value that nobody measured",
        "sales.csv: column 'sales', row 2: 1e+40 is over 1e30: no measurement.",
        "Leave a missing value empty.",
        {"sales.csv": cell(2, sales="1e40")},
    ),
    Case(
        "a number of hundreds of digits",
        "sales.csv: column 'sales', row 1: 999… is not finite.",
        "Leave a missing value empty.",
        {"sales.csv": column(sales="9" * 400)},
    ),
    Case(
        "a decimal comma",
        "sales.csv: column 'sales', row 2: '1,5' is no number.",
        "If the comma is a decimal sign, set data.csv.decimal: ','.",
        {"sales.csv": cell(2, sales="1,5")},
    ),
    Case(
        "commas between thousands",
        "sales.csv: column 'sales', row 2: '1,234,567' is no number.",
        "Write thousands without a sign between them.",
        {"sales.csv": cell(2, sales="1,234,567")},
    ),
    Case(
        "a comma that may be either",
        "sales.csv: column 'sales', row 2: '1,234' is no number.",
        "If the comma is a decimal sign, set data.csv.decimal: ','. Write thousands without a sign between them.",
        {"sales.csv": cell(2, sales="1,234")},
    ),
    Case(
        "points where the comma is the decimal sign",
        "sales.csv: column 'sales', row 1: '1.234' is no number.",
        "Write thousands without a sign between them, or set data.csv.decimal: '.'.",
        {"sales.csv": column(sales="1.234")},
        {"csv": {"decimal": ","}},
    ),
    Case(
        "dates as a covariate",
        "sales.csv: column 'visitors', row 1: '2024-01-01T00:00Z' is no number.",
        "Leave a missing value empty; if the column holds categories, set data.categorical: [visitors].",
        {"sales.csv": csv(frame().assign(visitors=frame()["time"]))},
        {"observed": "visitors"},
    ),
    Case(
        "typed dates as a covariate",
        "sales.parquet: column 'visitors', row 1: 2024-01-01T00:00:00 is no number.",
        "Leave the column out, or make a number of it, such as hours.",
        {"sales.parquet": parquet(visitors=repeated(datetime.datetime(2024, 1, 1)))},
        {"source": "sales.parquet", "observed": "visitors"},
    ),
    Case(
        "lengths of time as a target",
        "sales.parquet: column 'sales', row 1: P0DT1H0M0S is no number.",
        "Leave the column out, or make a number of it, such as hours.",
        {"sales.parquet": parquet(sales=repeated(datetime.timedelta(hours=1)))},
        {"source": "sales.parquet"},
    ),
    Case(
        "lists in a column",
        "sales.parquet: column 'sales', row 1: array([1.]) is no number.",
        NUMERIC,
        {"sales.parquet": parquet(sales=repeated([1.0]))},
        {"source": "sales.parquet"},
    ),
    Case(
        "a target without any value",
        "sales.csv: target 'sales' has no value in any row.",
        "Name another target.",
        {"sales.csv": column(sales="")},
    ),
    Case("an empty id", "sales.csv: column 'shop', row 2: the id is empty or NA.", ID, {"sales.csv": cell(2, shop="")}),
    Case(
        "an id of spaces",
        "sales.csv: column 'shop', row 2: the id is empty or NA.",
        ID,
        {"sales.csv": cell(2, shop="  ")},
    ),
    Case(
        "an id that is read as missing",
        "sales.csv: column 'shop', row 1: the id is empty or NA.",
        ID,
        {"sales.csv": column(shop="NA")},
    ),
    Case(
        "ids that can't be told apart",
        "sales.csv: columns city, shop: ('a/b', 'c') and ('a', 'b/c') would both be the series 'a/b/c'.",
        "Write ids without a /.",
        {"sales.csv": lines("2024-01-01T00:00Z,a/b,c,1", "2024-01-01T00:00Z,a,b/c,2", header="time,city,shop,sales")},
        {"series": ["city", "shop"]},
    ),
    Case(
        "a static column that changes",
        "sales.csv: static column 'area' changes within series 'north' at row 5.",
        "Name it as known or observed instead.",
        {"sales.csv": cell(5, area=7)},
        {"static": "area"},
    ),
    Case(
        "a static column with a hole",
        "sales.csv: static column 'area' changes within series 'north' at row 5.",
        "Name it as known or observed instead.",
        {"sales.csv": cell(5, area="")},
        {"static": "area"},
    ),
    Case(
        "a wide table without a series",
        "sales.csv: data.wide: all finds no column beside 'time' and the covariates.",
        "Name a table that has a column a series.",
        {"sales.csv": wide("2024-01-01T00:00Z", header="time")},
        {"wide": "all", "series": None},
    ),
    Case(
        "a wide table with its index",
        "sales.csv: a column has no name ('Unnamed: 0'), and data.wide: all makes each one a series.",
        "Write the table without its index, or list the series in data.wide.",
        {"sales.csv": wide("0,2024-01-01T00:00Z,1,2", header=",time,north,south")},
        {"wide": "all", "series": None},
    ),
    Case(
        "a wide table with a note",
        "sales.csv: column 'note', row 1: 'rain' is no number.",
        NUMERIC,
        {"sales.csv": wide("2024-01-01T00:00Z,1,rain", header="time,north,note")},
        {"wide": "all", "series": None},
    ),
    Case(
        "a wide table without a named series",
        "sales.csv: column 'west' is not there.",
        "Known: north, south, time.",
        {"sales.csv": wide("2024-01-01T00:00Z,1,2")},
        {"wide": ["north", "west"], "series": None},
    ),
    Case(
        "a name among thousands",
        "sales.csv: column 'shop' is not there.",
        "Known: c0, c1, c10, …",
        {
            "sales.csv": wide(
                ",".join(["2024-01-01T00:00Z", *["1"] * 2000]),
                header=",".join(["time", *(f"c{i}" for i in range(2000))]),
            )
        },
    ),
)
