"""The champion's scheduled forecasts against what came since: live errors, and whether the world has moved."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.calendars.durations import duration
from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.config.operations import MonitorSpec
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import ingest_table
from lstm.data.panel import Panel, build_panel
from lstm.data.rows import SERIES
from lstm.data.splits import Cuts
from lstm.errors import DataError, StoreError
from lstm.forecasting.as_of import as_of
from lstm.monitoring.drift import Chart, Shift, chart, daily, input_shifts
from lstm.monitoring.live_scores import Live
from lstm.monitoring.reference import Reference, inputs_of
from lstm.scratch import scratch_folder
from tasks.forecast_store.log import open_log
from tasks.forecast_store.schedule import slot_grid
from tasks.forecast_store.schema import VERSION
from tasks.monitoring.result import ErrorChart, MonitorResult
from tasks.normalize import cuts_of
from tasks.registry.models import resolved
from tasks.registry.provenance import Origin, origin_of
from tasks.runtime.timestamps import as_utc
from tasks.settings import folder

_DAY = pd.Timedelta(1, "D")
_PROMISED = ("rmse", "mae", "mase", "rmse_skill")  # of the backtest, beside the coverages
_INSTANT = np.timedelta64(1, "us")


@dataclass(frozen=True)
class _Scene:
    """All that a moment is judged by."""

    origin: Origin
    frequency: Frequency | None
    moment: pd.Timestamp
    since: pd.Timestamp
    panel: Panel
    reference: Reference

    @classmethod
    def of(cls, config: PipelineConfig, origin: Origin, moment: pd.Timestamp) -> Self:
        spec = origin.forecaster.spec
        frequency = None if spec.frequency == "irregular" else Frequency.parse(spec.frequency, spec.timezone)
        since = moment - duration(config.monitor.window)
        cuts = _cuts(origin)
        panel = _panel(config, origin, cuts, moment)
        every = 1 if frequency is None else max(1, round(slot_grid(config.forecast, spec).step / frequency.step))
        season, day = origin.config.evaluate.season, _day(frequency)
        reference = Reference.of(origin.forecaster, panel, cuts, season, every, day)
        return cls(origin, frequency, moment, since, panel, reference)

    @property
    def day(self) -> np.timedelta64:
        return _day(self.frequency)


@task(cache_policy=NO_CACHE, persist_result=False)
def monitor(config: PipelineConfig, now: datetime | None = None) -> MonitorResult:
    """Judge the champion's forecasts of `monitor.window` as of a moment. Writes nothing.

    Args:
        config: of one model.
        now: nothing issued or measured after it is looked at; default: this moment. Without a time zone: UTC.

    Raises:
        CheckpointError: there is no champion, or it can't be loaded.
        DataError: the log holds no forecast of the window, or the data break a rule.
        StoreError: the registry, the log or the training run's records can't be read.
    """
    moment = as_utc(now or datetime.now(UTC), "now")
    origin = origin_of(f"{config.name}/{resolved(config.name)}")
    rows = _issued(config, moment)
    own = rows[rows[VERSION] == origin.version]
    scene = _Scene.of(config, origin, moment)
    season = origin.config.evaluate.season
    live = Live.of(own, scene.panel, scene.reference.naive_error, season, scene.frequency)
    since, until = (stamp.tz_localize(None).to_datetime64() for stamp in (scene.since, moment))
    columns, recent = inputs_of(origin.forecaster, scene.panel, since, until + _INSTANT)
    inputs = input_shifts(scene.reference.inputs, recent, columns, config.monitor.psi, config.monitor.ks)
    errors = _errors(live, scene, config.monitor) if len(live) else None
    found = MonitorResult(
        name=config.name,
        version=origin.version,
        moment=moment.isoformat(),
        age_days=int(max((moment - _learned_until(origin)) // _DAY, 0)),
        since=scene.since.isoformat(),
        forecasts=len(own) - live.repeated,
        waiting=live.waiting,
        repeated=live.repeated,
        others=len(rows) - len(own),
        promised=_promised(origin),
        live=live.scores if len(live) else {},
        rmse_interval=_interval(live, scene),
        errors=errors,
        inputs=inputs,
        by_age=_by_age(live, origin),
        by_step=_records(live.by_step) if len(live) else (),
        drifted=errors is not None and errors.cusum > errors.limit and errors.ratio >= config.monitor.ratio,
        reason="",
        warnings=tuple(_moved(one) for one in inputs if one.drifted),
    )
    return replace(found, reason=_reason(found))


def _issued(config: PipelineConfig, moment: pd.Timestamp) -> pd.DataFrame:
    log, window = open_log(config), config.monitor.window
    since = moment - duration(window)
    rows = log.read(since, moment + pd.Timedelta(1, "us"))
    if len(rows):
        return rows
    slots = [slot for slot in log.slots() if slot <= moment]
    if not slots:
        raise DataError(f"{config.name}: the log holds no forecast yet. Run the flow `forecast`, by its schedule.")
    raise DataError(
        f"{config.name}: no forecast since {since.isoformat()} (monitor.window: {window}), the newest slot is "
        f"{slots[-1].isoformat()}. Check that the flow `forecast` runs, or lengthen monitor.window."
    )


def _cuts(origin: Origin) -> Cuts:
    if origin.data.first is None or origin.data.last is None:
        raise StoreError(
            f"{origin.version}: profile/summary.json of its training run {origin.training_run_id} can't be read, and "
            "without it nobody knows what it was trained and tested on. Check that the store answers, or train again."
        )
    return cuts_of(origin.config, origin.data.first, origin.data.last)


def _learned_until(origin: Origin) -> pd.Timestamp:
    return pd.Timestamp(str(origin.data.last))


def _panel(config: PipelineConfig, origin: Origin, cuts: Cuts, moment: pd.Timestamp) -> Panel:
    """What was known at the moment, from the training on, of the series that the version knows."""
    forecaster = origin.forecaster
    place = {key: getattr(config.data, key) for key in ("source", "sha256", "csv")}
    spec: DataSpec = forecaster.spec.model_copy(update=place)
    with scratch_folder("monitor", folder("work")) as scratch:
        rows = ingest_table(spec, scratch, folder("downloads")).part(since=cuts.start)
    names = {one for one in rows[SERIES].unique() if forecaster.normalizer.knows(one)} - set(forecaster.left_out)
    known = as_of(rows[rows[SERIES].isin(names)], spec, moment)
    if known.empty:
        raise DataError(f"{origin.version}: the source holds no row of its series by {moment.isoformat()}.")
    return build_panel(known, spec, forecaster.levels)


def _day(frequency: Frequency | None) -> np.timedelta64:
    """How long a day of the chart is: a step where that is longer."""
    return (_DAY if frequency is None else max(_DAY, frequency.step)).to_timedelta64()


def _errors(live: Live, scene: _Scene, spec: MonitorSpec) -> ErrorChart | None:
    times, squared = live.squared()
    end = times.max() + _INSTANT
    days, errors = daily(times, squared, end, scene.day)
    found = chart(scene.reference.days, errors, spec.cusum)
    if found is None or not len(days):
        return None
    promised = float(np.sqrt(np.mean(np.square(scene.reference.days))))
    ends = [pd.Timestamp(end - number * scene.day - _INSTANT).tz_localize("UTC") for number in days]
    return ErrorChart(
        cusum=float(found.sums[-1]),
        limit=found.limit,
        ratio=float(np.sqrt(np.mean(np.square(errors[found.latest])))) / promised,
        since=_began(found, ends, scene.day),
        days=tuple(
            {"until": until.isoformat(), "ratio": float(error) / promised, "cusum": float(total)}
            for until, error, total in zip(ends, errors, found.sums, strict=True)
        ),
    )


def _began(found: Chart, ends: list[pd.Timestamp], day: np.timedelta64) -> str:
    return (ends[found.since] - pd.Timedelta(day)).date().isoformat() if found.since < len(ends) else ""


def _interval(live: Live, scene: _Scene) -> tuple[float, float] | None:
    low, high = live.rmse_interval(scene.day) if len(live) else (float("nan"), float("nan"))
    return (low, high) if np.isfinite(low) else None


def _promised(origin: Origin) -> dict[str, float]:
    names = (*_PROMISED, *(f"coverage_{level}" for level in origin.config.evaluate.levels))
    return {name: origin.metrics[f"test_{name}"] for name in names if f"test_{name}" in origin.metrics}


def _by_age(live: Live, origin: Origin) -> tuple[dict[str, Any], ...]:
    if not len(live):
        return ()
    learned = _learned_until(origin).tz_convert("UTC").tz_localize(None).to_datetime64()
    return _records(live.by_age((live.issued - learned) / np.timedelta64(1, "D")))


def _records(table: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple({str(name): value for name, value in row.items()} for row in table.to_dict("records"))


def _reason(found: MonitorResult) -> str:
    """What, how much, against what."""
    errors, live = found.errors, found.live
    if not live:
        told = f"{found.waiting} forecasts of {found.version} wait for what they forecast"
        elsewhere = f", and {found.others} are by other versions" if found.others else ""
        return f"nothing to judge yet: {told}{elsewhere}"
    rmse = f"live RMSE {live['rmse']:.4g} since {found.since[:10]}, promised {found.promised.get('rmse', np.nan):.4g}"
    if errors is None:
        why = "fewer than 5 days of its backtest can be forecast again from the source"
        return f"errors of {found.version} are told, but not judged: {why}; {rmse}"
    how = f"{errors.ratio:.2f} times the backtest's (CUSUM {errors.cusum:.1f}, limit {errors.limit:.1f})"
    moved = f"; inputs moved: {'; '.join(found.warnings)}" if found.warnings and found.drifted else ""
    when = f", on the rise since {errors.since}," if errors.since else ""
    verb = "drift: the" if found.drifted else "the"
    return f"{verb} latest error of {found.version}{when} is {how}; {rmse}{moved}"


def _moved(one: Shift) -> str:
    return (
        f"{one.column}: PSI {one.psi:.2f} (in training up to {one.usual_psi:.2f}), Kolmogorov-Smirnov distance "
        f"{one.ks:.2f} (up to {one.usual_ks:.2f}), mean moved by {one.moved:+.1f} standard deviations"
    )
