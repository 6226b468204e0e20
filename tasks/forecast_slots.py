"""The champion's forecasts of a slot and of missed ones, into the log."""

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
from tasks.forecast_store.log import open_log
from tasks.forecast_store.schedule import slot_grid, slots_to_run
from tasks.forecast_store.schema import RUN, VERSION
from tasks.registry.models import load_forecaster
from tasks.registry.versions import alias_version
from tasks.settings import store_folder

_MAX_NAMED = 5  # series that a warning names
_CLOCK_TOLERANCE = pd.Timedelta(1, "min")  # that another machine's clock may be


@dataclass(frozen=True)
class Forecasts:
    """What a run has put into the log."""

    name: str
    version: str  # NAME/3
    slots: tuple[str, ...]  # made by this run, ISO 8601, UTC, the oldest first
    failed: tuple[str, ...] = ()  # missed slots that could not be made
    left_out: int = 0  # missed slots beyond `forecast.backfill`
    fallback: str = ""  # why the champion was not used


@task(cache_policy=NO_CACHE, persist_result=False)
def forecast_slots(config: PipelineConfig, moment: pd.Timestamp, run: str = "") -> Forecasts:
    """Forecast as of the slot that a moment falls in and of those missed since the newest one in the log.

    A slot that is in the log is left as it is. Each is put there whole as soon as it is made, the oldest first, so
    that a run that is killed goes on where it was. All are the forecasts of the champion as it is now.

    Args:
        config: of one model; its section `forecast` says how often, how far back, and where to.
        moment: with a time zone.
        run: id of the Prefect flow run, for the record.

    Raises:
        ConfigError: the moment lies ahead of the clock, or the slots' step does not follow from the data.
        CheckpointError: there is no champion, or neither it nor the one before can be loaded.
        DataError: the data break a rule, or nothing can be forecast as of the slot.
        StoreError: the registry or the log does not answer.
    """
    if moment > pd.Timestamp.now("UTC") + _CLOCK_TOLERANCE:
        raise ConfigError(f"slot {moment.isoformat()}: lies ahead of the clock. Name a moment that has come.")
    forecaster, version, fallback = load_champion(config)
    trained = config.data.model_copy(update={"target": forecaster.spec.target})  # a changed one waits for its training
    log = open_log(config.model_copy(update={"data": trained}))
    grid = slot_grid(config.forecast, forecaster.spec)
    found = slots_to_run(grid, moment, log.slots(), config.forecast.backfill)
    say = _logger()
    if not found.slots:
        say.info("%s: slot %s is in the log already", config.name, found.slot.isoformat())
        return Forecasts(config.name, version, (), fallback=fallback)
    if found.left_out:
        older = "%s: %d missed slots are older than forecast.backfill (%d) reaches, and stay empty"
        say.warning(older, config.name, found.left_out, config.forecast.backfill)
    table = _history(config, forecaster, found.slots)
    made, failed = [], []
    for slot in found.slots:
        try:
            issued = forecast_as_of(forecaster, table, slot, config.evaluate.levels)
        except DataError as error:
            if slot == found.slot:
                raise
            say.warning("%s: missed slot %s can't be made up for: %s", config.name, slot.isoformat(), error)
            failed.append(slot.isoformat())
            continue
        log.write(slot, issued.rows.assign(**{VERSION: version, RUN: run}))
        made.append(slot.isoformat())
        say.info("%s: slot %s: %d rows from %s", config.name, slot.isoformat(), len(issued.rows), version)
    _warn_about_series(say, config.name, found.slot, issued)
    if gone := _missing_series(forecaster, table):
        told = ", ".join(repr(one) for one in gone[:_MAX_NAMED])
        say.warning("%s: %d series that it knows are no more in the source (%s)", config.name, len(gone), told)
    return Forecasts(config.name, version, tuple(made), tuple(failed), found.left_out, fallback)


def load_champion(config: PipelineConfig) -> tuple[Forecaster, str, str]:
    """The champion, or the champion before it where that can't be loaded; `NAME/3`; and why it is not the champion.

    Raises:
        CheckpointError: there is no champion; or it can't be loaded, nor the one before.
        StoreError: the registry does not answer, or hands out neither.
    """
    name = config.name
    try:
        forecaster, version = load_forecaster(name)
        trouble = ""
    except (CheckpointError, StoreError) as error:
        if alias_version(name, "champion") is None or alias_version(name, "previous") is None:
            raise
        try:
            forecaster, version = load_forecaster(f"{name}@previous")
        except (CheckpointError, StoreError):
            raise error from None
        trouble = str(error)
        said = "%s: the champion can't be loaded, so %s forecasts instead. Mend it, or roll back: lstm rollback %s (%s)"
        _logger().error(said, name, version, name, trouble)
    if config.evaluate.intervals == "split":  # they follow no errors
        forecaster = replace(forecaster, intervals=replace(forecaster.intervals, calibrated_until=None))
    return forecaster, version, trouble


def _history(config: PipelineConfig, forecaster: Forecaster, slots: tuple[pd.Timestamp, ...]) -> pd.DataFrame:
    """What forecasts as of the slots depend on, of a source of any size, read by the rules of the training."""
    place = {key: getattr(config.data, key) for key in ("source", "sha256", "csv")}
    spec: DataSpec = forecaster.spec.model_copy(update=place)
    with scratch_folder("history", store_folder("work")) as scratch:
        table = ingest_table(spec, scratch, store_folder("downloads"))
        pieces = [needed_rows(forecaster, piece, slots[0], slots[-1]) for piece in table.pieces()]
        return pd.concat(pieces, ignore_index=True)


def _missing_series(forecaster: Forecaster, table: pd.DataFrame) -> list[str]:
    """Series of the training that the source has no row of."""
    there = {*table[SERIES].unique(), *forecaster.left_out, ALL_SERIES}
    return [name for name in forecaster.normalizer.names if name not in there]


def _warn_about_series(say: Any, name: str, slot: pd.Timestamp, issued: IssuedForecasts) -> None:
    """Which series have no forecast, and which have one of the past: their data ended long before the slot."""
    if issued.left_out:
        told = "; ".join(f"{one!r}: {why}" for one, why in list(issued.left_out.items())[:_MAX_NAMED])
        say.warning("%s: %d series have no forecast (%s)", name, len(issued.left_out), told)
    middle = issued.rows.groupby(SERIES, sort=False)[TIME].median()
    old = middle[middle <= slot].index
    if len(old):
        begins = issued.rows.loc[issued.rows[SERIES].isin(old), TIME].min().isoformat()
        told, when = ", ".join(f"{one!r}" for one in old[:_MAX_NAMED]), slot.isoformat()
        aged = "%s: half of the forecast or more lies before slot %s, since the data of %d series end (%s; from %s on)"
        say.warning(f"{aged}. Check the source.", name, when, len(old), told, begins)


def _logger() -> Any:
    """The run's, or Python's where there is none."""
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
