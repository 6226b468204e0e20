"""What the columns of an unknown table mean: series, target, covariates, and what is left out."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lstm.errors import DataError
from lstm.starter.names import Choice, listed, percent, says_holiday, says_id, target_rank
from lstm.starter.series import find_ids, find_wide
from lstm.starter.times import Times

Names = Choice[tuple[str, ...]]
_LEVELS = 50  # categories that a column of text may have
_RESERVED = ("series", "time", "__row__")  # the prepared table uses these names
_VALUES = ("value", "reading", "quantity", "amount", "measured_value")


@dataclass(frozen=True)
class Seen:
    """The values of the target."""

    series: np.ndarray  # (rows,) int64: the number of the row's series
    moments: np.ndarray  # (rows,) datetime64[us], UTC
    values: np.ndarray  # (rows,) float64, NaN where none was measured


@dataclass(frozen=True)
class Roles:
    """Which column plays which role."""

    series: Names
    wide: Names
    target: Choice[str]
    observed: Names
    known: Names
    static: Names
    categorical: Names
    duplicates: Choice[int]  # rows beyond the first of a series and time
    left_out: dict[str, str]
    seen: Seen


@dataclass
class _Sorting:
    """Covariates by role."""

    observed: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)


def find_roles(frame: pd.DataFrame, times: Times, name: str) -> Roles:
    """Give each column a role.

    Args:
        frame: numbers are numeric columns, and names are text.
        times: what `find_times` found in it.
        name: what messages call the table.

    Raises:
        DataError: no column may be a target.
    """
    left_out = {**_useless(frame, times.column.value), **times.left_out}
    rest = frame.drop(columns=[times.column.value, *left_out])
    ids = find_ids(rest, times.moments)
    code = _codes(frame, ids.value)
    rest = rest.drop(columns=list(ids.value))
    left_out |= _follows(rest, code, times.moments)
    rest = rest.drop(columns=[column for column in left_out if column in rest])
    varying = [column for column in map(str, rest) if _varies(rest[column], code)]
    numbers = [column for column in varying if not _is_flag(rest[column])] or varying
    if not numbers:
        raise DataError(_no_number(frame, left_out, name))
    wide: Names = Choice((), ids.reason) if ids.value or len(numbers) < 2 else find_wide(rest[numbers])
    target = _wide_target(frame) if wide.value else _target(numbers)
    covariates = rest.drop(columns=[*wide.value, *([] if wide.value else [target.value])])
    measured = frame[list(wide.value or (target.value,))].notna().any(axis=1).to_numpy()
    ahead = times.moments > times.moments[measured].max()
    sorting = _sorted(covariates, code, ahead, left_out)
    twice = pd.DataFrame({"series": code, "time": times.moments}).duplicated()
    return Roles(
        series=ids,
        wide=wide,
        target=target,
        observed=Choice(tuple(sorting.observed), "known up to now, not ahead"),
        known=Choice(
            tuple(sorting.known),
            "goes on after the target ends: a forecast needs it for the steps ahead"
            if ahead.any()
            else "a forecast needs it for the steps ahead, too; or leave it out for calendar.holidays",
        ),
        static=Choice(tuple(sorting.static), "the same in all rows of a series"),
        categorical=Choice(tuple(sorting.categorical), f"text with at most {_LEVELS} levels: a 0/1 input each"),
        duplicates=Choice(int(twice.sum()), f"rows with a series and time that came before: {twice.sum():,}"),
        left_out=left_out,
        seen=_seen(frame, code, times.moments, wide.value or (target.value,)),
    )


def _useless(frame: pd.DataFrame, time: str) -> dict[str, str]:
    found = {}
    for column in frame.columns.drop(time):
        raw = frame[column]
        missing = float(raw.isna().mean())
        if missing > 0.5:
            found[column] = "empty" if missing == 1 else f"{percent(missing)} missing"
        elif raw.nunique() == 1:
            found[column] = "constant"
        elif pd.api.types.is_float_dtype(raw) and np.isinf(raw.to_numpy("float64", na_value=np.nan)).any():
            found[column] = "infinite values"
        elif column in _RESERVED and pd.api.types.is_numeric_dtype(raw):
            found[column] = "rename it to use it: the prepared table has a column of that name"
    return found


def _codes(frame: pd.DataFrame, ids: tuple[str, ...]) -> np.ndarray:
    if not ids:
        return np.zeros(len(frame), np.int64)
    return frame.groupby(list(ids), sort=True, dropna=False).ngroup().to_numpy(np.int64)


def _follows(frame: pd.DataFrame, code: np.ndarray, moments: np.ndarray) -> dict[str, str]:
    """Columns that say nothing new: other names of the series, and numbers of rows."""
    found = {}
    order = np.lexsort((moments, code))
    inside = np.diff(code[order]) == 0
    for column in frame:
        raw, name = frame[column], str(column)
        naming = says_id(name) if pd.api.types.is_numeric_dtype(raw) else raw.nunique() == code.max() + 1
        if code.any() and naming and (raw.groupby(code).nunique(dropna=False) == 1).all():
            found[name] = "another name of the series"
        elif pd.api.types.is_integer_dtype(raw) and target_rank(name) is None:
            steps = (np.diff(raw.to_numpy()) == 1, np.diff(raw.to_numpy()[order])[inside] == 1)
            rising = says_id(name) and raw.is_unique and raw.is_monotonic_increasing
            if rising or any(len(step) and step.all() for step in steps):
                found[name] = "numbers the rows"
            elif says_id(name):
                found[name] = "an id, no quantity"
    return found


def _varies(raw: pd.Series, code: np.ndarray) -> bool:
    """Whether a column is a number that changes in time."""
    number = pd.api.types.is_numeric_dtype(raw) and raw.name not in _RESERVED
    return bool(number and (raw.groupby(code).nunique() > 1).any() if code.any() else number)


def _is_flag(raw: pd.Series) -> bool:
    return target_rank(str(raw.name)) is None and bool(raw.dropna().isin([0, 1]).all())


def _target(numbers: list[str]) -> Choice[str]:
    ranked = {name: rank for name in numbers if (rank := target_rank(name)) is not None}
    if ranked:
        return Choice(min(ranked, key=lambda name: ranked[name]), "called as what people forecast")
    why = "the last number that varies" if len(numbers) > 1 else "the only number that varies"
    return Choice(numbers[-1], why)


def _wide_target(frame: pd.DataFrame) -> Choice[str]:
    free = next(name for name in (*_VALUES, "_".join(map(str, frame.columns))) if name not in frame)
    return Choice(free, "a name for what the wide columns hold; yours may say more")


def _sorted(frame: pd.DataFrame, code: np.ndarray, ahead: np.ndarray, left_out: dict[str, str]) -> _Sorting:
    """`ahead`: (rows,) bool, the rows after the last one with a target."""
    sorting = _Sorting()
    for column in frame:
        raw, name = frame[column], str(column)
        numeric = pd.api.types.is_numeric_dtype(raw)
        if not numeric and raw.nunique() > _LEVELS:
            left_out[name] = f"text with {raw.nunique():,} levels"
            continue
        if name in _RESERVED:
            left_out[name] = "rename it to use it: the prepared table has a column of that name"
            continue
        fixed = bool(code.any()) and bool((raw.groupby(code).nunique(dropna=False) == 1).all())
        holiday = says_holiday(name) and raw.nunique() == 2 and not raw.isna().any()
        known = holiday or (bool(ahead.any()) and bool(raw[ahead].notna().all()))
        (sorting.static if fixed else sorting.known if known else sorting.observed).append(name)
        sorting.categorical += [] if numeric else [name]
    return sorting


def _no_number(frame: pd.DataFrame, left_out: dict[str, str], name: str) -> str:
    why = "; ".join(f"{column!r}: {reason}" for column, reason in list(left_out.items())[:10])
    return (
        f"{name}: no column holds numbers that vary in time, to be forecast; its columns are "
        f"{listed(list(frame.columns), 30)}{f' ({why})' if why else ''}. Give it a column of numbers."
    )


def _seen(frame: pd.DataFrame, code: np.ndarray, moments: np.ndarray, columns: tuple[str, ...]) -> Seen:
    """Of a wide table twenty columns at most, which is enough to see their rhythm."""
    parts = []
    for number, column in enumerate(columns[:20]):
        parts.append((code + number, moments, frame[column].to_numpy("float64", na_value=np.nan)))
    series, times, numbers = (np.concatenate(list(part)) for part in zip(*parts, strict=True))
    return Seen(series, times, numbers)
