"""Source → canonical table. Every rule about the data is checked here, before anything is made of it."""

import hashlib
import os
import tempfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.data.ingest import Table, ingest_table
from lstm.errors import DataError
from lstm.pipeline_config import PipelineConfig
from tasks.settings import folder


@task(cache_policy=NO_CACHE, persist_result=False)
def ingest(config: PipelineConfig) -> Table:
    """Read, check and store the table; a source whose bytes were read before is not read again.

    Raises:
        DataError: the source or its content breaks a rule.
    """
    return ingest_table(config.data, folder("work"), folder("downloads"))


def stored(frame: pd.DataFrame) -> Path:
    """A Parquet file of a frame below the local stores, so that what was trained on it can be trained again.

    A named index becomes columns.

    Raises:
        DataError: it is no frame, or a column holds what Parquet can't.
    """
    if not isinstance(frame, pd.DataFrame):
        raise DataError(f"frame: must be a pandas DataFrame, but is a {type(frame).__name__}.")
    named = any(name is not None for name in frame.index.names)
    work = folder("work")
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
