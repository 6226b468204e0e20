"""Profile the data: statistics, notices of what was changed or left out, and advice."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.data.splits import Cuts, count_unused_rows
from lstm.errors import DataError
from lstm.profiling.advice import Advisory, advise
from lstm.profiling.profile import Profile, build_profile
from tasks.handles import PanelHandle, WindowsHandle
from tasks.reporting import data_plots
from tasks.reporting.plotting import save_plots
from tasks.run_context import RunContext
from tasks.settings import run_folder
from tasks.tracking import runs

_MAX_NAMES = 5  # of a list
_METRICS = (
    *("rows", "series", "steps", "missing_share", "filled_share", "gaps", "longest_gap", "left_out", "outliers"),
    *("drift_psi_max", "drift_ks_max", "median_trend_strength", "median_season_strength"),
)


@dataclass(frozen=True)
class Description:
    """The profile of the data, with advice and notices."""

    profile: Profile
    advisories: tuple[Advisory, ...]
    notices: tuple[str, ...]  # what was changed or left out


@task(cache_policy=NO_CACHE, persist_result=False)
def describe(
    config: PipelineConfig, table: Table, panel: PanelHandle, windows: WindowsHandle, strict: bool = False
) -> Description:
    """Profile the data, and look for reasons to use another method than an LSTM.

    Raises:
        DataError: `strict`, and there is such a reason.
    """
    store = PanelStore.load(panel.folder)
    profile = build_profile(table, store, config.data, config.evaluate.season)
    advisories = advise(profile, config, windows.train, store)
    if strict and advisories:
        raise DataError(f"{' '.join(map(str, advisories))} Drop --strict to train all the same.")
    notices = (
        *table.notices,
        *_unused_row_notices(config, table, store.cuts),
        *_gap_notices(config, profile),
        *_series_notices(config, panel, windows),
    )
    return Description(profile, advisories, notices)


@task(cache_policy=NO_CACHE, persist_result=False)
def log_profile(context: RunContext, description: Description) -> Description:
    """Log tables and plots below `profile/`, the main figures as metrics `data_*`, the advice as a tag."""
    run, profile = context.run, description.profile
    folder = run_folder(run.run_id) / "profile"
    folder.mkdir(parents=True, exist_ok=True)
    advisories = [asdict(advisory) for advisory in description.advisories]
    summary = {**profile.summary, "notices": description.notices, "advisories": advisories}
    (folder / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False))
    profile.series.to_csv(folder / "series.csv", index=False)
    profile.columns.to_csv(folder / "columns.csv", index=False)
    save_plots(folder, data_plots.plot_data(profile, PanelStore.load(context.panel.folder), context.config))
    runs.client().log_artifacts(run.run_id, str(folder), "profile")
    metrics = {f"data_{name}": profile.summary[name] for name in _METRICS}
    runs.log(run, {name: value for name, value in metrics.items() if value is not None})
    checks = sorted({advisory.check for advisory in description.advisories})
    runs.tag(run, advisories=",".join(checks) or "none")
    return description


def _series_notices(config: PipelineConfig, panel: PanelHandle, windows: WindowsHandle) -> Iterator[str]:
    for reason in dict.fromkeys(reason for _, reason in panel.left_out):
        names = [name for name, other in panel.left_out if other == reason]
        yield f"{len(names)} series left out: {_join_names(names)} ({reason})"
    if windows.too_short:
        lookback = max(config.longest_lookback, config.evaluate.season)
        yield (
            f"{len(windows.too_short)} series have no window of lookback {lookback} + horizon {config.window.horizon} "
            f"unbroken steps, and are left out: {_join_names(windows.too_short)}"
        )


def _unused_row_notices(config: PipelineConfig, table: Table, cuts: Cuts) -> Iterator[str]:
    """Yield a notice if a split by row counts leaves rows at the end of the data."""
    frequency = config.data.grid
    count = 0 if frequency is None else count_unused_rows(cuts, pd.Timestamp(table.last), frequency)
    if frequency is not None and count:
        newest = pd.Timestamp(frequency.shift(cuts.end, -1)).isoformat()
        yield (
            f"split: {count} rows after {newest}Z are not used (row counts count from the start; use durations such as "
            "30d to keep to the newest)"
        )


def _gap_notices(config: PipelineConfig, profile: Profile) -> Iterator[str]:
    steps, missing, filled = (profile.summary[name] for name in ("steps", "missing", "filled"))
    rule = f"missing.method: {config.data.missing.method}, max_gap: {config.data.missing.max_gap}"
    if filled:
        yield f"{filled} of {steps} steps lacked a target and were filled ({rule})"
    if missing > filled:
        yield f"{missing - filled} of {steps} steps lack a target and were not filled ({rule}): no window crosses them"


def _join_names(names: Sequence[str]) -> str:
    more = len(names) - _MAX_NAMES
    return ", ".join(names[:_MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
