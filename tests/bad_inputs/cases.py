"""Bad inputs and what `lstm` says of each: what `test_bad_inputs.py` runs, and the table of refusals in the docs."""

from .case import Case
from .cases_columns import COLUMNS
from .cases_configuration import CONFIGURATION
from .cases_forecasts import FORECASTS
from .cases_later import QUERIES, WINDOWS
from .cases_rows import ROWS
from .cases_sources import SOURCES
from .cases_times import TIMES

CASES: dict[str, tuple[Case, ...]] = {
    "Configuration": CONFIGURATION,
    "Sources": SOURCES,
    "Queries": QUERIES,
    "Columns and types": COLUMNS,
    "Rows and segments": ROWS,
    "Time": TIMES,
    "Splits and windows": WINDOWS,
    "Forecasts": FORECASTS,
}
