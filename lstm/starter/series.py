"""Which columns of an unknown table tell its series apart: ids of a long table, or the columns of a wide one."""

import re

import numpy as np
import pandas as pd

from lstm.starter.names import Choice, listed, says_id, target_rank

_CROWD = 1.05  # rows a series and time: above it more must tell the rows apart than a few duplicates
_SHARE = 20  # a name that hints at a target decides nothing among more columns than so many


def find_ids(frame: pd.DataFrame, moments: np.ndarray) -> Choice[tuple[str, ...]]:
    """The columns that together with the time tell the rows apart; none where the time alone does.

    Args:
        frame: candidates among other columns.
        moments: (rows,) datetime64, when each row is.
    """
    time = pd.factorize(moments, sort=True)[0]
    codes = {name: pd.factorize(frame[name])[0] for name in map(str, frame) if _may_be_id(frame[name])}
    spread = {name: _density(code, time) for name, code in codes.items()}
    if _crowd([time]) <= _CROWD:
        return _sensors(codes, time)
    codes = {name: code for name, code in codes.items() if spread[name] >= _least_density(frame[name])}
    text = frame.columns[[not _is_number(frame[name]) for name in map(str, frame)]]
    chosen: list[str] = []
    left = _crowd([time])
    while left > _CROWD and len(chosen) < len(codes):
        after = {name: _crowd([time, *(codes[one] for one in (*chosen, name))]) for name in codes if name not in chosen}
        best = min(after, key=lambda name: (round(after[name], 2), not says_id(name), name not in text))
        if after[best] > _CROWD and left / after[best] < 1.5:
            break
        chosen, left = [*chosen, best], after[best]
    chosen = _needed(chosen, codes, time, left)
    reason = f"{_crowd([time]):.3g} rows a time, one for each {' and '.join(map(repr, chosen))}"
    return Choice(tuple(chosen), reason if chosen else "nothing tells several rows of one time apart")


def _needed(chosen: list[str], codes: dict[str, np.ndarray], time: np.ndarray, left: float) -> list[str]:
    """The ids without those that the others make superfluous."""
    for name in list(chosen):
        rest = [one for one in chosen if one != name]
        if rest and _crowd([time, *(codes[one] for one in rest)]) <= left:
            chosen = rest
    return chosen


def _sensors(codes: dict[str, np.ndarray], time: np.ndarray) -> Choice[tuple[str, ...]]:
    """Series that are hardly ever measured at the same moment: only a name tells them, and what the rows do."""
    for name, code in codes.items():
        lengths = np.bincount(code)
        parted = _crowd([time]) > 1 and _crowd([time, code]) == 1
        woven = _spans(code, time).sum() >= 1.5 * len(time)
        if says_id(name) and lengths.mean() >= 20 and (parted or woven):
            return Choice((name,), f"{len(lengths)} series, most of their times their own")
    return Choice((), "one row a time")


def _may_be_id(raw: pd.Series) -> bool:
    if raw.isna().any() or pd.api.types.is_bool_dtype(raw) or pd.api.types.is_float_dtype(raw):
        return False
    levels = raw.nunique()
    flag = _is_number(raw) and set(raw.unique()) <= {0, 1} and not says_id(str(raw.name))
    return not flag and 2 <= levels <= len(raw) / (10 if _is_number(raw) else 4)


def _least_density(raw: pd.Series) -> float:
    """An id is there at most of the times of its span; a reading comes and goes."""
    return 0.0 if says_id(str(raw.name)) else 0.5 if _is_number(raw) else 0.05


def _is_number(raw: pd.Series) -> bool:
    return bool(pd.api.types.is_numeric_dtype(raw))


def _crowd(keys: list[np.ndarray]) -> float:
    """Rows for each distinct combination of keys."""
    frame = pd.DataFrame(dict(enumerate(keys)))
    return len(frame) / max(int((~frame.duplicated()).sum()), 1)


def _spans(code: np.ndarray, time: np.ndarray) -> np.ndarray:
    """Distinct times of the table between the first and the last row of each level."""
    groups = pd.Series(time).groupby(code)
    return np.asarray(groups.max() - groups.min() + 1)


def _density(code: np.ndarray, time: np.ndarray) -> float:
    pairs = pd.DataFrame({"code": code, "time": time}).drop_duplicates()
    return float(len(pairs) / _spans(code, time).sum())


def find_wide(frame: pd.DataFrame) -> Choice[tuple[str, ...]]:
    """The columns that are each a series of the same quantity; none where they are different variables.

    Args:
        frame: the numeric columns that vary, one row a time.
    """
    names = [str(name) for name in frame]
    hinted = [name for name in names if target_rank(name)]
    if hinted and len(names) <= _SHARE and len(hinted) < len(names) / 2:
        return Choice((), f"{listed(hinted)} is called as a target")
    stems = {re.sub(r"[\W_]*\d+$", "", name) for name in names}
    if len(stems) == 1 and len(names) >= 2 and all(name[-1:].isdigit() for name in names):
        return Choice(tuple(names), f"{len(names)} numbered columns of one name")
    alike = _alike(frame) if len(names) >= 4 else ""
    if alike:
        return Choice(tuple(names), f"{len(names)} columns that look like one quantity: {alike}")
    return Choice((), "columns of different quantities")


def _alike(frame: pd.DataFrame) -> str:
    """How columns look alike: their sign, their size and their spread in relation to it; empty where they don't."""
    numbers = frame.astype("float64")
    size = numbers.abs().median().replace(0, np.nan)
    relative = (numbers.quantile(0.75) - numbers.quantile(0.25)) / size
    signed = (numbers < 0).any()
    ratio, spread = size.max() / size.min(), relative.max() / max(float(relative.min()), 1e-9)
    if signed.nunique() > 1 or size.isna().any() or not (ratio <= 20 and spread <= 5):
        return ""
    sign = "both signs" if signed.all() else "none negative"
    return f"{sign}, medians within a factor of {ratio:.1f}, relative spread within {spread:.1f}"
