"""Source → canonical table. Every rule about the data is checked here, before anything is made of it."""

import os

from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.data.table import SERIES, canonical, fingerprint, read_source
from lstm.pipeline_config import PipelineConfig
from tasks.handles import TableHandle
from tasks.settings import folder


@task(cache_policy=NO_CACHE, persist_result=False)
def ingest(config: PipelineConfig) -> TableHandle:
    """Read, check and store the table; a table that is already there is not written again.

    Raises:
        DataError: the source or its content breaks a rule.
    """
    frame, name = read_source(config.data.source, config.data.series)
    table = canonical(frame, config.data, name)
    sha256 = fingerprint(table)
    path = folder("work") / f"table-{sha256[:16]}.parquet"
    if not path.exists():
        beside = path.with_suffix(f".{os.getpid()}")
        table.to_parquet(beside)
        os.replace(beside, path)
    return TableHandle(path, sha256, len(table), table[SERIES].nunique())
