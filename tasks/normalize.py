"""Table → panel on a regular grid, scaled with the statistics of the training span."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.data.panel import Panel, build_panel
from lstm.data.scaling import PanelNormalizer
from lstm.data.splits import Cuts, cut
from lstm.durations import duration
from lstm.pipeline_config import PipelineConfig
from tasks.handles import PanelHandle, TableHandle, key_of
from tasks.settings import folder, whole_folder

_ARRAYS = ("causal", "segment", "series", "times")


@task(cache_policy=NO_CACHE, persist_result=False)
def normalize(config: PipelineConfig, table: TableHandle) -> PanelHandle:
    """Grid, fill and scale; a panel made before from the same table and settings is used again.

    Raises:
        DataError: nothing is left to train on, or a series or column has no value in the training span.
    """
    parts = [part.model_dump(mode="json", exclude={"source"}) for part in (config.data, config.split, config.normalize)]
    key = key_of("panel/1", table.sha256, *parts)
    target = folder("work") / f"panel-{key[:16]}"
    if not target.exists():
        panel = build_panel(pd.read_parquet(table.path), config.data)
        cuts = cut(panel.times, duration(config.data.frequency), config.split)
        training = (panel.times >= cuts.start) & (panel.times < cuts.validation)
        normalizer = PanelNormalizer.fit(panel.rows(training), config.normalize, len(config.data.target))
        with whole_folder(target) as making:
            _write(making, panel, normalizer, cuts)
    return PanelHandle(target, key, len(np.load(target / "times.npy", mmap_mode="r")))


def _write(making: Path, panel: Panel, normalizer: PanelNormalizer, cuts: Cuts) -> None:
    np.save(making / "features.npy", normalizer.features(panel))
    np.save(making / "targets.npy", normalizer.targets(panel))
    for name in _ARRAYS:
        np.save(making / f"{name}.npy", getattr(panel, name))
    description = {
        "normalizer": normalizer.to_dict(),
        "names": panel.names,
        "columns": panel.columns,
        "n_known": panel.n_known,
        "cuts": {name: str(getattr(cuts, name)) for name in ("start", "validation", "test", "end")},
    }
    (making / "panel.json").write_text(json.dumps(description), encoding="utf-8")
