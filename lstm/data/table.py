"""From checked rows to the canonical long table: one row for each series and time, on the grid, in UTC.

Columns: `series` (str), `time` (datetime64[us], UTC), then the targets and covariates under their own names as float64,
or as str where categorical. Rows are sorted by series and time.
"""

import pandas as pd

from lstm.calendars.frequency import infer_frequency
from lstm.config.data import DataSpec
from lstm.data.canonicalizer import Canonicalizer
from lstm.data.rows import SERIES, TIME, RowReader
from lstm.data.sorting import sort_rows
from lstm.errors import DataError

INFER_SERIES = 20  # series that the frequency is inferred from


def canonicalize(frame: pd.DataFrame, spec: DataSpec, name: str = "table") -> pd.DataFrame:
    """Check a raw frame against its specification and return the canonical table.

    Args:
        frame: raw rows, in any order.
        spec: roles of the columns; its frequency may be `infer`.
        name: what error messages call the table.

    Returns:
        A new frame; `frame` is left alone.

    Raises:
        DataError: a column is missing or doesn't fit its role, a time is missing, unparsable, ambiguous or off the
            frequency, a row appears twice, or a target has no value.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{name}: must be a pandas DataFrame, but is a {type(frame).__name__}.")
    rows = sort_rows(RowReader(spec, name).read(frame))
    if rows.empty:
        raise DataError(f"{name}: holds no rows. Name a source with data.")
    canonicalizer = Canonicalizer(resolve_frequency(spec, rows, name), name)
    table = canonicalizer.process_all(rows)
    canonicalizer.check_complete()
    return table


def resolve_frequency(spec: DataSpec, rows: pd.DataFrame, name: str) -> DataSpec:
    """Return the specification with `infer` replaced by the frequency of most series of `rows` (sorted).

    Raises:
        DataError: no frequency fits.
    """
    if spec.frequency != "infer":
        return spec
    stamps = rows[[SERIES, TIME]].drop_duplicates()
    inferred = [
        infer_frequency(times.to_numpy("datetime64[us]"), spec.timezone)
        for _, times in list(stamps.groupby(SERIES, sort=False)[TIME])[:INFER_SERIES]
    ]
    counts = pd.Series([frequency for frequency in inferred if frequency]).value_counts()
    if counts.empty:
        raise DataError(
            f"{name}: data.frequency: infer finds no step that most rows follow each other by. "
            "Name the frequency with a data.resample rule, or set data.frequency: irregular."
        )
    return spec.model_copy(update={"frequency": str(counts.index[0])})
