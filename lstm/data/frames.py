"""DataFrames as sources: they are stored as files, so that a run can be reproduced."""

import hashlib
import os
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa

from lstm.errors import DataError


def store_frame(frame: pd.DataFrame, work: Path) -> Path:
    """Write a frame to a Parquet file in `work`, named by its content, and return the path.

    A named index becomes columns.

    Raises:
        DataError: `frame` is not a DataFrame, or a column can't be stored as Parquet.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"frame: must be a pandas DataFrame, but is a {type(frame).__name__}.")
    named = any(name is not None for name in frame.index.names)
    with tempfile.TemporaryDirectory(prefix=".frame-", dir=work) as scratch:
        file = Path(scratch) / "frame.parquet"
        try:
            (frame.reset_index() if named else frame).to_parquet(file, index=False)
        except (pa.ArrowException, ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"frame: can't be stored ({reason}). Give each column one type and a name that is text."
            ) from None
        path = work / f"frame-{hashlib.sha256(file.read_bytes()).hexdigest()[:16]}.parquet"
        os.replace(file, path)
    return path
