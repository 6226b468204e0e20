"""Origins of windows: the rows at which a forecast may start."""

from collections.abc import Iterator

import numpy as np

_BLOCK_ROWS = 1_000_000  # rows that are processed at a time


def window_origins(
    segment: np.ndarray, sequence_length: int, horizon: int, stride: int = 1, allowed: np.ndarray | None = None
) -> np.ndarray:
    """Return the rows at which a complete window fits: lookback and horizon within one segment.

    Args:
        segment: (rows,) int, ascending; rows that follow each other without a gap share a number.
        sequence_length: rows of history in a window.
        horizon: rows that a window forecasts; 0 where they are not in the arrays.
        stride: keep every stride-th origin of a segment.
        allowed: (rows,) bool, a further condition on the origin.

    Returns:
        (windows,) int64, ascending.
    """
    blocks = origin_blocks(segment, sequence_length, horizon, stride, allowed)
    return np.concatenate([np.zeros(0, np.int64), *blocks])


def origin_blocks(
    segment: np.ndarray, sequence_length: int, horizon: int, stride: int = 1, allowed: np.ndarray | None = None
) -> Iterator[np.ndarray]:
    """Yield `window_origins` in blocks, for more windows than fit into memory."""
    length = sequence_length + horizon
    for start in range(0, len(segment) - length + 1, _BLOCK_ROWS):
        # Segment numbers ascend: if both ends of a window share one, so do all rows between.
        stop = min(start + _BLOCK_ROWS, len(segment) - length + 1)
        complete = segment[start:stop] == segment[start + length - 1 : stop + length - 1]
        if allowed is not None:
            complete = complete & allowed[start + sequence_length : stop + sequence_length]
        origins = np.flatnonzero(complete) + start + sequence_length
        if stride > 1:
            segment_start = np.searchsorted(segment, segment[origins - 1])
            origins = origins[(origins - segment_start - sequence_length) % stride == 0]
        yield origins
