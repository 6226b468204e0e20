"""A pandas frame as a source: it becomes a file, since a run has to find it again."""

import hashlib
import os
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lstm.errors import DataError


def store_frame(frame: pd.DataFrame, work: Path) -> Path:
    """A Parquet file of a frame in `work`, so that what was trained on it can be trained again.

    A named index becomes columns.

    Raises:
        DataError: it is no frame, or a column holds what Parquet can't.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"frame: must be a pandas DataFrame, but is a {type(frame).__name__}.")
    named = any(name is not None for name in frame.index.names)
    with tempfile.TemporaryDirectory(prefix=".frame-", dir=work) as scratch:
        made = Path(scratch) / "frame.parquet"
        try:
            (frame.reset_index() if named else frame).to_parquet(made, index=False)
        except (pa.ArrowException, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"frame: can't be stored ({reason}). Give each column one type, and a name of text."
            ) from None
        path = work / f"frame-{hashlib.sha256(made.read_bytes()).hexdigest()[:16]}.parquet"
        os.replace(made, path)
    return path
