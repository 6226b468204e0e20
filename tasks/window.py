"""Panel → one set of arrays a split, with the rows at which its windows may start to forecast."""

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
from tasks.handles import PanelHandle, WindowsHandle, key_of
from tasks.settings import folder, mark_used, whole_folder

_CODE = "windows/2"  # changes when the same panel makes other splits


@task(cache_policy=NO_CACHE, persist_result=False)
def window(config: PipelineConfig, panel: PanelHandle, work: Path | None = None) -> WindowsHandle:
    """Cut the panel into train, validation and test, and count the windows of each.

    Validation and test windows all have the look-back of the search's longest, so that every trial is
    scored on the same origins. Their look-back may reach over the border; their targets do not. They are kept in
    `work`, by default among the local stores.

    Raises:
        DataError: a split has no window.
    """
    lookback = max(config.longest_lookback, config.evaluate.season)
    horizon, stride = config.window.horizon, config.window.stride
    store = PanelStore.load(panel.folder)
    target = (work or folder("work")) / f"windows-{key_of(_CODE, panel.key, lookback)[:16]}"
    mark_used(target)
    if not all(SplitArrays.is_whole(target / split) for split in store.cuts.spans):
        shutil.rmtree(target, ignore_errors=True)
        with whole_folder(target) as making:
            write_splits(store, lookback, making)
    counts: dict[str, int] = {}
    with_window = np.zeros(len(store.names), bool)
    for split in store.cuts.spans:
        arrays, counts[split] = SplitArrays.load(target / split), 0
        thinned = stride if split == "train" else 1
        for origins in origin_blocks(arrays.segment, lookback, horizon, thinned, arrays.allowed):
            counts[split] += len(origins)
            with_window[arrays.series[origins]] = True
    check_window_counts(counts, config, store.cuts)
    too_short = tuple(name for name, found in zip(store.names, with_window, strict=True) if not found)
    return WindowsHandle(target, **counts, n_known=store.n_known, n_series=len(store.names), too_short=too_short)
