"""The slots of a schedule: which one a moment falls in, and which were missed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.config.operations import ForecastSpec
from lstm.errors import ConfigError


@dataclass(frozen=True)
class Due:
    """What is to be done at a moment."""

    slot: pd.Timestamp  # that the moment falls in, UTC
    slots: tuple[pd.Timestamp, ...]  # to be made, the oldest first and `slot` last; none where it is made already
    left_out: int  # missed slots that are older than those


def slot_grid(forecast: ForecastSpec, data: DataSpec) -> Frequency:
    """The steps between slots, those of calendar frequencies in the data's time zone.

    Raises:
        ConfigError: they don't follow from the data's frequency.
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


def due(grid: Frequency, moment: pd.Timestamp, made: Sequence[pd.Timestamp], backfill: int) -> Due:
    """The slot of a moment, and what was missed since the newest one before it.

    Args:
        grid: steps between slots.
        moment: with a time zone.
        made: slots that are in the log.
        backfill: missed slots that are made up for, at most: the newest of them.
    """
    now = grid.floor(np.array([moment.tz_convert("UTC").tz_localize(None)], "datetime64[us]"))
    slot = _stamps(now)[0]
    if slot in made:
        return Due(slot, (), 0)
    before = [one for one in made if one < slot]
    if not before:
        return Due(slot, (slot,), 0)
    newest = np.array([max(before).tz_convert("UTC").tz_localize(None)], "datetime64[us]")
    missed = max(int(grid.positions(now, grid.floor(newest))[0]) - 1, 0)
    back = np.arange(min(missed, backfill), -1, -1)
    return Due(slot, _stamps(grid.times(np.repeat(now, len(back)), -back)), missed - (len(back) - 1))


def _stamps(times: np.ndarray) -> tuple[pd.Timestamp, ...]:
    return tuple(pd.DatetimeIndex(times, tz="UTC"))
