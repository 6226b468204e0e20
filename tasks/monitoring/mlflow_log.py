"""Log monitoring results to MLflow: one run per version, whose metrics and alarms are its history."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from lstm.calendars.durations import parse_duration
from lstm.config.pipeline import PipelineConfig
from lstm.errors import StoreError
from tasks.handles import RunHandle, content_key
from tasks.monitoring.plots import monitor_plot
from tasks.monitoring.result import MonitorResult
from tasks.reporting.plotting import save_plots
from tasks.runtime.json_values import nan_to_null
from tasks.tracking import runs

NEWEST, POINTS, ALARMS = "newest_day", "newest_points", "alarms"  # tags of the run
_MAX_ALARMS = 40  # kept in the tag


def log_monitoring(config: PipelineConfig, result: MonitorResult, alarm: bool) -> MonitorResult:
    """Log the result to the version's run `monitor-NAME-vN`, and decide whether to raise an alarm.

    The step of a metric is the model's age in days, its time the moment. If more values arrive on the same day, the
    day gets further points; a day before the newest one gets none. The plot and `monitor.json` show the newest
    moment. An alarm is raised once within `monitor.cooldown`; each version has its own run and cool-down.

    Args:
        config: of the model.
        result: with `alarmed` False.
        alarm: whether an alarm can be raised; if not, no cool-down begins.

    Returns:
        `result` with `alarmed` set.

    Raises:
        StoreError: the store does not answer.
    """
    try:
        run, tags = _monitor_run(config.name, result.version)
        alarms = [time for time in tags.get(ALARMS, "").split(",") if time]
        alarmed = alarm and result.drifted and not _in_cooldown(alarms, result.moment, config)
        if alarmed:
            alarms = [*alarms, result.moment][-_MAX_ALARMS:]
        metrics = dict(_metrics(result)) if result.live else {}  # nothing to plot without actual values
        key = content_key(metrics) if metrics else tags.get(POINTS, "")
        if result.age_days >= int(tags.get(NEWEST, -1)) and key != tags.get(POINTS):
            _log_metrics(run, result, {**metrics, "alarm": float(alarmed)})
        if pd.Timestamp(result.moment) >= pd.Timestamp(tags.get("moment", result.moment)):
            _log_files(run, replace(result, alarmed=alarmed), config, alarms)
            newest = max(result.age_days, int(tags.get(NEWEST, -1)))
            state = {NEWEST: newest, POINTS: key, ALARMS: ",".join(alarms), "moment": result.moment}
            runs.tag(run, **state, reason=result.reason)
    except MlflowException as error:
        message = str(error).splitlines()[0]
        raise StoreError(f"{result.version}: can't be logged ({message}). Check that the store works.") from None
    return replace(result, alarmed=alarmed)


def _monitor_run(name: str, version: str) -> tuple[RunHandle, dict[str, str]]:
    """Return the version's run, created if missing, and its tags. It is always ended, and grows by a point a day."""
    experiment = runs.experiment_id(name)
    query = f"tags.kind = 'monitor' AND tags.model_version = '{version}'"
    known = runs.client().search_runs([experiment], query, max_results=1)
    if known:
        return RunHandle(known[0].info.run_id, experiment, known[0].info.run_name), dict(known[0].data.tags)
    title = f"monitor-{name}-v{version.rpartition('/')[2]}"
    run = runs.start_run(experiment, title, {"kind": "monitor", "model_version": version})
    runs.end(run)
    return run, {}


def _in_cooldown(alarms: list[str], moment: str, config: PipelineConfig) -> bool:
    last = max(map(pd.Timestamp, alarms), default=None)
    return last is not None and pd.Timestamp(moment) < last + parse_duration(config.monitor.cooldown)


def _log_metrics(run: RunHandle, result: MonitorResult, values: Mapping[str, float]) -> None:
    milliseconds = int(pd.Timestamp(result.moment).timestamp() * 1000)
    points = [
        Metric(name, value, milliseconds, result.age_days) for name, value in values.items() if math.isfinite(value)
    ]
    runs.client().log_batch(run.run_id, points)


def _metrics(result: MonitorResult) -> Iterator[tuple[str, float]]:
    yield from ((f"promised_{name}", value) for name, value in result.promised.items())
    yield from ((f"live_{name}", value) for name, value in result.live.items())
    if result.rmse_interval is not None:
        yield from zip(("live_rmse_low", "live_rmse_high"), result.rmse_interval, strict=True)
    if result.errors is not None:
        yield "cusum", result.errors.cusum
        yield "cusum_limit", result.errors.limit
        yield "error_ratio", result.errors.ratio
    for shift in result.inputs:
        column = re.sub(r"[^\w .:/-]", "_", shift.column)  # MLflow allows no other characters
        yield f"psi_{column}", shift.psi
        yield f"ks_{column}", shift.ks
    yield "forecasts", float(result.forecasts)
    yield "drifted", float(result.drifted)


def _log_files(run: RunHandle, result: MonitorResult, config: PipelineConfig, alarms: list[str]) -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "monitor.json").write_text(json.dumps(nan_to_null(result.to_dict()), indent=1, allow_nan=False))
        save_plots(folder, {"monitor": monitor_plot(result, config, alarms)})
        runs.client().log_artifacts(run.run_id, scratch)
