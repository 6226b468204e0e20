"""Step 3: panel → arrays of each split, and the rows from which its windows may forecast."""

import shutil
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.origins import origin_blocks
from lstm.data.panel_store import PanelStore, write_splits
from lstm.data.splits import check_window_counts
from tasks.handles import PanelHandle, WindowsHandle, content_key
from tasks.settings import atomic_folder, mark_used, store_folder

_CODE = "windows/2"  # change it when the same panel gives other splits


@task(cache_policy=NO_CACHE, persist_result=False)
def window(config: PipelineConfig, panel: PanelHandle, work: Path | None = None) -> WindowsHandle:
    """Cut the panel into train, validation and test, and count the windows of each.

    All windows have the longest lookback of the search, so that every trial is scored on the same origins. The
    lookback of validation and test windows may reach across the cut; their targets do not.

    Args:
        config: with defaults.
        panel: of the same configuration.
        work: folder for the arrays; default: the local store.

    Raises:
        DataError: a split has no window.
    """
    lookback = max(config.longest_lookback, config.evaluate.season)
    horizon, stride = config.window.horizon, config.window.stride
    store = PanelStore.load(panel.folder)
    target = (work or store_folder("work")) / f"windows-{content_key(_CODE, panel.key, lookback)[:16]}"
    mark_used(target)
    if not all(SplitArrays.is_complete(target / split) for split in store.cuts.spans):
        shutil.rmtree(target, ignore_errors=True)
        with atomic_folder(target) as folder:
            write_splits(store, lookback, folder)
    counts: dict[str, int] = {}
    has_window = np.zeros(len(store.names), bool)
    for split in store.cuts.spans:
        arrays, counts[split] = SplitArrays.load(target / split), 0
        split_stride = stride if split == "train" else 1
        for origins in origin_blocks(arrays.segment, lookback, horizon, split_stride, arrays.allowed):
            counts[split] += len(origins)
            has_window[arrays.series[origins]] = True
    check_window_counts(counts, config, store.cuts)
    too_short = tuple(name for name, has in zip(store.names, has_window, strict=True) if not has)
    return WindowsHandle(target, **counts, n_known=store.n_known, n_series=len(store.names), too_short=too_short)
