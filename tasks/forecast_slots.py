"""Scheduled forecasts: forecast a slot and missed ones with the champion, and write them to the log."""

import logging
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
from prefect import get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import MissingContextError

from lstm.config.data import DataSpec
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import ingest_table
from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import ALL_SERIES
from lstm.errors import CheckpointError, ConfigError, DataError, StoreError
from lstm.forecasting.as_of import IssuedForecasts, forecast_as_of, needed_rows
from lstm.forecasting.forecaster import Forecaster
from lstm.scratch import scratch_folder
from tasks.forecast_store.log import ForecastLog, open_log
from tasks.forecast_store.schedule import SlotPlan, slot_grid, slots_to_run
from tasks.forecast_store.schema import RUN, VERSION
from tasks.registry.models import load_forecaster
from tasks.registry.versions import alias_version
from tasks.settings import store_folder

_MAX_NAMED = 5  # series in a warning
_CLOCK_TOLERANCE = pd.Timedelta(1, "min")  # by which clocks of two machines may differ


@dataclass(frozen=True)
class Forecasts:
    """What a run has written to the log."""

    name: str
    version: str  # NAME/3
    slots: tuple[str, ...]  # forecast by this run, ISO 8601, UTC, oldest first
    failed: tuple[str, ...] = ()  # missed slots that could not be forecast
    left_out: int = 0  # missed slots beyond `forecast.backfill`
    fallback: str = ""  # why the champion was not used


@task(cache_policy=NO_CACHE, persist_result=False)
def forecast_slots(config: PipelineConfig, moment: pd.Timestamp, run: str = "") -> Forecasts:
    """Forecast the slot of a time and the slots missed since the newest one in the log.

    Logged slots are not changed. Each slot is written atomically, oldest first, so that a run after a killed one
    continues it. All slots are forecast by the current champion.

    Args:
        config: of one model; its section `forecast` holds schedule, backfill and log.
        moment: with a time zone.
        run: id of the Prefect flow run, for the log.

    Raises:
        ConfigError: the time lies in the future, or the grid of slots does not follow from the data.
        CheckpointError: there is no champion, or neither it nor the previous one can be loaded.
        DataError: the data break a rule, or nothing can be forecast as of the slot.
        StoreError: the registry or the log does not answer.
    """
    if moment > pd.Timestamp.now("UTC") + _CLOCK_TOLERANCE:
        raise ConfigError(f"slot {moment.isoformat()}: lies ahead of the clock. Name a time that has come.")
    forecaster, version, fallback = load_champion(config)
    # A changed target applies from the next training on.
    trained = config.data.model_copy(update={"target": forecaster.spec.target})
    log = open_log(config.model_copy(update={"data": trained}))
    grid = slot_grid(config.forecast, forecaster.spec)
    plan = slots_to_run(grid, moment, log.slots(), config.forecast.backfill)
    if not plan.slots:
        _logger().info("%s: slot %s is in the log already", config.name, plan.slot.isoformat())
        return Forecasts(config.name, version, (), fallback=fallback)
    if plan.left_out:
        text = "%s: %d missed slots are older than forecast.backfill (%d) reaches, and stay empty"
        _logger().warning(text, config.name, plan.left_out, config.forecast.backfill)
    written, failed = _write_slots(config, plan, forecaster, {VERSION: version, RUN: run}, log)
    return Forecasts(config.name, version, written, failed, plan.left_out, fallback)


def _write_slots(
    config: PipelineConfig, plan: SlotPlan, forecaster: Forecaster, columns: dict[str, str], log: ForecastLog
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Forecast the planned slots and write them with `columns` to the log; return written and failed slots."""
    logger = _logger()
    table = _history(config, forecaster, plan.slots)
    written, failed = [], []
    for slot in plan.slots:
        try:
            issued = forecast_as_of(forecaster, table, slot, config.evaluate.levels)
        except DataError as error:
            if slot == plan.slot:
                raise
            logger.warning("%s: missed slot %s can't be made up for: %s", config.name, slot.isoformat(), error)
            failed.append(slot.isoformat())
            continue
        log.write(slot, issued.rows.assign(**columns))
        written.append(slot.isoformat())
        logger.info("%s: slot %s: %d rows from %s", config.name, written[-1], len(issued.rows), columns[VERSION])
    _warn_about_series(config.name, plan.slot, issued)
    if missing := _missing_series(forecaster, table):
        names = ", ".join(map(repr, missing[:_MAX_NAMED]))
        logger.warning("%s: %d series that it knows are no more in the source (%s)", config.name, len(missing), names)
    return tuple(written), tuple(failed)


def load_champion(config: PipelineConfig) -> tuple[Forecaster, str, str]:
    """Load the champion, or the previous one if the champion can't be loaded.

    Returns:
        The forecaster, `NAME/3`, and the champion's error (empty if it was loaded).

    Raises:
        CheckpointError: there is no champion, or neither can be loaded.
        StoreError: the registry does not answer, or neither can be downloaded.
    """
    name = config.name
    try:
        forecaster, version = load_forecaster(name)
        reason = ""
    except (CheckpointError, StoreError) as error:
        if alias_version(name, "champion") is None or alias_version(name, "previous") is None:
            raise
        try:
            forecaster, version = load_forecaster(f"{name}@previous")
        except (CheckpointError, StoreError):
            raise error from None
        reason = str(error)
        text = "%s: the champion can't be loaded, so %s forecasts instead. Mend it, or roll back: lstm rollback %s (%s)"
        _logger().error(text, name, version, name, reason)
    if config.evaluate.intervals == "split":  # intervals that do not adapt to later errors
        forecaster = replace(forecaster, intervals=replace(forecaster.intervals, calibrated_until=None))
    return forecaster, version, reason


def _history(config: PipelineConfig, forecaster: Forecaster, slots: tuple[pd.Timestamp, ...]) -> pd.DataFrame:
    """Return the rows that forecasts of the slots depend on, read by the rules of the training."""
    source = {key: getattr(config.data, key) for key in ("source", "sha256", "csv")}
    spec: DataSpec = forecaster.spec.model_copy(update=source)
    with scratch_folder("history", store_folder("work")) as scratch:
        table = ingest_table(spec, scratch, store_folder("downloads"))
        pieces = [needed_rows(forecaster, piece, slots[0], slots[-1]) for piece in table.pieces()]
        return pd.concat(pieces, ignore_index=True)


def _missing_series(forecaster: Forecaster, table: pd.DataFrame) -> list[str]:
    """Return the series of the training that have no row in the table."""
    known = {*table[SERIES].unique(), *forecaster.left_out, ALL_SERIES}
    return [name for name in forecaster.normalizer.names if name not in known]


def _warn_about_series(name: str, slot: pd.Timestamp, issued: IssuedForecasts) -> None:
    """Log series without a forecast, and series whose forecast lies mostly before the slot, as their data end early."""
    if issued.left_out:
        reasons = "; ".join(f"{series!r}: {why}" for series, why in list(issued.left_out.items())[:_MAX_NAMED])
        _logger().warning("%s: %d series have no forecast (%s)", name, len(issued.left_out), reasons)
    median_time = issued.rows.groupby(SERIES, sort=False)[TIME].median()
    late = median_time[median_time <= slot].index
    if len(late):
        first = issued.rows.loc[issued.rows[SERIES].isin(late), TIME].min().isoformat()
        names = ", ".join(map(repr, late[:_MAX_NAMED]))
        text = "%s: half of the forecast or more lies before slot %s, since the data of %d series end (%s; from %s on)"
        _logger().warning(f"{text}. Check the source.", name, slot.isoformat(), len(late), names, first)


def _logger() -> Any:
    """Return the logger of the Prefect run, or Python's outside of one."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
