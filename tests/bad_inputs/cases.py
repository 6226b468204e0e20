"""Bad inputs with the messages that `lstm` prints: the cases of `test_bad_inputs.py` and a table of the docs."""

from tests.bad_inputs.case import Case
from tests.bad_inputs.cases_columns import COLUMNS
from tests.bad_inputs.cases_configuration import CONFIGURATION
from tests.bad_inputs.cases_forecasts import FORECASTS
from tests.bad_inputs.cases_later import PANELS, QUERIES, SPLITS
from tests.bad_inputs.cases_rows import ROWS
from tests.bad_inputs.cases_sources import SOURCES
from tests.bad_inputs.cases_times import TIMES

CASES: dict[str, tuple[Case, ...]] = {
    "Configuration": CONFIGURATION,
    "Sources": SOURCES,
    "Queries": QUERIES,
    "Columns and types": COLUMNS,
    "Rows and segments": ROWS,
    "Time": TIMES,
    "Splits and windows": (*SPLITS, *PANELS),
    "Forecasts": FORECASTS,
}
