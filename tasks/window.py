"""Panel → one set of arrays a split, with the rows at which its windows may start to forecast."""

import json
from pathlib import Path

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.data.arrays import SplitArrays
from lstm.data.windows import window_origins
from lstm.errors import DataError
from lstm.pipeline_config import PipelineConfig
from tasks.handles import PanelHandle, WindowsHandle, key_of
from tasks.settings import folder, whole_folder

_NAMES = ("features", "targets", "causal", "segment", "series", "times")


@task(cache_policy=NO_CACHE, persist_result=False)
def window(config: PipelineConfig, panel: PanelHandle) -> WindowsHandle:
    """Cut the panel into train, validation and test, and count the windows of each.

    Validation and test windows all have the look-back of the search's longest, so that every trial is
    scored on the same origins. Their look-back may reach over the border; their targets do not.

    Raises:
        DataError: a split has no window.
    """
    lookback = max(config.longest_lookback, config.evaluate.season)
    horizon, stride = config.window.horizon, config.window.stride
    description = json.loads((panel.folder / "panel.json").read_text(encoding="utf-8"))
    target = folder("work") / f"windows-{key_of('windows/1', panel.key, lookback, horizon)[:16]}"
    if not target.exists():
        with whole_folder(target) as making:
            _cut(panel, description["cuts"], lookback, horizon, making)
    counts = {"train": len(_origins(target / "train", lookback, horizon, stride))}
    for split in ("validation", "test"):
        counts[split] = len(_origins(target / split, lookback, horizon, 1))
    _check_counts(counts, lookback, horizon, description["cuts"])
    return WindowsHandle(target, **counts, n_known=description["n_known"])


def _cut(panel: PanelHandle, cuts: dict[str, str], lookback: int, horizon: int, making: Path) -> None:
    arrays = {name: np.load(panel.folder / f"{name}.npy", mmap_mode="r") for name in _NAMES}
    times, rows = arrays["times"], np.arange(len(arrays["times"]))
    causal_before = np.r_[True, arrays["causal"][:-1]]  # the last row that a window sees was not interpolated
    for split, start, end in (
        ("train", "start", "validation"),
        ("validation", "validation", "test"),
        ("test", "test", "end"),
    ):
        inside = (times >= np.datetime64(cuts[start])) & (times < np.datetime64(cuts[end]))
        kept = inside if split == "train" else inside | _just_before(inside, arrays["series"], lookback)
        allowed = inside & causal_before
        if split != "train":
            enough = np.isin(rows, window_origins(arrays["segment"], lookback, 1))
            allowed &= enough
        kept_arrays = {name: np.ascontiguousarray(array[kept]) for name, array in arrays.items() if name != "causal"}
        SplitArrays(**kept_arrays, allowed=allowed[kept]).save(making / split)


def _just_before(inside: np.ndarray, series: np.ndarray, lookback: int) -> np.ndarray:
    """The `lookback` rows of the same series before each first row inside."""
    before = np.zeros(len(inside), bool)
    for first in np.flatnonzero(inside & ~np.r_[False, inside[:-1] & (series[1:] == series[:-1])]):
        rows = slice(max(first - lookback, 0), first)
        before[rows] |= series[rows] == series[first]
    return before


def _origins(split: Path, lookback: int, horizon: int, stride: int) -> np.ndarray:
    arrays = SplitArrays.load(split)
    return window_origins(arrays.segment, lookback, horizon, stride, arrays.allowed)


def _check_counts(counts: dict[str, int], lookback: int, horizon: int, cuts: dict[str, str]) -> None:
    spans = {"train": ("start", "validation"), "validation": ("validation", "test"), "test": ("test", "end")}
    for split, count in counts.items():
        if not count:
            start, end = (cuts[name][:19] for name in spans[split])
            raise DataError(
                f"split {split} ({start} to {end}) holds no window of look-back {lookback} + window.horizon {horizon} "
                "rows without a gap. Shorten the horizon or the look-back, lengthen the split, or bring more data."
            )
