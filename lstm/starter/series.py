"""Find what tells the series of a table apart: id columns of a long table, or the columns of a wide one."""

import re

import numpy as np
import pandas as pd

from lstm.starter.names import Choice, format_names, is_id_name, target_rank

_MAX_ROWS_PER_KEY = 1.05  # more rows per series and time need another id; fewer are duplicates
_MAX_NAMED = 20  # columns, among which a name like a target's counts


def find_ids(frame: pd.DataFrame, moments: np.ndarray) -> Choice[tuple[str, ...]]:
    """Return the columns that together with the time identify the rows; none if the time does alone.

    Args:
        frame: all columns that may be ids.
        moments: (rows,) datetime64 of the rows.
    """
    time = pd.factorize(moments, sort=True)[0]
    codes = {name: pd.factorize(frame[name])[0] for name in map(str, frame) if _may_be_id(frame[name])}
    density = {name: _density(code, time) for name, code in codes.items()}
    if _rows_per_key([time]) <= _MAX_ROWS_PER_KEY:
        return _find_sensor_id(codes, time)
    codes = {name: code for name, code in codes.items() if density[name] >= _least_density(frame[name])}
    text = frame.columns[[not _is_number(frame[name]) for name in map(str, frame)]]
    chosen: list[str] = []
    rows_per_key = _rows_per_key([time])
    while rows_per_key > _MAX_ROWS_PER_KEY and len(chosen) < len(codes):
        after = {
            name: _rows_per_key([time, *(codes[key] for key in (*chosen, name))])
            for name in codes
            if name not in chosen
        }
        best = min(after, key=lambda name: (round(after[name], 2), not is_id_name(name), name not in text))
        if after[best] > _MAX_ROWS_PER_KEY and rows_per_key / after[best] < 1.5:
            break
        chosen, rows_per_key = [*chosen, best], after[best]
    chosen = _drop_superfluous(chosen, codes, time, rows_per_key)
    reason = f"{_rows_per_key([time]):.3g} rows per time, one for each {' and '.join(map(repr, chosen))}"
    return Choice(tuple(chosen), reason if chosen else "no column tells several rows of one time apart")


def _drop_superfluous(
    chosen: list[str], codes: dict[str, np.ndarray], time: np.ndarray, rows_per_key: float
) -> list[str]:
    """Return the ids without those that the others make superfluous."""
    for name in list(chosen):
        rest = [key for key in chosen if key != name]
        if rest and _rows_per_key([time, *(codes[key] for key in rest)]) <= rows_per_key:
            chosen = rest
    return chosen


def _find_sensor_id(codes: dict[str, np.ndarray], time: np.ndarray) -> Choice[tuple[str, ...]]:
    """Return the id of series that are hardly ever measured at the same time: only name and row order reveal it."""
    for name, code in codes.items():
        lengths = np.bincount(code)
        separates = _rows_per_key([time]) > 1 and _rows_per_key([time, code]) == 1
        interleaved = _n_times(code, time).sum() >= 1.5 * len(time)
        if is_id_name(name) and lengths.mean() >= 20 and (separates or interleaved):
            return Choice((name,), f"{len(lengths)} series, most of whose times differ")
    return Choice((), "one row per time")


def _may_be_id(raw: pd.Series) -> bool:
    if raw.isna().any() or pd.api.types.is_bool_dtype(raw) or pd.api.types.is_float_dtype(raw):
        return False
    levels = raw.nunique()
    flag = _is_number(raw) and set(raw.unique()) <= {0, 1} and not is_id_name(str(raw.name))
    return not flag and 2 <= levels <= len(raw) / (10 if _is_number(raw) else 4)


def _least_density(raw: pd.Series) -> float:
    """Return the least density of an id: ids occur at most times of their span, readings come and go."""
    return 0.0 if is_id_name(str(raw.name)) else 0.5 if _is_number(raw) else 0.05


def _is_number(raw: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(raw))


def _rows_per_key(keys: list[np.ndarray]) -> float:
    """Return the mean number of rows per distinct combination of keys."""
    frame = pd.DataFrame(dict(enumerate(keys)))
    return len(frame) / max(int((~frame.duplicated()).sum()), 1)


def _n_times(code: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Return the number of distinct times of the table between the first and the last row of each level."""
    groups = pd.Series(time).groupby(code)
    return np.asarray(groups.max() - groups.min() + 1)


def _density(code: np.ndarray, time: np.ndarray) -> float:
    pairs = pd.DataFrame({"code": code, "time": time}).drop_duplicates()
    return float(len(pairs) / _n_times(code, time).sum())


def find_wide(frame: pd.DataFrame) -> Choice[tuple[str, ...]]:
    """Return the columns that are series of one quantity; none if they are different variables.

    Args:
        frame: the numeric columns that vary, one row per time.
    """
    names = [str(name) for name in frame]
    targets = [name for name in names if target_rank(name)]
    if targets and len(names) <= _MAX_NAMED and len(targets) < len(names) / 2:
        return Choice((), f"{format_names(targets)} is named like a target")
    stems = {re.sub(r"[\W_]*\d+$", "", name) for name in names}
    if len(stems) == 1 and len(names) >= 2 and all(name[-1:].isdigit() for name in names):
        return Choice(tuple(names), f"{len(names)} numbered columns of one name")
    similarity = _similarity(frame) if len(names) >= 4 else ""
    if similarity:
        return Choice(tuple(names), f"{len(names)} columns that look like one quantity: {similarity}")
    return Choice((), "columns of different quantities")


def _similarity(frame: pd.DataFrame) -> str:
    """Describe how similar the columns are in sign, size and relative spread; empty if they are not."""
    numbers = frame.astype("float64")
    size = numbers.abs().median().replace(0, np.nan)
    relative = (numbers.quantile(0.75) - numbers.quantile(0.25)) / size
    signed = (numbers < 0).any()
    ratio, spread = size.max() / size.min(), relative.max() / max(float(relative.min()), 1e-9)
    if signed.nunique() > 1 or size.isna().any() or not (ratio <= 20 and spread <= 5):
        return ""
    sign = "both signs" if signed.all() else "none negative"
    return f"{sign}, medians within a factor of {ratio:.1f}, relative spread within {spread:.1f}"
