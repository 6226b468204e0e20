"""Step 2: table → panel on a time grid, scaled with the statistics of the training span."""

import shutil
from pathlib import Path

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore, write_panel
from lstm.data.splits import Cuts, compute_cuts
from tasks.handles import PanelHandle, content_key
from tasks.settings import atomic_folder, mark_used, store_folder

_CODE = "panel/3"  # change it when the same table gives another panel


@task(cache_policy=NO_CACHE, persist_result=False)
def normalize(config: PipelineConfig, table: Table) -> PanelHandle:
    """Put the series on the grid, fill and scale them. A stored panel of the same table and settings is reused.

    Raises:
        DataError: there are no training rows, no series can be normalised, or a target with `normalize.log` has no
            logarithm.
    """
    return prepare_panel(config, table)


def prepare_panel(
    config: PipelineConfig, table: Table, cuts: Cuts | None = None, work: Path | None = None
) -> PanelHandle:
    """Write the panel, or reuse a stored one.

    Args:
        config: with `data`, `split` and `normalize`.
        table: canonical.
        cuts: default: as `config.split` says. Rows after their end are ignored.
        work: folder for the panel; default: the local store.
    """
    sections = (config.data, config.split, config.normalize)
    settings = [section.model_dump(mode="json", exclude={"source"}) for section in sections]
    given_cuts = [] if cuts is None else [list(map(str, vars(cuts).values()))]
    key = content_key(_CODE, table.sha256, *settings, *given_cuts)
    target = (work or store_folder("work")) / f"panel-{key[:16]}"
    mark_used(target)
    if not PanelStore.is_complete(target):
        shutil.rmtree(target, ignore_errors=True)
        cuts = cuts or split_cuts(config, table.first, table.last)
        with atomic_folder(target) as folder:
            write_panel(table, config.data, config.normalize, cuts, folder)
    panel = PanelStore.load(target)
    return PanelHandle(target, key, len(panel.array("series")), tuple(panel.left_out.items()))


def split_cuts(config: PipelineConfig, first: str, last: str) -> Cuts:
    """Return where `config.split` cuts rows from `first` to `last` (ISO 8601)."""
    return compute_cuts(pd.Timestamp(first), pd.Timestamp(last), config.data.grid, config.split)
