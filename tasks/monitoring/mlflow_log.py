"""What the monitor found, in MLflow: a run for each version, whose metrics are its history, and when it said alarm."""

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

from lstm.calendars.durations import duration
from lstm.config.pipeline import PipelineConfig
from lstm.errors import StoreError
from tasks.handles import RunHandle, key_of
from tasks.monitoring.plots import monitor_figure
from tasks.monitoring.result import MonitorResult
from tasks.reporting.plotting import save_pictures
from tasks.tracking import runs

NEWEST, POINTS, ALARMS = "newest_day", "newest_points", "alarms"  # tags of the run
_MOST = 40  # alarms that are kept


def log_monitored(config: PipelineConfig, found: MonitorResult, alarm: bool) -> MonitorResult:
    """Put it into the version's run `monitor-NAME-vN`; say whether its drift is to be told now.

    Metrics are points over the model's age in days, with the moment as their time. A day gets second ones where more
    came since, which then are its latest; a day before the newest gets none. The picture and `monitor.json` are those
    of the newest moment. Drift is told once within `monitor.cooldown`; a new champion has a run, and a cool-down, of
    its own.

    Args:
        config: of the model.
        found: with `alarmed` False.
        alarm: whether somebody hears of it; otherwise no cool-down begins.

    Returns:
        `found`, with `alarmed` set.

    Raises:
        StoreError: the store does not answer.
    """
    try:
        run, tags = _run(config.name, found.version)
        alarms = [one for one in tags.get(ALARMS, "").split(",") if one]
        told = alarm and found.drifted and not _cooling(alarms, found.moment, config)
        if told:
            alarms = [*alarms, found.moment][-_MOST:]
        points = dict(_metrics(found)) if found.live else {}  # of nothing there is nothing to be seen
        mark = key_of(points) if points else tags.get(POINTS, "")
        if found.age_days >= int(tags.get(NEWEST, -1)) and mark != tags.get(POINTS):
            _log_points(run, found, {**points, "alarm": float(told)})
        if pd.Timestamp(found.moment) >= pd.Timestamp(tags.get("moment", found.moment)):
            _log_files(run, replace(found, alarmed=told), config, alarms)
            newest = max(found.age_days, int(tags.get(NEWEST, -1)))
            state = {NEWEST: newest, POINTS: mark, ALARMS: ",".join(alarms), "moment": found.moment}
            runs.tag(run, **state, reason=found.reason)
    except MlflowException as error:
        said = str(error).splitlines()[0]
        raise StoreError(f"{found.version}: can't be logged ({said}). Check that the store works.") from None
    return replace(found, alarmed=told)


def _run(name: str, version: str) -> tuple[RunHandle, dict[str, str]]:
    """The version's run, made if missing, and its tags. It is never running: it grows by a point a day."""
    experiment = runs.experiment_id(name)
    query = f"tags.kind = 'monitor' AND tags.model_version = '{version}'"
    known = runs.client().search_runs([experiment], query, max_results=1)
    if known:
        return RunHandle(known[0].info.run_id, experiment, known[0].info.run_name), dict(known[0].data.tags)
    title = f"monitor-{name}-v{version.rpartition('/')[2]}"
    run = runs.start_run(experiment, title, {"kind": "monitor", "model_version": version})
    runs.end(run)
    return run, {}


def _cooling(alarms: list[str], moment: str, config: PipelineConfig) -> bool:
    last = max(map(pd.Timestamp, alarms), default=None)
    return last is not None and pd.Timestamp(moment) < last + duration(config.monitor.cooldown)


def _log_points(run: RunHandle, found: MonitorResult, values: Mapping[str, float]) -> None:
    when = int(pd.Timestamp(found.moment).timestamp() * 1000)
    points = [Metric(key, value, when, found.age_days) for key, value in values.items() if math.isfinite(value)]
    runs.client().log_batch(run.run_id, points)


def _metrics(found: MonitorResult) -> Iterator[tuple[str, float]]:
    yield from ((f"promised_{name}", value) for name, value in found.promised.items())
    yield from ((f"live_{name}", value) for name, value in found.live.items())
    if found.rmse_interval is not None:
        yield from zip(("live_rmse_low", "live_rmse_high"), found.rmse_interval, strict=True)
    if found.errors is not None:
        yield from {"cusum": found.errors.cusum, "cusum_limit": found.errors.limit}.items()
        yield "error_ratio", found.errors.ratio
    for one in found.inputs:
        column = re.sub(r"[^\w .:/-]", "_", one.column)  # as MLflow wants names
        yield from {f"psi_{column}": one.psi, f"ks_{column}": one.ks}.items()
    yield from {"forecasts": float(found.forecasts), "drifted": float(found.drifted)}.items()


def _log_files(run: RunHandle, found: MonitorResult, config: PipelineConfig, alarms: list[str]) -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "monitor.json").write_text(json.dumps(_finite(found.to_dict()), indent=1, allow_nan=False))
        save_pictures(folder, {"monitor": monitor_figure(found, config, alarms)})
        runs.client().log_artifacts(run.run_id, scratch)


def _finite(value: object) -> object:
    """A figure without a value is null in JSON."""
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
