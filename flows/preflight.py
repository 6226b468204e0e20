"""Find errors of devices, data and splits before a Prefect server is started.

Nothing here imports Prefect, which reads its server's address when it is imported.
"""

import numpy as np
import pandas as pd

from lstm.config.pipeline import PipelineConfig
from lstm.config.source import SqlSource
from lstm.data.ingest import Table, ingest_table
from lstm.data.splits import Cuts, check_window_counts, compute_cuts
from lstm.presets.presets import with_defaults
from lstm.profiling.run_lengths import RunLengths
from tasks.partitions import partition_configs
from tasks.settings import store_folder


def check_input(config: PipelineConfig) -> None:
    """Check packages, devices, table and splits of a configuration; the flow reuses the stored table.

    Raises:
        ConfigError: a package or a device is missing, or more workers are asked for than there are cores.
        DataError: the source or its content breaks a rule, or a split is too short for a window.
    """
    _check_baselines(config)
    _check_devices(config)
    if isinstance(config.data.source, SqlSource):
        return  # the query would be run twice
    if config.data.partition_by:
        partition_configs(config)
        return
    _check_splits(config, ingest_table(config.data, store_folder("work"), store_folder("downloads")))


def _check_baselines(config: PipelineConfig) -> None:
    """Check baselines that are set: the default ones need no further package."""
    if "baselines" in config.explicit_values.get("evaluate", {}):
        from lstm.evaluation.baselines import check_baselines  # imports torch, which takes seconds

        check_baselines(config.evaluate.baselines)


def _check_devices(config: PipelineConfig) -> None:
    """Check a device, a precision or a number of workers that is set: the defaults suit every machine."""
    model = config.explicit_values.get("model", {})
    defaults = model.get("device", "auto") in ("auto", "cpu") and model.get("precision", "auto") in ("auto", "fp32")
    if config.execution.runner != "local" or (defaults and config.search.workers == "auto"):
        return
    from tasks.search.worker_pool import search_devices  # imports torch, which takes seconds

    search_devices(with_defaults(config))


def _check_splits(config: PipelineConfig, table: Table) -> None:
    """Check that a series without gaps would have windows in every split. Only the panel knows the gaps."""
    config = config.with_frequency(table.frequency)
    frequency = config.data.grid
    cuts = compute_cuts(pd.Timestamp(table.first), pd.Timestamp(table.last), frequency, config.split)
    if frequency is None or frequency.unit not in (None, "D"):
        return  # the number of rows in a span does not follow from its length
    rows = _unbroken(cuts, pd.Timestamp(table.first), frequency.step)
    config = with_defaults(config, rows)
    lookback = max(config.longest_lookback, config.evaluate.season)
    # One step of slack: a day has 23 to 25 hours, and the grids of series may be shifted.
    counts = rows.windows(lookback, config.window.horizon - 1)
    check_window_counts(dict(zip(cuts.spans, counts, strict=True)), config, cuts)


def _unbroken(cuts: Cuts, first: pd.Timestamp, step: pd.Timedelta) -> RunLengths:
    """Return the run lengths of one series without gaps that begins at `first`."""
    begin = first.tz_convert("UTC").tz_localize(None)
    moments = (pd.Timestamp(moment) for moment in (cuts.start, cuts.validation, cuts.test, cuts.end))
    rows = [max(-((begin - moment) // step), 0) for moment in moments]  # rounded up
    start, validation, test, end = np.array(rows, np.int64)[:, None]
    return RunLengths(start, validation, test, end)
