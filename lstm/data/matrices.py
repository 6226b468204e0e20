"""Arrays that a caller brings, checked and in one form."""

from typing import Any

import numpy as np

from lstm.errors import DataError


def finite_matrix(X: Any) -> np.ndarray:  # noqa: N803
    """X as (rows, columns) float32.

    Raises:
        DataError: it holds something else than finite numbers, or has another shape.
    """
    x = _matrix(X, "X")
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = (int(place) for place in np.argwhere(bad)[0])
        raise DataError(
            f"X must be finite, but row {row}, column {column} is {x[row, column]}. Fill or leave out gaps."
        )
    return x


def target_matrix(y: Any) -> np.ndarray:
    """y as (rows, outputs) float32; NaN: not measured.

    Raises:
        DataError: it holds something else than numbers, one of them is infinite, or it has another shape.
    """
    targets = _matrix(y, "y")
    if np.isinf(targets).any():
        raise DataError(f"y must not be infinite, but row {int(np.isinf(targets).any(axis=1).argmax())} is.")
    return targets


def _matrix(values: Any, name: str) -> np.ndarray:
    try:
        if np.asarray(values).dtype.kind in "cMmUS":  # complex, times and text would be cast in silence
            raise TypeError
        matrix = np.array(values, dtype=np.float32, order="C")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise DataError(f"{name} must hold numbers only.") from None
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(f"{name} must have shape (rows, columns), but has {np.shape(values)}.")
    return matrix
