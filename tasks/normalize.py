"""Table → panel on a regular grid, scaled with the statistics of the training span."""

import shutil

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.data.frequency import Frequency
from lstm.data.ingest import Table
from lstm.data.splits import cut
from lstm.data.store import PanelStore, write_panel
from lstm.pipeline_config import PipelineConfig
from tasks.handles import PanelHandle, key_of
from tasks.settings import folder, whole_folder

_CODE = "panel/3"  # changes when the same table makes another panel


@task(cache_policy=NO_CACHE, persist_result=False)
def normalize(config: PipelineConfig, table: Table) -> PanelHandle:
    """Grid, fill and scale; a panel made before from the same table and settings is used again.

    Raises:
        DataError: nothing is left to train on, no series has what a normaliser needs in the training span, or a
            target has no logarithm where one is asked for.
    """
    parts = [part.model_dump(mode="json", exclude={"source"}) for part in (config.data, config.split, config.normalize)]
    key = key_of(_CODE, table.sha256, *parts)
    target = folder("work") / f"panel-{key[:16]}"
    if not PanelStore.is_whole(target):
        shutil.rmtree(target, ignore_errors=True)
        data = config.data
        frequency = None if data.frequency == "irregular" else Frequency.parse(data.frequency, data.timezone)
        cuts = cut(pd.Timestamp(table.first), pd.Timestamp(table.last), frequency, config.split)
        with whole_folder(target) as making:
            write_panel(table, data, config.normalize, cuts, making)
    panel = PanelStore.load(target)
    return PanelHandle(target, key, len(panel.array("series")), tuple(panel.left_out.items()))
