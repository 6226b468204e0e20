"""The rows at which a window may start to forecast."""

from collections.abc import Iterator

import numpy as np

_BLOCK_ROWS = 1_000_000  # rows that are looked at in one go


def window_origins(
    segment: np.ndarray, sequence_length: int, horizon: int, stride: int = 1, allowed: np.ndarray | None = None
) -> np.ndarray:
    """Rows at which a whole window fits: look-back and horizon within one unbroken segment.

    Args:
        segment: (rows,) int, rising, equal for rows that follow each other without a break.
        sequence_length: rows a window looks back.
        horizon: rows a window forecasts; 0 where the future is not at hand.
        stride: keep every stride-th origin of a segment.
        allowed: (rows,) bool, further condition on the origin.

    Returns:
        (windows,) int64, rising.
    """
    blocks = origin_blocks(segment, sequence_length, horizon, stride, allowed)
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def origin_blocks(
    segment: np.ndarray, sequence_length: int, horizon: int, stride: int = 1, allowed: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """`window_origins`, some at a time: for counting more windows than should be in memory."""
    length = sequence_length + horizon
    for start in range(0, len(segment) - length + 1, _BLOCK_ROWS):
        # Segments are numbered in order: where both ends of a window have one number, so has all between.
        stop = min(start + _BLOCK_ROWS, len(segment) - length + 1)
        whole = segment[start:stop] == segment[start + length - 1 : stop + length - 1]
        if allowed is not None:
            whole = whole & allowed[start + sequence_length : stop + sequence_length]
        origins = np.flatnonzero(whole) + start + sequence_length
        if stride > 1:
            begins = np.searchsorted(segment, segment[origins - 1])
            origins = origins[(origins - begins - sequence_length) % stride == 0]
        yield origins
