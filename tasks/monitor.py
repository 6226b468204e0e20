"""Score the champion's logged forecasts against the actual values, and look for drift of errors and inputs."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.calendars.durations import parse_duration
from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.config.operations import MonitorSpec
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import ingest_table
from lstm.data.panel import Panel, build_panel
from lstm.data.rows import SERIES
from lstm.data.splits import Cuts
from lstm.errors import DataError, StoreError
from lstm.forecasting.as_of import table_as_of
from lstm.monitoring.drift import CusumChart, InputShift, cusum_chart, daily_rmse, input_shifts
from lstm.monitoring.live_scores import LiveForecasts
from lstm.monitoring.reference import DriftReference, normalized_inputs
from lstm.scratch import scratch_folder
from tasks.forecast_store.log import open_log
from tasks.forecast_store.schedule import slot_grid
from tasks.forecast_store.schema import VERSION
from tasks.monitoring.result import ErrorChart, MonitorResult
from tasks.normalize import split_cuts
from tasks.registry.models import resolve_version
from tasks.registry.provenance import Provenance, load_provenance
from tasks.runtime.json_values import records
from tasks.runtime.timestamps import as_utc
from tasks.settings import store_folder

_DAY = pd.Timedelta(1, "D")
_PROMISED = ("rmse", "mae", "mase", "rmse_skill")  # metrics of the backtest, besides the coverages
_INSTANT = np.timedelta64(1, "us")


@dataclass(frozen=True)
class _Inputs:
    """Version, moment and data that a result is computed from."""

    provenance: Provenance
    frequency: Frequency | None
    moment: pd.Timestamp
    since: pd.Timestamp
    panel: Panel
    reference: DriftReference

    @classmethod
    def load(cls, config: PipelineConfig, provenance: Provenance, moment: pd.Timestamp) -> Self:
        spec = provenance.forecaster.spec
        frequency = spec.grid
        since = moment - parse_duration(config.monitor.window)
        cuts = _cuts(provenance)
        panel = _known_panel(config, provenance, cuts, moment)
        every = 1 if frequency is None else max(1, round(slot_grid(config.forecast, spec).step / frequency.step))
        season = provenance.config.evaluate.season
        reference = DriftReference.of(provenance.forecaster, panel, cuts, season, every, _chart_day(frequency))
        return cls(provenance, frequency, moment, since, panel, reference)

    @property
    def day(self) -> np.timedelta64:
        return _chart_day(self.frequency)


@task(cache_policy=NO_CACHE, persist_result=False)
def monitor(config: PipelineConfig, now: datetime | None = None) -> MonitorResult:
    """Score the champion's forecasts of `monitor.window` as of a moment. Writes nothing.

    Args:
        config: of one model.
        now: later forecasts and values are ignored; default: the current time. UTC if it has no time zone.

    Raises:
        CheckpointError: there is no champion, or it can't be loaded.
        DataError: the log holds no forecast of the window, or the data break a rule.
        StoreError: the registry, the log or the training run's records can't be read.
    """
    moment = as_utc(now or datetime.now(UTC), "now")
    provenance = load_provenance(f"{config.name}/{resolve_version(config.name)}")
    rows = _logged_forecasts(config, moment)
    own_rows = rows[rows[VERSION] == provenance.version]
    inputs = _Inputs.load(config, provenance, moment)
    season = provenance.config.evaluate.season
    live = LiveForecasts.of(own_rows, inputs.panel, inputs.reference.naive_error, season, inputs.frequency)
    shifts = _input_shifts(inputs, config.monitor)
    errors = _error_chart(live, inputs, config.monitor) if len(live) else None
    result = MonitorResult(
        name=config.name,
        version=provenance.version,
        moment=moment.isoformat(),
        age_days=int(max((moment - _data_end(provenance)) // _DAY, 0)),
        since=inputs.since.isoformat(),
        forecasts=len(own_rows) - live.repeated,
        waiting=live.waiting,
        repeated=live.repeated,
        others=len(rows) - len(own_rows),
        promised=_backtest_metrics(provenance),
        live=live.scores if len(live) else {},
        rmse_interval=_rmse_interval(live, inputs),
        errors=errors,
        inputs=shifts,
        by_age=_by_age(live, provenance),
        by_step=records(live.by_step) if len(live) else (),
        drifted=errors is not None and errors.cusum > errors.limit and errors.ratio >= config.monitor.ratio,
        reason="",
        warnings=tuple(_describe_shift(shift) for shift in shifts if shift.drifted),
    )
    return replace(result, reason=_reason(result))


def _logged_forecasts(config: PipelineConfig, moment: pd.Timestamp) -> pd.DataFrame:
    log, window = open_log(config), config.monitor.window
    since = moment - parse_duration(window)
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


def _cuts(provenance: Provenance) -> Cuts:
    data = provenance.data
    if data.first is None or data.last is None:
        raise StoreError(
            f"{provenance.version}: profile/summary.json of its training run {provenance.training_run_id} can't be "
            "read, so its training and test spans are unknown. Check that the store answers, or train again."
        )
    return split_cuts(provenance.config, data.first, data.last)


def _data_end(provenance: Provenance) -> pd.Timestamp:
    return pd.Timestamp(str(provenance.data.last))


def _known_panel(config: PipelineConfig, provenance: Provenance, cuts: Cuts, moment: pd.Timestamp) -> Panel:
    """Build the panel of what was known at the moment, from the start of training, of the version's series."""
    forecaster = provenance.forecaster
    source = {key: getattr(config.data, key) for key in ("source", "sha256", "csv")}
    spec: DataSpec = forecaster.spec.model_copy(update=source)
    with scratch_folder("monitor", store_folder("work")) as scratch:
        rows = ingest_table(spec, scratch, store_folder("downloads")).read_rows(since=cuts.start)
    known = {name for name in rows[SERIES].unique() if forecaster.normalizer.knows(name)}
    rows = table_as_of(rows[rows[SERIES].isin(known - set(forecaster.left_out))], spec, moment)
    if rows.empty:
        raise DataError(f"{provenance.version}: the source holds no row of its series by {moment.isoformat()}.")
    return build_panel(rows, spec, forecaster.categories)


def _chart_day(frequency: Frequency | None) -> np.timedelta64:
    """Length of a day of the chart: a step if that is longer."""
    return (_DAY if frequency is None else max(_DAY, frequency.step)).to_timedelta64()


def _input_shifts(inputs: _Inputs, spec: MonitorSpec) -> tuple[InputShift, ...]:
    since, until = (time.tz_localize(None).to_datetime64() for time in (inputs.since, inputs.moment))
    columns, recent = normalized_inputs(inputs.provenance.forecaster, inputs.panel, since, until + _INSTANT)
    return input_shifts(inputs.reference.inputs, recent, columns, spec.psi, spec.ks)


def _error_chart(live: LiveForecasts, inputs: _Inputs, spec: MonitorSpec) -> ErrorChart | None:
    times, squared = live.squared_errors()
    end = times.max() + _INSTANT
    days, errors = daily_rmse(times, squared, end, inputs.day)
    cusum = cusum_chart(inputs.reference.daily_rmse, errors, spec.cusum)
    if cusum is None or not len(days):
        return None
    expected = float(np.sqrt(np.mean(np.square(inputs.reference.daily_rmse))))
    ends = [pd.Timestamp(end - number * inputs.day - _INSTANT).tz_localize("UTC") for number in days]
    return ErrorChart(
        cusum=float(cusum.sums[-1]),
        limit=cusum.limit,
        ratio=float(np.sqrt(np.mean(np.square(errors[cusum.latest])))) / expected,
        since=_rise_start(cusum, ends, inputs.day),
        days=tuple(
            {"until": until.isoformat(), "ratio": float(error) / expected, "cusum": float(total)}
            for until, error, total in zip(ends, errors, cusum.sums, strict=True)
        ),
    )


def _rise_start(cusum: CusumChart, ends: list[pd.Timestamp], day: np.timedelta64) -> str:
    return (ends[cusum.since] - pd.Timedelta(day)).date().isoformat() if cusum.since < len(ends) else ""


def _rmse_interval(live: LiveForecasts, inputs: _Inputs) -> tuple[float, float] | None:
    low, high = live.rmse_interval(inputs.day) if len(live) else (float("nan"), float("nan"))
    return (low, high) if np.isfinite(low) else None


def _backtest_metrics(provenance: Provenance) -> dict[str, float]:
    names = (*_PROMISED, *(f"coverage_{level}" for level in provenance.config.evaluate.levels))
    return {name: provenance.metrics[f"test_{name}"] for name in names if f"test_{name}" in provenance.metrics}


def _by_age(live: LiveForecasts, provenance: Provenance) -> tuple[dict[str, Any], ...]:
    if not len(live):
        return ()
    data_end = _data_end(provenance).tz_convert("UTC").tz_localize(None).to_datetime64()
    return records(live.by_age((live.issued - data_end) / np.timedelta64(1, "D")))


def _reason(result: MonitorResult) -> str:
    """Return the verdict with the figures that it rests on."""
    errors, live, version = result.errors, result.live, result.version
    if not live:
        others = f", and {result.others} are by other versions" if result.others else ""
        return f"nothing to judge yet: {result.waiting} forecasts of {version} wait for their actual values{others}"
    promised = result.promised.get("rmse", np.nan)
    rmse = f"live RMSE {live['rmse']:.4g} since {result.since[:10]}, promised {promised:.4g}"
    if errors is None:
        why = "fewer than 5 days of its backtest can be forecast again from the source"
        return f"errors of {version} are not judged: {why}; {rmse}"
    size = f"{errors.ratio:.2f} times the backtest's (CUSUM {errors.cusum:.1f}, limit {errors.limit:.1f})"
    moved = f"; inputs moved: {'; '.join(result.warnings)}" if result.warnings and result.drifted else ""
    since = f", on the rise since {errors.since}," if errors.since else ""
    verdict = "drift: the" if result.drifted else "the"
    return f"{verdict} latest error of {version}{since} is {size}; {rmse}{moved}"


def _describe_shift(shift: InputShift) -> str:
    return (
        f"{shift.column}: PSI {shift.psi:.2f} (in training up to {shift.usual_psi:.2f}), Kolmogorov-Smirnov distance "
        f"{shift.ks:.2f} (up to {shift.usual_ks:.2f}), mean moved by {shift.moved:+.1f} standard deviations"
    )
