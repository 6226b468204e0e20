"""Configurations that are refused before anything is read."""

from tests.bad_inputs.case import PASSWORD, Case

CONFIGURATION = (
    Case(
        "a section that does not exist",
        "sales.yaml: unknown key 'modle'.",
        "Did you mean 'model'?",
        sections={"modle": {}},
    ),
    Case(
        "a key that does not exist",
        "sales.yaml: unknown key 'data.timezon'.",
        "Did you mean 'timezone'?",
        data={"timezon": "UTC"},
    ),
    Case(
        "a key of a nested section that does not exist",
        "sales.yaml: unknown key 'data.csv.sep'.",
        "Known: decimal, separator.",
        data={"csv": {"sep": ";"}},
    ),
    Case(
        "a required key left out",
        "sales.yaml: key 'data.target' is required, but is not there.",
        "Add it.",
        data={"target": None},
    ),
    Case(
        "a name with a space",
        "sales.yaml: key 'name': string should match pattern '^[A-Za-z0-9][A-Za-z0-9_.-]*$', but got 'my sales'.",
        "",
        sections={"name": "my sales"},
    ),
    Case("an empty file", "sales.yaml: must hold `key: value` pairs, but holds NoneType.", "", text=""),
    Case(
        "YAML that breaks off",
        "sales.yaml: line 3 is no valid YAML (expected the node content, but found '<stream end>').",
        "",
        text="name: sales\ndata: {source: [\n",
    ),
    Case(
        "a key given twice",
        "sales.yaml: line 2 is no valid YAML (key 'name' is given twice).",
        "",
        text="name: sales\nname: other\n",
    ),
    Case(
        "a file that is not UTF-8",
        "sales.yaml: is not text in UTF-8.",
        "Name a YAML file.",
        text="name: caf\xe9\n".encode("latin-1"),
    ),
    Case(
        "a configuration that is not there",
        "gone.yaml: can't be read (No such file or directory).",
        "Name a YAML file.",
        arguments=("train", "gone.yaml"),
    ),
    Case(
        "a section that holds a value",
        "sales.yaml: key 'data': input should be a valid dictionary or instance of DataSpec, but got 'sales.csv'.",
        "",
        text="name: sales\ndata: sales.csv\n",
    ),
    Case(
        "text for a number",
        "sales.yaml: key 'window.horizon': input should be a valid integer, unable to parse string as "
        "an integer, but got 'six'.",
        "",
        sections={"window": {"horizon": "six"}},
    ),
    Case(
        "a fraction of a step",
        "sales.yaml: key 'window.horizon': input should be a valid integer, got a number with a "
        "fractional part, but got 6.5.",
        "",
        sections={"window": {"horizon": 6.5}},
    ),
    Case(
        "true for a number",
        "sales.yaml: key 'window': 'horizon' must not be true or false, but got True.",
        "",
        sections={"window": {"horizon": True}},
    ),
    Case(
        "a horizon of no step",
        "sales.yaml: key 'window.horizon': input should be greater than or equal to 1, but got 0.",
        "",
        sections={"window": {"horizon": 0}},
    ),
    Case(
        "a number for a column",
        "sales.yaml: key 'data.target': input should be a valid list, but got 5.",
        "",
        data={"target": 5},
    ),
    Case("no target", "sales.yaml: key 'data.target': must name at least one column.", "", data={"target": []}),
    Case(
        "a source of spaces",
        "sales.yaml: key 'data.source': must name a data set of the catalogue, a file, a folder, a "
        "pattern, a URL or env:NAME, but got ' '.",
        "",
        data={"source": " "},
    ),
    Case(
        "a variable without a name",
        "sales.yaml: key 'data.source': must read env:NAME, where NAME is a variable of the environment "
        "that holds the address, but got 'env:'.",
        "",
        data={"source": "env:"},
    ),
    Case(
        "a column that plays two roles",
        "sales.yaml: key 'data': a column has one role, but 'sales' is named twice (the target's own "
        "past is always an input: no need to list it as observed).",
        "",
        data={"observed": "sales"},
    ),
    Case(
        "a covariate with a name of the prepared table",
        "sales.yaml: key 'data': a target or covariate can't be called 'series', which the prepared "
        "table uses: rename the column.",
        "",
        data={"observed": "series"},
    ),
    Case(
        "a category that is no covariate",
        "sales.yaml: key 'data': categorical column 'weather' must also be named in observed, known or "
        "static, which say when it is known.",
        "",
        data={"categorical": "weather"},
    ),
    Case(
        "a frequency that is none",
        "sales.yaml: key 'data.frequency': must be a duration such as 10min, 1h, 1d or 1w, a calendar "
        "step such as B (business days), W-MON, MS (start of month), ME, QS or YS, or infer, or "
        "irregular, but got 'hourly'.",
        "",
        data={"frequency": "hourly"},
    ),
    Case(
        "a frequency below zero",
        "sales.yaml: key 'data.frequency': must be a duration such as 10min, 1h, 1d or 1w, a calendar "
        "step such as B (business days), W-MON, MS (start of month), ME, QS or YS, or infer, or "
        "irregular, but got '-1h'.",
        "",
        data={"frequency": "-1h"},
    ),
    Case(
        "a frequency under a millisecond",
        "sales.yaml: key 'data.frequency': must be 1ms or longer, but got '1us'.",
        "",
        data={"frequency": "1us"},
    ),
    Case(
        "a time zone that is none",
        "sales.yaml: key 'data.timezone': must be a time zone of the tz database such as UTC or "
        "America/New_York, but got 'Mars/Base'.",
        "",
        data={"timezone": "Mars/Base"},
    ),
    Case(
        "a time format that is none",
        "sales.yaml: key 'data.time_format': must be a format of strptime such as '%d/%m/%Y %H:%M', but "
        "got '%Q' ('Q' is a bad directive in format '%Q').",
        "",
        data={"time_format": "%Q"},
    ),
    Case(
        "a time format without a year",
        "sales.yaml: key 'data.time_format': must be a format of strptime with a year (%Y or %y) such "
        "as '%d/%m/%Y %H:%M', but got '%d/%m %H:%M'.",
        "",
        data={"time_format": "%d/%m %H:%M"},
    ),
    Case(
        "a separator that CSV does not have",
        "sales.yaml: key 'data.csv.separator': input should be 'auto', ',', ';', '\\t' or '|', but got ':'.",
        "",
        data={"csv": {"separator": ":"}},
    ),
    Case(
        "a rule of resampling that does not exist",
        "sales.yaml: key 'data.resample': input should be 'mean', 'sum', 'min', 'max' or 'last', but got 'median'.",
        "",
        data={"resample": "median"},
    ),
    Case(
        "a rule for duplicates that does not exist",
        "sales.yaml: key 'data.duplicates': input should be 'refuse', 'mean' or 'last', but got 'first'.",
        "",
        data={"duplicates": "first"},
    ),
    Case(
        "a gap that is no length of time",
        "sales.yaml: key 'data.missing.max_gap': must be a duration above zero such as 30d, 6h, 10min, but got 'soon'.",
        "",
        data={"missing": {"max_gap": "soon"}},
    ),
    Case(
        "a gap below zero",
        "sales.yaml: key 'data.missing.max_gap': must be a number of steps, or a duration such as 6h, but got -1.",
        "",
        data={"missing": {"max_gap": -1}},
    ),
    Case(
        "a seasonal fill without a season",
        "sales.yaml: key 'data.missing': method 'seasonal' and `season` go together, but got 'seasonal', None.",
        "",
        data={"missing": {"method": "seasonal"}},
    ),
    Case(
        "a country without holidays",
        "sales.yaml: key 'data.calendar': holidays='XX' is no country or subdivision of the `holidays` package; use "
        "one like US or AU-VIC.",
        "",
        data={"calendar": {"holidays": "XX"}},
    ),
    Case(
        "a checksum that is none",
        "sales.yaml: key 'data.sha256': must be 64 hexadecimal digits in lower case, as sha256sum "
        "prints them, but got 'abc'.",
        "",
        data={"sha256": "abc"},
    ),
    Case(
        "a unit that pandas gives up",
        "sales.yaml: key 'data.frequency': must be a duration such as 10min, 1h, 1d or 1w, a calendar step such as B "
        "(business days), W-MON, MS (start of month), ME, QS or YS, or infer, or irregular, but got '1H'.",
        "",
        data={"frequency": "1H"},
    ),
    Case(
        "rows resampled to the ends of quarters",
        "sales.yaml: key 'data': frequency 'QE-NOV' is the last day of a step, and `resample` needs the first: use "
        "QS-NOV.",
        "",
        data={"frequency": "QE-NOV", "resample": "sum"},
    ),
    Case(
        "irregular rows, resampled",
        "sales.yaml: key 'data': frequency 'irregular' leaves the time of the next row unknown, so that "
        "`known`, `calendar` and `resample` can't be used: leave them out, or name a frequency and a "
        "`resample` rule.",
        "",
        data={"frequency": "irregular", "resample": "mean"},
    ),
    Case(
        "irregular rows with a calendar",
        "sales.yaml: key 'data': frequency 'irregular' leaves the time of the next row unknown, so that "
        "`known`, `calendar` and `resample` can't be used: leave them out, or name a frequency and a "
        "`resample` rule.",
        "",
        data={"frequency": "irregular", "calendar": {"features": ["hour"]}},
    ),
    Case(
        "irregular rows with a gap in steps",
        "sales.yaml: key 'data': frequency 'irregular' needs missing.max_gap as a duration such as 6h, but got steps.",
        "",
        data={"frequency": "irregular", "missing": {"max_gap": 3}},
    ),
    Case(
        "a wide table with ids",
        "sales.yaml: key 'data': `wide` makes one series a column: name one `target` (what the values "
        "are) and no `series`.",
        "",
        data={"wide": "all"},
    ),
    Case(
        "a wide table with two targets",
        "sales.yaml: key 'data': `wide` makes one series a column: name one `target` (what the values "
        "are) and no `series`.",
        "",
        data={"wide": "all", "series": None, "target": ["a", "b"]},
    ),
    Case(
        "a split of more than the whole",
        "sales.yaml: key 'split.test': must be rows (1 or more), a fraction between 0 and 1, or a "
        "duration such as 30d, but got 1.5.",
        "",
        sections={"split": {"test": 1.5}},
    ),
    Case(
        "splits that add up to the whole",
        "sales.yaml: key 'split': `validation + test < 1` must hold, but got validation=0.5, test=0.5: "
        "nothing is left to train on.",
        "",
        sections={"split": {"validation": 0.5, "test": 0.5}},
    ),
    Case(
        "a split that is no span",
        "sales.yaml: key 'split.test': must be a duration above zero such as 30d, 6h, 10min, but got 'a month'.",
        "",
        sections={"split": {"test": "a month"}},
    ),
    Case(
        "a password in a URL",
        "sales.yaml: key 'data.source': must not hold credentials, but got a URL with some (not shown): "
        "set it in the environment and write `source: env:NAME`.",
        "",
        data={"source": f"https://me:{PASSWORD}@example.org/sales.csv"},
    ),
    Case(
        "a signature in a URL",
        "sales.yaml: key 'data.source': must not hold credentials, but got a URL with some (not shown): "
        "set it in the environment and write `source: env:NAME`.",
        "",
        data={"source": f"https://example.org/sales.csv?sig={PASSWORD}"},
    ),
    Case(
        "a database's URL with its password",
        "sales.yaml: key 'data.source.uri': must name an environment variable such as env:DB_URI, "
        "since a database URL holds a password, but got another text (not shown).",
        "",
        data={"source": {"sql": "select 1", "uri": f"postgresql://me:{PASSWORD}@example.org/shop"}},
    ),
    Case(
        "a database's URL as source",
        "sales.yaml: key 'data.source': must not hold credentials, but got a URL with some (not shown): "
        "set it in the environment and write `source: env:NAME`.",
        "",
        data={"source": f"postgresql://me:{PASSWORD}@example.org/shop"},
    ),
    Case(
        "an override without a value",
        "--set 'search.trials': must read `dotted.key=value`, such as search.trials=50.",
        "",
        arguments=("train", "sales.yaml", "--set", "search.trials"),
    ),
    Case(
        "a key of the model that another section sets",
        "sales.yaml: model: 'horizon' follows from window.horizon: leave it out here.",
        "",
        sections={"model": {"horizon": 6}},
    ),
    Case(
        "a search over a key that does not exist",
        "sales.yaml: key 'search.space': 'hiden_size' is no key of the model.",
        "Did you mean 'hidden_size'?",
        sections={"search": {"space": {"hiden_size": [8]}}},
    ),
    Case(
        "levels that are fractions",
        "sales.yaml: key 'evaluate.levels.0': input should be a valid integer, got a number with a "
        "fractional part, but got 0.8.",
        "",
        sections={"evaluate": {"levels": [0.8]}},
    ),
)
