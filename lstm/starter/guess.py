"""Guess a configuration from the first rows of an unknown table, each choice with its reason."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_hashable, is_string_dtype

from lstm.config.source import SqlSource
from lstm.errors import DataError
from lstm.starter.lengths import Lengths, find_lengths
from lstm.starter.names import Choice, format_names
from lstm.starter.rhythm import Rhythm, find_rhythm
from lstm.starter.roles import Roles, find_roles
from lstm.starter.times import Times, find_times

HEAD_ROWS = 200_000  # rows that a guess is based on
_MIN_TIMES = 20  # distinct times that a guess needs
_TEXT = re.compile(r"(?i)\.csv(\.gz)?($|[?#])")  # sources whose times are read as text
_ENDING = re.compile(r"(?i)(\.csv|\.csv\.gz|\.parquet)$")


@dataclass(frozen=True)
class Guess:
    """One field per decision, in the order of a configuration; `Choice.reason` becomes its comment."""

    name: Choice[str]
    source: Choice[str | SqlSource]
    rows: int
    separator: Choice[str | None]  # None: detected
    decimal: Choice[str]
    time: Choice[str]
    time_format: Choice[str | None]  # None: ISO 8601
    series: Choice[tuple[str, ...]]
    wide: Choice[tuple[str, ...]]
    target: Choice[str]
    observed: Choice[tuple[str, ...]]
    known: Choice[tuple[str, ...]]
    static: Choice[tuple[str, ...]]
    categorical: Choice[tuple[str, ...]]
    left_out: dict[str, str]  # column: why it has no role
    frequency: Choice[str]
    resample: Choice[str | None]
    duplicates: Choice[int]  # rows with the series and time of an earlier one
    timezone: Choice[str]
    calendar: Choice[tuple[str, ...]]
    max_gap: Choice[int]
    split: Choice[str | float]  # length of validation, and of the test
    horizon: Choice[int]
    season: Choice[int]


def guess_config(
    frame: pd.DataFrame, source: str | SqlSource, separator: str | None = None, decimal: str = "."
) -> Guess:
    """Guess a configuration from the first rows of a table.

    Args:
        frame: the rows as they were read; the first `HEAD_ROWS` are used.
        source: value of `data.source`.
        separator: of a CSV's columns, if `data.csv.separator` has to name it.
        decimal: decimal sign that the frame was read with; a comma in text cells is detected.

    Raises:
        DataError: there is no column of times or none to forecast, or too few rows.
    """
    name = source if isinstance(source, str) and "://" not in source else "the source"
    frame, decimal_sign = _tidy_columns(frame.head(HEAD_ROWS), name, decimal)
    times = find_times(frame, name, isinstance(source, str) and bool(_TEXT.search(source)))
    roles = find_roles(frame, times, name)
    _check_length(roles, name)
    rhythm = find_rhythm(roles.target_rows, times.timezone.value)
    csv = Choice(separator, "separates the columns"), Choice(decimal_sign, "the decimal sign")
    return _assemble(source, len(frame), csv, times, roles, rhythm, find_lengths(rhythm))


def _assemble(
    source: str | SqlSource,
    rows: int,
    csv: tuple[Choice[str | None], Choice[str]],
    times: Times,
    roles: Roles,
    rhythm: Rhythm,
    lengths: Lengths,
) -> Guess:
    return Guess(
        name=Choice(pipeline_name(source), "MLflow experiment and registered model"),
        source=Choice(source, "a file, a glob, a URL, or env:NAME of one"),
        rows=rows,
        separator=csv[0],
        decimal=csv[1],
        time=times.column,
        time_format=times.format,
        series=roles.series,
        wide=roles.wide,
        target=roles.target,
        observed=roles.observed,
        known=roles.known,
        static=roles.static,
        categorical=roles.categorical,
        left_out=roles.left_out,
        frequency=rhythm.frequency,
        resample=rhythm.resample,
        duplicates=roles.duplicates,
        timezone=times.timezone,
        calendar=lengths.calendar,
        max_gap=lengths.max_gap,
        split=lengths.split,
        horizon=lengths.horizon,
        season=lengths.season,
    )


def pipeline_name(source: str | SqlSource) -> str:
    """Return a pipeline name that MLflow accepts, from the last part of the source; `forecast` if there is none."""
    text = source.uri if isinstance(source, SqlSource) else source
    last = re.split(r"[/\\]", re.sub(r"[?#].*", "", text).rstrip("/\\"))[-1].removeprefix("env:")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", _ENDING.sub("", last)).strip("-._")
    return name[:100] or "forecast"


def _tidy_columns(frame: pd.DataFrame, name: str, decimal: str) -> tuple[pd.DataFrame, str]:
    """Return the frame with text as column names and numbers instead of numeric text, and its decimal sign."""
    if frame.empty:
        raise DataError(f"{name}: holds no rows. Name a source with data.")
    columns = [str(column) for column in frame.columns]
    if len(set(columns)) < len(columns):
        twice = sorted({column for column in columns if columns.count(column) > 1})
        raise DataError(f"{name}: {format_names(twice)} is there twice. Give each column its own name.")
    tidy = {}
    for position, column in enumerate(columns):
        raw = frame.iloc[:, position].reset_index(drop=True).rename(column)
        tidy[column], comma = _parse_numbers(raw) if _is_text(raw) else (raw, False)
        decimal = "," if comma else decimal
    return pd.DataFrame(tidy), decimal


def _is_text(raw: pd.Series) -> bool:
    return raw.dtype == object or isinstance(raw.dtype, pd.CategoricalDtype) or is_string_dtype(raw)


def _parse_numbers(raw: pd.Series) -> tuple[pd.Series, bool]:
    """Return the column as numbers if all cells are numeric, and whether its decimal sign is a comma."""
    if isinstance(raw.dtype, pd.CategoricalDtype) or (raw.dtype == object and not raw.map(is_hashable).all()):
        raw = raw.astype("str").where(raw.notna(), None)  # lists and dictionaries can't be compared
    cells = raw.dropna()
    text = cells.astype("str")
    if cells.empty or text.str.fullmatch(r"0\d+").any():  # 007 is an id
        return raw, False
    comma = bool(text.str.fullmatch(r"[+-]?\d+(?:,\d+)?").all()) and bool(text.str.contains(",").any())
    numbers = pd.to_numeric(text.str.replace(",", ".") if comma else cells, errors="coerce")
    if numbers.isna().any():
        return raw, False
    return numbers.astype("float64" if comma or len(cells) < len(raw) else numbers.dtype).reindex(raw.index), comma


def _check_length(roles: Roles, name: str) -> None:
    rows = roles.target_rows
    measured = ~np.isnan(rows.values)
    distinct = pd.DataFrame({"series": rows.series[measured], "time": rows.times[measured]}).drop_duplicates()
    longest = int(np.bincount(distinct["series"]).max()) if len(distinct) else 0
    if longest < _MIN_TIMES:
        raise DataError(
            f"{name}: holds {longest} times of {roles.target.value!r} at most in a series, which is too short to learn "
            f"from: a configuration needs {_MIN_TIMES} to start with. Bring more history."
        )
