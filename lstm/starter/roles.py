"""Guess the role of each column: series, target, covariate, or left out."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from lstm.errors import DataError
from lstm.starter.names import Choice, format_names, format_percent, is_holiday_name, is_id_name, target_rank
from lstm.starter.series import find_ids, find_wide
from lstm.starter.times import Times

ColumnsChoice = Choice[tuple[str, ...]]
_MAX_CATEGORIES = 50  # of a text column
_RESERVED = ("series", "time", "__row__")  # names in the prepared table
_VALUE_NAMES = ("value", "reading", "quantity", "amount", "measured_value")


@dataclass(frozen=True)
class TargetRows:
    """Rows with the values of the target, in the order of the table."""

    series: np.ndarray  # (rows,) int64: number of the series
    times: np.ndarray  # (rows,) datetime64[us], UTC
    values: np.ndarray  # (rows,) float64, NaN where missing


@dataclass(frozen=True)
class Roles:
    """Roles of the columns."""

    series: ColumnsChoice
    wide: ColumnsChoice
    target: Choice[str]
    observed: ColumnsChoice
    known: ColumnsChoice
    static: ColumnsChoice
    categorical: ColumnsChoice
    duplicates: Choice[int]  # rows beyond the first of a series and time
    left_out: dict[str, str]
    target_rows: TargetRows


@dataclass
class _Covariates:
    """Names of covariates by role."""

    observed: list[str] = field(default_factory=list)
    known: list[str] = field(default_factory=list)
    static: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)


def find_roles(frame: pd.DataFrame, times: Times, name: str) -> Roles:
    """Give each column a role.

    Args:
        frame: numeric text is parsed, and column names are text.
        times: result of `find_times`.
        name: of the table in messages.

    Raises:
        DataError: no column can be a target.
    """
    left_out = {**_unusable(frame, times.column.value), **times.left_out}
    rest = frame.drop(columns=[times.column.value, *left_out])
    ids = find_ids(rest, times.moments)
    code = _series_codes(frame, ids.value)
    rest = rest.drop(columns=list(ids.value))
    left_out |= _redundant(rest, code, times.moments)
    rest = rest.drop(columns=[column for column in left_out if column in rest])
    varying = [column for column in map(str, rest) if _varies(rest[column], code)]
    numbers = [column for column in varying if not _is_flag(rest[column])] or varying
    if not numbers:
        raise DataError(_no_number(frame, left_out, name))
    wide: ColumnsChoice = Choice((), ids.reason) if ids.value or len(numbers) < 2 else find_wide(rest[numbers])
    target = _wide_target(frame) if wide.value else _target(numbers)
    covariates = rest.drop(columns=[*wide.value, *([] if wide.value else [target.value])])
    measured = frame[list(wide.value or (target.value,))].notna().any(axis=1).to_numpy()
    ahead = times.moments > times.moments[measured].max()
    roles = _assign_covariates(covariates, code, ahead, left_out)
    is_duplicate = pd.DataFrame({"series": code, "time": times.moments}).duplicated()
    return Roles(
        series=ids,
        wide=wide,
        target=target,
        observed=Choice(tuple(roles.observed), "known up to now, not ahead"),
        known=Choice(
            tuple(roles.known),
            "goes on after the target ends: a forecast needs it for the steps ahead"
            if ahead.any()
            else "a forecast needs it for the steps ahead, too; or leave it out for calendar.holidays",
        ),
        static=Choice(tuple(roles.static), "the same in all rows of a series"),
        categorical=Choice(tuple(roles.categorical), f"text with at most {_MAX_CATEGORIES} levels: a 0/1 input each"),
        duplicates=Choice(
            int(is_duplicate.sum()), f"rows with a series and time that came before: {is_duplicate.sum():,}"
        ),
        left_out=left_out,
        target_rows=_target_rows(frame, code, times.moments, wide.value or (target.value,)),
    )


def _unusable(frame: pd.DataFrame, time: str) -> dict[str, str]:
    reasons = {}
    for column in frame.columns.drop(time):
        raw = frame[column]
        missing = float(raw.isna().mean())
        if missing > 0.5:
            reasons[column] = "empty" if missing == 1 else f"{format_percent(missing)} missing"
        elif raw.nunique() == 1:
            reasons[column] = "constant"
        elif pd.api.types.is_float_dtype(raw) and np.isinf(raw.to_numpy("float64", na_value=np.nan)).any():
            reasons[column] = "infinite values"
        elif column in _RESERVED and pd.api.types.is_numeric_dtype(raw):
            reasons[column] = "rename it to use it: the prepared table has a column of that name"
    return reasons


def _series_codes(frame: pd.DataFrame, ids: tuple[str, ...]) -> np.ndarray:
    if not ids:
        return np.zeros(len(frame), np.int64)
    return frame.groupby(list(ids), sort=True, dropna=False).ngroup().to_numpy(np.int64)


def _redundant(frame: pd.DataFrame, code: np.ndarray, moments: np.ndarray) -> dict[str, str]:
    """Return columns without information of their own: other names of the series, and row numbers."""
    reasons = {}
    order = np.lexsort((moments, code))
    same_series = np.diff(code[order]) == 0
    for column in frame:
        raw, name = frame[column], str(column)
        names_series = is_id_name(name) if pd.api.types.is_numeric_dtype(raw) else raw.nunique() == code.max() + 1
        if code.any() and names_series and (raw.groupby(code).nunique(dropna=False) == 1).all():
            reasons[name] = "another name of the series"
        elif pd.api.types.is_integer_dtype(raw) and target_rank(name) is None:
            steps = (np.diff(raw.to_numpy()) == 1, np.diff(raw.to_numpy()[order])[same_series] == 1)
            rising = is_id_name(name) and raw.is_unique and raw.is_monotonic_increasing
            if rising or any(len(step) and step.all() for step in steps):
                reasons[name] = "numbers the rows"
            elif is_id_name(name):
                reasons[name] = "an id, no quantity"
    return reasons


def _varies(raw: pd.Series, code: np.ndarray) -> bool:
    """Return whether a column is numeric and changes over time."""
    numeric = pd.api.types.is_numeric_dtype(raw) and raw.name not in _RESERVED
    return bool(numeric and (raw.groupby(code).nunique() > 1).any() if code.any() else numeric)


def _is_flag(raw: pd.Series) -> bool:
    return target_rank(str(raw.name)) is None and bool(raw.dropna().isin([0, 1]).all())


def _target(numbers: list[str]) -> Choice[str]:
    ranked = {name: rank for name in numbers if (rank := target_rank(name)) is not None}
    if ranked:
        return Choice(min(ranked, key=ranked.__getitem__), "named like a target")
    reason = "the last number that varies" if len(numbers) > 1 else "the only number that varies"
    return Choice(numbers[-1], reason)


def _wide_target(frame: pd.DataFrame) -> Choice[str]:
    unused = next(name for name in (*_VALUE_NAMES, "_".join(map(str, frame.columns))) if name not in frame)
    return Choice(unused, "a name for the values of the wide columns; choose your own")


def _assign_covariates(
    frame: pd.DataFrame, code: np.ndarray, ahead: np.ndarray, left_out: dict[str, str]
) -> _Covariates:
    """Sort covariates by role, and add those without one to `left_out`.

    Args:
        frame: the covariates.
        code: (rows,) number of the series.
        ahead: (rows,) bool, rows after the last target value.
        left_out: reasons by column.
    """
    covariates = _Covariates()
    for column in frame:
        raw, name = frame[column], str(column)
        numeric = pd.api.types.is_numeric_dtype(raw)
        if not numeric and raw.nunique() > _MAX_CATEGORIES:
            left_out[name] = f"text with {raw.nunique():,} levels"
            continue
        if name in _RESERVED:
            left_out[name] = "rename it to use it: the prepared table has a column of that name"
            continue
        constant = bool(code.any()) and bool((raw.groupby(code).nunique(dropna=False) == 1).all())
        holiday = is_holiday_name(name) and raw.nunique() == 2 and not raw.isna().any()
        known = holiday or (bool(ahead.any()) and bool(raw[ahead].notna().all()))
        (covariates.static if constant else covariates.known if known else covariates.observed).append(name)
        covariates.categorical += [] if numeric else [name]
    return covariates


def _no_number(frame: pd.DataFrame, left_out: dict[str, str], name: str) -> str:
    reasons = "; ".join(f"{column!r}: {reason}" for column, reason in list(left_out.items())[:10])
    return (
        f"{name}: no column holds numbers that vary over time and could be forecast; its columns are "
        f"{format_names(list(frame.columns), 30)}{f' ({reasons})' if reasons else ''}. Give it a column of numbers."
    )


def _target_rows(frame: pd.DataFrame, code: np.ndarray, moments: np.ndarray, columns: tuple[str, ...]) -> TargetRows:
    """Return the target's rows; of a wide table those of the first 20 columns, enough to find frequency and season."""
    parts = []
    for number, column in enumerate(columns[:20]):
        parts.append((code + number, moments, frame[column].to_numpy("float64", na_value=np.nan)))
    series, times, values = (np.concatenate(list(part)) for part in zip(*parts, strict=True))
    return TargetRows(series, times, values)
