"""The slots of a schedule: which one a time falls in, and which were missed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.config.operations import ForecastSpec
from lstm.errors import ConfigError


@dataclass(frozen=True)
class SlotPlan:
    """The slots that a run has to forecast."""

    slot: pd.Timestamp  # that the time falls in, UTC
    slots: tuple[pd.Timestamp, ...]  # to forecast, oldest first, `slot` last; empty if `slot` is in the log
    left_out: int  # number of older missed slots


def slot_grid(forecast: ForecastSpec, data: DataSpec) -> Frequency:
    """Return the time grid of slots; calendar frequencies are in the data's time zone.

    Raises:
        ConfigError: `forecast.every` is not set and does not follow from the data's frequency.
    """
    if forecast.every is not None:
        return Frequency.parse(forecast.every, data.timezone)
    if data.frequency == "irregular":
        raise ConfigError("forecast.every: is needed where data.frequency is irregular. Say how often: every: 1h.")
    grid = Frequency.parse(data.frequency, data.timezone)
    if grid.unit is None and grid.step % pd.Timedelta(1, "s"):
        raise ConfigError(
            f"forecast.every: is needed where data.frequency is {data.frequency}: slots are whole seconds."
        )
    return grid


def slots_to_run(grid: Frequency, moment: pd.Timestamp, logged: Sequence[pd.Timestamp], backfill: int) -> SlotPlan:
    """Return the slot of `moment` and the slots missed since the newest logged one before it.

    Args:
        grid: time grid of slots.
        moment: with a time zone.
        logged: slots in the log.
        backfill: maximum number of missed slots to forecast; the newest are taken.
    """
    now = grid.floor(np.array([moment.tz_convert("UTC").tz_localize(None)], "datetime64[us]"))
    slot = _timestamps(now)[0]
    if slot in logged:
        return SlotPlan(slot, (), 0)
    before = [earlier for earlier in logged if earlier < slot]
    if not before:
        return SlotPlan(slot, (slot,), 0)
    newest = np.array([max(before).tz_convert("UTC").tz_localize(None)], "datetime64[us]")
    missed = max(int(grid.positions(now, grid.floor(newest))[0]) - 1, 0)
    back = np.arange(min(missed, backfill), -1, -1)
    return SlotPlan(slot, _timestamps(grid.times(np.repeat(now, len(back)), -back)), missed - (len(back) - 1))


def _timestamps(times: np.ndarray) -> tuple[pd.Timestamp, ...]:
    return tuple(pd.DatetimeIndex(times, tz="UTC"))
