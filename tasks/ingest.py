"""Source → canonical table. Every rule about the data is checked here, before anything is made of it."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table, ingest_table
from tasks.settings import folder


@task(cache_policy=NO_CACHE, persist_result=False)
def ingest(config: PipelineConfig) -> Table:
    """Read, check and store the table; a source whose bytes were read before is not read again.

    Raises:
        DataError: the source or its content breaks a rule.
    """
    return ingest_table(config.data, folder("work"), folder("downloads"))
