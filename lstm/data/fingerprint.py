"""The fingerprint of a canonical table: the sha256 that keys caches, studies and provenance."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from lstm.data.rows import SERIES, TIME


class Fingerprint:
    """sha256 of a canonical table, computed piece by piece, independent of the source's row and column order."""

    def __init__(self) -> None:
        """Start without rows."""
        self._columns: dict[str, Any] = {}
        self._names = hashlib.sha256()
        self._current: tuple[str, int] = ("", 0)  # the last series so far, and its rows

    def update(self, table: pd.DataFrame) -> None:
        """Add the next piece, in canonical order."""
        for column in table.columns:
            if column == SERIES:
                self._add_series(table[SERIES])
                continue
            digest = self._columns.setdefault(column, hashlib.sha256())
            values = table[column]
            if column == TIME:
                digest.update(values.to_numpy("datetime64[us]").tobytes())
            elif pd.api.types.is_float_dtype(values):
                numbers = values.to_numpy("float64")
                # One bit pattern for NaN, and one for zero.
                digest.update(np.where(np.isnan(numbers), np.nan, numbers + 0.0).tobytes())
            else:
                digest.update("".join(f"{text}\0" for text in values.fillna("\1")).encode())

    def _add_series(self, names: pd.Series) -> None:
        starts = np.flatnonzero((names != names.shift()).to_numpy(bool))
        for start, count in zip(starts, np.diff(np.r_[starts, len(names)]), strict=True):
            name = str(names.iloc[start])
            if name == self._current[0]:
                self._current = (name, self._current[1] + int(count))
            else:
                self._end_series()
                self._current = (name, int(count))

    def _end_series(self) -> None:
        if self._current[1]:
            self._names.update(f"{self._current[0]}\0{self._current[1]}\0".encode())

    def hexdigest(self) -> str:
        """Return the digest of all pieces. Nothing can be added afterwards."""
        self._end_series()
        total = hashlib.sha256(self._names.digest())
        for column in sorted(self._columns):
            total.update(column.encode() + b"\0" + self._columns[column].digest())
        return total.hexdigest()


def fingerprint(table: pd.DataFrame) -> str:
    """Return the fingerprint of a canonical table in memory."""
    digest = Fingerprint()
    digest.update(table)
    return digest.hexdigest()
