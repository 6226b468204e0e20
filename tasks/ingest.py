"""Step 1: source → canonical table."""

from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table, ingest_table
from tasks.settings import store_folder


@task(cache_policy=NO_CACHE, persist_result=False)
def ingest(config: PipelineConfig) -> Table:
    """Read, check and store the table. An unchanged source is not read again.

    Raises:
        DataError: the source or its content breaks a rule.
    """
    return ingest_table(config.data, store_folder("work"), store_folder("downloads"))
