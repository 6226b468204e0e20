"""Filter of rows by the values of columns (`data.where`).

Values are compared by their text, except that numbers of the same value are equal whatever their type: 1, 1.0 and "1"
are equal, and so are true and "True"; "01" is an id and equals only "01".
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from lstm.errors import DataError

_WHOLE = re.compile(r"(-?(?:0|[1-9]\d*))\.0*")  # 1.0 and 1. are 1
_FRACTION = re.compile(r"(-?(?:0|[1-9]\d*)\.\d*[1-9])0+")  # 1.50 is 1.5
_TRUTHS = {"True": "true", "TRUE": "true", "False": "false", "FALSE": "false"}


def comparison_key(value: Any) -> str:
    """Return the text that a value is compared by; equal values have the same one."""
    text = str(value)
    match = _WHOLE.fullmatch(text) or _FRACTION.fullmatch(text)
    text = match[1] if match else _TRUTHS.get(text, text)
    return "0" if text == "-0" else text


def comparison_codes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """Return the code of each row, (rows,) int64, and the comparison keys that codes index; -1: no value.

    Raises:
        DataError: the column holds lists or mappings.
    """
    try:
        codes, values = pd.factorize(column)
    except TypeError:
        raise DataError(f"column {column.name!r}: holds lists or mappings. Name a column of single values.") from None
    texts = [comparison_key(value) for value in values]
    missing = [code for code, text in enumerate(texts) if not text.strip()]
    return np.where(np.isin(codes, missing), -1, codes), texts


class RowFilter:
    """Selects rows of one chunk after the other, and tracks which of the wanted values occurred."""

    def __init__(self, where: Mapping[str, tuple[Any, ...]]) -> None:
        """Select the rows in which each column of `where` has one of its values."""
        self.wanted = {column: {comparison_key(value): value for value in values} for column, values in where.items()}
        self.any_kept = False  # whether any row was selected
        self._unseen = {column: set(values) for column, values in self.wanted.items()}

    def mask(self, frame: pd.DataFrame) -> np.ndarray:
        """Return which rows are selected, (rows,) bool."""
        mask = np.ones(len(frame), bool)
        for column, values in self.wanted.items():
            codes, texts = comparison_codes(frame[column])
            mask &= np.isin(codes, [code for code, text in enumerate(texts) if text in values])
            self._unseen[column] -= {texts[code] for code in np.unique(codes) if code >= 0}
        self.any_kept |= bool(mask.any())
        return mask

    @property
    def unseen(self) -> tuple[str, Any] | None:
        """A column and a wanted value that has not occurred so far; None: all have."""
        unseen = ((column, self.wanted[column][min(keys)]) for column, keys in self._unseen.items() if keys)
        return next(unseen, None)


def may_contain(low: Any, high: Any, values: Mapping[str, Any]) -> bool:
    """Return whether a column with this minimum and maximum may hold one of `values`, given by comparison key."""
    if isinstance(low, str):
        return any(_number(text) is not None or text in _TRUTHS.values() or low <= text <= high for text in values)
    if isinstance(low, int | float) and not isinstance(low, bool):
        return any(low <= number <= high for number in map(_number, values) if number is not None)
    return True


def _number(text: str) -> int | float | None:
    try:
        return int(text) if _WHOLE.fullmatch(f"{text}.") else float(text)  # int: exact beyond 2**53
    except ValueError:
        return None
