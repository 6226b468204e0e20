"""A first look at an unknown table: what `lstm init` writes into a configuration, each choice with its reason."""

import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas.api.types import is_hashable, is_string_dtype

from lstm.config.source import SqlSource
from lstm.errors import DataError
from lstm.starter.lengths import Lengths, find_lengths
from lstm.starter.names import Choice, listed
from lstm.starter.rhythm import Rhythm, find_rhythm
from lstm.starter.roles import Roles, find_roles
from lstm.starter.times import Times, find_times

HEAD_ROWS = 200_000  # what is looked at
_FEWEST = 20  # distinct times that a guess needs
_TEXT = re.compile(r"(?i)\.csv(\.gz)?($|[?#])")  # sources whose times are read as text
_ENDING = re.compile(r"(?i)(\.csv|\.csv\.gz|\.parquet)$")


@dataclass(frozen=True)
class Guess:
    """One field a decision, in the order of a configuration; `Choice.reason` is its comment."""

    name: Choice[str]
    source: Choice[str | SqlSource]
    rows: int
    separator: Choice[str | None]  # None: as it comes
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
    left_out: dict[str, str]  # column: why it plays no role
    frequency: Choice[str]
    resample: Choice[str | None]
    duplicates: Choice[int]  # rows that have the series and time of another
    timezone: Choice[str]
    calendar: Choice[tuple[str, ...]]
    max_gap: Choice[int]
    split: Choice[str | float]  # the length of validation, and that of the test
    horizon: Choice[int]
    season: Choice[int]


def guess(frame: pd.DataFrame, source: str | SqlSource, separator: str | None = None, decimal: str = ".") -> Guess:
    """Guess a configuration from the first rows of a table.

    Args:
        frame: the rows as they were read; `HEAD_ROWS` of them are looked at.
        source: what `data.source` is to say.
        separator: what cuts the columns of a CSV, where `data.csv.separator` has to say it.
        decimal: the decimal sign that the frame was read with; a comma is found where it was not.

    Raises:
        DataError: there is no column of times or none to forecast, or there are too few rows.
    """
    name = source if isinstance(source, str) and "://" not in source else "the source"
    frame, found = _tidied(frame.head(HEAD_ROWS), name, decimal)
    times = find_times(frame, name, isinstance(source, str) and bool(_TEXT.search(source)))
    roles = find_roles(frame, times, name)
    _check_length(roles, name)
    rhythm = find_rhythm(roles.seen, times.timezone.value)
    csv = Choice(separator, "what cuts the columns"), Choice(found, "the decimal sign")
    return _joined(source, len(frame), csv, times, roles, rhythm, find_lengths(rhythm))


def _joined(
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
    """A name for a pipeline, from the last part of its source: a name of MLflow's, `forecast` where there is none."""
    text = source.uri if isinstance(source, SqlSource) else source
    last = re.split(r"[/\\]", re.sub(r"[?#].*", "", text).rstrip("/\\"))[-1].removeprefix("env:")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", _ENDING.sub("", last)).strip("-._")
    return name[:100] or "forecast"


def _tidied(frame: pd.DataFrame, name: str, decimal: str) -> tuple[pd.DataFrame, str]:
    """Columns named by text, numbers in text as numbers, and the decimal sign that they needed."""
    if frame.empty:
        raise DataError(f"{name}: holds no rows. Name a source with data.")
    columns = [str(column) for column in frame.columns]
    if len(set(columns)) < len(columns):
        twice = sorted({column for column in columns if columns.count(column) > 1})
        raise DataError(f"{name}: {listed(twice)} is there twice. Give each column its own name.")
    made = {}
    for position, column in enumerate(columns):
        raw = frame.iloc[:, position].reset_index(drop=True)
        made[column], comma = _numeric(raw.rename(column)) if _is_text(raw) else (raw.rename(column), False)
        decimal = "," if comma else decimal
    return pd.DataFrame(made), decimal


def _is_text(raw: pd.Series) -> bool:
    return raw.dtype == object or isinstance(raw.dtype, pd.CategoricalDtype) or is_string_dtype(raw)


def _numeric(raw: pd.Series) -> tuple[pd.Series, bool]:
    """The column as numbers, where all of its cells are some, and whether its decimal sign is a comma."""
    if isinstance(raw.dtype, pd.CategoricalDtype) or (raw.dtype == object and not raw.map(is_hashable).all()):
        raw = raw.astype("str").where(raw.notna(), None)  # lists and dictionaries can't be counted
    given = raw.dropna()
    text = given.astype("str")
    if given.empty or text.str.fullmatch(r"0\d+").any():  # 007 is a name
        return raw, False
    comma = bool(text.str.fullmatch(r"[+-]?\d+(?:,\d+)?").all()) and bool(text.str.contains(",").any())
    numbers = pd.to_numeric(text.str.replace(",", ".") if comma else given, errors="coerce")
    if numbers.isna().any():
        return raw, False
    return numbers.astype("float64" if comma or len(given) < len(raw) else numbers.dtype).reindex(raw.index), comma


def _check_length(roles: Roles, name: str) -> None:
    measured = ~np.isnan(roles.seen.values)
    rows = {"series": roles.seen.series[measured], "time": roles.seen.moments[measured]}
    seen = pd.DataFrame(rows).drop_duplicates()
    longest = int(np.bincount(seen["series"]).max()) if len(seen) else 0
    if longest < _FEWEST:
        raise DataError(
            f"{name}: holds {longest} times of {roles.target.value!r} at most in a series, which is too short to learn "
            f"from: a configuration needs {_FEWEST} to start with. Bring more history."
        )
