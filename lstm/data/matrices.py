"""Arrays from callers: checked and converted to matrices."""

from typing import Any

import numpy as np

from lstm.errors import DataError


def finite_matrix(X: Any) -> np.ndarray:  # noqa: N803
    """Return X as (rows, columns) float32.

    Raises:
        DataError: X holds a value that is not a finite number, or has another shape.
    """
    x = as_matrix(X, "X", np.float32)
    bad = ~np.isfinite(x)
    if bad.any():
        row, column = (int(index) for index in np.argwhere(bad)[0])
        raise DataError(
            f"X must be finite, but row {row}, column {column} is {x[row, column]}. Fill or leave out gaps."
        )
    return x


def target_matrix(y: Any) -> np.ndarray:
    """Return y as (rows, outputs) float32, NaN where not measured.

    Raises:
        DataError: y holds a value that is not a number, or an infinite one, or has another shape.
    """
    targets = as_matrix(y, "y", np.float32)
    if np.isinf(targets).any():
        raise DataError(f"y must not be infinite, but row {int(np.isinf(targets).any(axis=1).argmax())} is.")
    return targets


def as_matrix(values: Any, name: str, dtype: type[np.floating[Any]]) -> np.ndarray:
    """Return a copy of `values`, (rows, columns) or (rows,), as a matrix; messages call it `name`.

    Raises:
        DataError: it holds something else than numbers, or has no rows, no columns or another shape.
    """
    try:
        if np.asarray(values).dtype.kind in "cMmUS":  # numpy would cast complex numbers, times and text silently
            raise TypeError
        matrix = np.array(values, dtype=dtype, order="C")
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise DataError(f"{name} must hold numbers only.") from None
    if matrix.ndim == 1:
        matrix = matrix[:, None]
    if matrix.ndim != 2 or 0 in matrix.shape:
        raise DataError(
            f"{name} must have shape (rows, columns) with at least one row and one column, but has {np.shape(values)}."
        )
    return matrix
