"""What `lstm forecast` refuses."""

from tests.bad_inputs.case import FREQUENCY, NUMERIC, PASSWORD, Case
from tests.bad_inputs.tables import cell, csv, frame, hours, stamps

# A model of 24 steps of lookback and a horizon of 6, in the folder `model`.
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
        "a horizon far beyond the trained one",
        "`1 <= horizon <= 600` (100 times the trained 6) must hold, but got 999.",
        "For a longer horizon train with a larger window.horizon.",
        arguments=("forecast", "./model", "--data", "sales.csv", "--horizon", "999"),
    ),
    Case(
        "levels that are no numbers",
        "--levels '80,wide': must be different whole percents separated by commas, such as 80,95.",
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
