"""The content of a canonical table as one number: the key of caches, studies and lineage."""

import hashlib
from typing import Any

import numpy as np
import pandas as pd

from lstm.data.rows import SERIES, TIME


class Fingerprint:
    """sha256 of a canonical table, taken in piece by piece: the same for any order of the source's rows and columns."""

    def __init__(self) -> None:
        """Of no rows yet."""
        self._columns: dict[str, Any] = {}
        self._names = hashlib.sha256()
        self._open: tuple[str, int] = ("", 0)

    def update(self, table: pd.DataFrame) -> None:
        """Take in the next piece, in canonical order."""
        for column in table.columns:
            if column == SERIES:
                self._add_names(table[SERIES])
                continue
            digest = self._columns.setdefault(column, hashlib.sha256())
            values = table[column]
            if column == TIME:
                digest.update(values.to_numpy("datetime64[us]").tobytes())
            elif pd.api.types.is_float_dtype(values):
                numbers = values.to_numpy("float64")
                digest.update(np.where(np.isnan(numbers), np.nan, numbers + 0.0).tobytes())  # one NaN, one zero
            else:
                digest.update("".join(f"{text}\0" for text in values.fillna("\1")).encode())

    def _add_names(self, names: pd.Series) -> None:
        starts = np.flatnonzero((names != names.shift()).to_numpy(bool))
        for start, count in zip(starts, np.diff(np.r_[starts, len(names)]), strict=True):
            name = str(names.iloc[start])
            if name == self._open[0]:
                self._open = (name, self._open[1] + int(count))
            else:
                self._close()
                self._open = (name, int(count))

    def _close(self) -> None:
        if self._open[1]:
            self._names.update(f"{self._open[0]}\0{self._open[1]}\0".encode())

    def hexdigest(self) -> str:
        """Of all pieces; nothing can be added any more."""
        self._close()
        whole = hashlib.sha256(self._names.digest())
        for column in sorted(self._columns):
            whole.update(column.encode() + b"\0" + self._columns[column].digest())
        return whole.hexdigest()


def fingerprint(table: pd.DataFrame) -> str:
    """sha256 of a canonical table that is at hand as a whole."""
    digest = Fingerprint()
    digest.update(table)
    return digest.hexdigest()
