"""Rows of a source that are kept by what a column holds (`data.where`), and the segments it falls into.

Two values are the same where their texts are, or where both are numbers of the same value, however typed and written:
1, 1.0 and "1" are the same, and so are true and "True"; "01" is an id and the same as "01" alone.
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
    """The text that a value is compared by: of two that are the same it is the same."""
    text = str(value)
    found = _WHOLE.fullmatch(text) or _FRACTION.fullmatch(text)
    text = found[1] if found else _TRUTHS.get(text, text)
    return "0" if text == "-0" else text


def comparison_codes(column: pd.Series) -> tuple[np.ndarray, list[str]]:
    """For each row the place of its value among the texts returned beside; -1 where it has none."""
    try:
        codes, values = pd.factorize(column)
    except TypeError:
        raise DataError(f"column {column.name!r}: holds lists or mappings. Name a column of single values.") from None
    texts = [comparison_key(value) for value in values]
    missing = [place for place, text in enumerate(texts) if not text.strip()]
    return np.where(np.isin(codes, missing), -1, codes), texts


class RowFilter:
    """Chooses rows of one chunk after the other, and knows which of the wanted values have come."""

    def __init__(self, where: Mapping[str, tuple[Any, ...]]) -> None:
        """Choose rows in which every column of `where` holds one of its values."""
        self.wanted = {column: {comparison_key(value): value for value in values} for column, values in where.items()}
        self.any_kept = False  # whether any row was kept
        self._awaited = {column: set(values) for column, values in self.wanted.items()}

    def mask(self, frame: pd.DataFrame) -> np.ndarray:
        """Whether each row is kept, (rows,) bool."""
        mask = np.ones(len(frame), bool)
        for column, values in self.wanted.items():
            codes, texts = comparison_codes(frame[column])
            mask &= np.isin(codes, [place for place, text in enumerate(texts) if text in values])
            self._awaited[column] -= {texts[code] for code in np.unique(codes) if code >= 0}
        self.any_kept |= bool(mask.any())
        return mask

    @property
    def unseen(self) -> tuple[str, Any] | None:
        """A column and a wanted value that no row held so far; None: every one was there."""
        return next(((column, self.wanted[column][min(left)]) for column, left in self._awaited.items() if left), None)


def may_contain(low: Any, high: Any, values: Mapping[str, Any]) -> bool:
    """Whether a column between `low` and `high` may hold one of the values, by the texts they are compared by."""
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
