"""Table → panel on a regular grid, scaled with the statistics of the training span."""

import shutil
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore, write_panel
from lstm.data.splits import Cuts, cut
from tasks.handles import PanelHandle, key_of
from tasks.settings import folder, mark_used, whole_folder

_CODE = "panel/3"  # changes when the same table makes another panel


@task(cache_policy=NO_CACHE, persist_result=False)
def normalize(config: PipelineConfig, table: Table) -> PanelHandle:
    """Grid, fill and scale; a panel made before from the same table and settings is used again.

    Raises:
        DataError: nothing is left to train on, no series has what a normaliser needs in the training span, or a
            target has no logarithm where one is asked for.
    """
    return panel_of(config, table)


def panel_of(config: PipelineConfig, table: Table, cuts: Cuts | None = None, work: Path | None = None) -> PanelHandle:
    """`normalize`, by cuts of its own (what lies after their end is not looked at), or in a folder of its own."""
    parts = [part.model_dump(mode="json", exclude={"source"}) for part in (config.data, config.split, config.normalize)]
    own = [] if cuts is None else [list(map(str, vars(cuts).values()))]
    key = key_of(_CODE, table.sha256, *parts, *own)
    target = (work or folder("work")) / f"panel-{key[:16]}"
    mark_used(target)
    if not PanelStore.is_whole(target):
        shutil.rmtree(target, ignore_errors=True)
        with whole_folder(target) as making:
            write_panel(table, config.data, config.normalize, cuts or cuts_of(config, table.first, table.last), making)
    panel = PanelStore.load(target)
    return PanelHandle(target, key, len(panel.array("series")), tuple(panel.left_out.items()))


def cuts_of(config: PipelineConfig, first: str, last: str) -> Cuts:
    """Where `config.split` cuts rows from `first` to `last` (ISO 8601)."""
    return cut(pd.Timestamp(first), pd.Timestamp(last), frequency_of(config), config.split)


def frequency_of(config: PipelineConfig) -> Frequency | None:
    """Of the configuration's grid; None: its rows are irregular."""
    data = config.data
    return None if data.frequency == "irregular" else Frequency.parse(data.frequency, data.timezone)
