"""What the data are, what was changed or left out, and whether an LSTM is the tool for them."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.data.splits import Cuts, unused_rows
from lstm.errors import DataError
from lstm.profiling.advice import Advisory, advise
from lstm.profiling.profile import Profile, profile
from tasks.handles import PanelHandle, WindowsHandle
from tasks.reporting import data_plots
from tasks.reporting.plotting import save_plots
from tasks.run_context import RunContext
from tasks.settings import run_folder
from tasks.tracking import runs

_NAMED = 5  # of a long list
_METRICS = (
    *("rows", "series", "steps", "missing_share", "filled_share", "gaps", "longest_gap", "left_out", "outliers"),
    *("drift_psi_max", "drift_ks_max", "median_trend_strength", "median_season_strength"),
)


@dataclass(frozen=True)
class Description:
    """A profile, and what follows from it."""

    profile: Profile
    advisories: tuple[Advisory, ...]
    notices: tuple[str, ...]  # what was changed or left out


@task(cache_policy=NO_CACHE, persist_result=False)
def describe(
    config: PipelineConfig, table: Table, panel: PanelHandle, windows: WindowsHandle, strict: bool = False
) -> Description:
    """Profile the data, and hold them against the cases in which another method serves better.

    Raises:
        DataError: `strict`, and there is an advisory.
    """
    store = PanelStore.load(panel.folder)
    found = profile(table, store, config.data, config.evaluate.season)
    advisories = advise(found, config, windows.train, store)
    if strict and advisories:
        raise DataError(f"{' '.join(map(str, advisories))} Drop --strict to train all the same.")
    return Description(found, advisories, _notices(config, table, panel, windows, found, store.cuts))


@task(cache_policy=NO_CACHE, persist_result=False)
def log_profile(context: RunContext, described: Description) -> Description:
    """Tables and pictures below `profile/`, the main figures as metrics `data_*`, the advisories as a tag."""
    config, panel, run = context.config, context.panel, context.run
    found, place = described.profile, run_folder(run.run_id) / "profile"
    place.mkdir(parents=True, exist_ok=True)
    advisories = [asdict(advisory) for advisory in described.advisories]
    summary = {**found.summary, "notices": described.notices, "advisories": advisories}
    (place / "summary.json").write_text(json.dumps(summary, indent=1, allow_nan=False))
    found.series.to_csv(place / "series.csv", index=False)
    found.columns.to_csv(place / "columns.csv", index=False)
    save_plots(place, data_plots.plot_data(found, PanelStore.load(panel.folder), config))
    runs.client().log_artifacts(run.run_id, str(place), "profile")
    figures = {f"data_{name}": found.summary[name] for name in _METRICS}
    runs.log(run, {name: value for name, value in figures.items() if value is not None})
    checks = sorted({advisory.check for advisory in described.advisories})
    runs.tag(run, advisories=",".join(checks) or "none")
    return described


def _notices(
    config: PipelineConfig, table: Table, panel: PanelHandle, windows: WindowsHandle, found: Profile, cuts: Cuts
) -> tuple[str, ...]:
    notices = [*table.notices, *_unused(config, table, cuts), *_gaps(config, found)]
    for reason in dict.fromkeys(why for _, why in panel.left_out):
        names = [name for name, why in panel.left_out if why == reason]
        notices.append(f"{len(names)} series left out: {_listed(names)} ({reason})")
    if windows.too_short:
        lookback = max(config.longest_lookback, config.evaluate.season)
        notices.append(
            f"{len(windows.too_short)} series have no window of look-back {lookback} + horizon {config.window.horizon} "
            f"unbroken steps, and are left out: {_listed(windows.too_short)}"
        )
    return tuple(notices)


def _unused(config: PipelineConfig, table: Table, cuts: Cuts) -> list[str]:
    """What a split by row counts leaves over at the end of the data."""
    if config.data.frequency == "irregular":
        return []
    frequency = Frequency.parse(config.data.frequency, config.data.timezone)
    count = unused_rows(cuts, pd.Timestamp(table.last), frequency)
    if not count:
        return []
    newest = pd.Timestamp(frequency.shift(cuts.end, -1)).isoformat()
    return [
        f"split: {count} rows after {newest}Z are not used (row counts count from the start; use durations such as 30d "
        "to keep to the newest)"
    ]


def _gaps(config: PipelineConfig, found: Profile) -> list[str]:
    missing, filled = found.summary["missing"], found.summary["filled"]
    rule, notices = config.data.missing, []
    if filled:
        notices.append(
            f"{filled} of {found.summary['steps']} steps lacked a target and were filled (missing.method: "
            f"{rule.method}, max_gap: {rule.max_gap})"
        )
    if missing > filled:
        notices.append(
            f"{missing - filled} of {found.summary['steps']} steps lack a target and were not filled (missing.method: "
            f"{rule.method}, max_gap: {rule.max_gap}): no window crosses them"
        )
    return notices


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")
