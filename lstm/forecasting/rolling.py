"""Forecasts beyond the trained horizon: block after block, each going on from the one before.

A block is an ordinary forecast of the trained horizon. Its point forecasts become the targets' history, and the next
block is forecast from there. What that takes, by rule:

- Known columns and categories must be given for all steps that are asked for (what of the last block lies beyond
  them repeats the last value, where none is given); calendar and holidays go on by themselves.
- Observed columns aren't known ahead. What the table holds of them is taken; otherwise they repeat the last season
  before the forecast (`season` of the networks, where the look-back holds one; else the last value), and where
  that has no value, the newest one that the series has. This is an assumption, and nobody has checked it.
- Steps that were rolled over count as measured.
- Intervals of later blocks: the error at a step is that at the end of each block before, plus that of the step in
  its own block. Taken as independent they add up in quadrature, radius² = Σ radius(last step)² + radius(step)², on
  the networks' scale, for both sides by themselves. Of a random walk this is exact. It is a rule, not calibrated on
  data.

Steps within the trained horizon are the same bits as without rolling, and those of a longer forecast begin with those
of a shorter one.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.data.panel import missing_known_value
from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import TargetScale
from lstm.errors import ConfigError
from lstm.forecasting.parts import ForecasterParts

MAX_BLOCKS = 100  # trained horizons that a forecast may reach
_LARGEST = 1e15  # on the networks' scale: float32 would square much more to infinity


class RollingForward(UserWarning):
    """A forecast goes beyond the trained horizon, from its own forecasts."""


def roll_forward(
    forecaster: ForecasterParts,
    table: pd.DataFrame,
    steps: int,
    forecast_block: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """A forecast of more steps than the trained horizon, from history in the canonical form.

    Returns:
        What `Forecaster.forecast` returns, and `rolled` (bool): whether the step lies beyond the trained horizon.

    Raises:
        DataError: as `Forecaster.forecast` does; or a known column has no value at one of the steps.
        ConfigError: rows are irregular, or a forecast grows beyond all bounds.

    Warns:
        RollingForward: always, in one line.
    """
    if forecaster.spec.frequency == "irregular":
        raise ConfigError(
            f"`horizon <= {forecaster.horizon}` must hold where rows are irregular (the times of later ones are "
            f"unknown), but got {steps}. Name a data.frequency and a data.resample rule, and train again."
        )
    blocks = [forecast_block(table)]
    ahead = _Ahead.of(forecaster, table, steps)
    warnings.warn(
        RollingForward(
            f"horizon {steps}: trained for {forecaster.horizon} steps; later ones go on from the model's own "
            "forecasts, and their intervals follow a rule that was not calibrated (column `rolled`)."
        ),
        stacklevel=4,
    )
    for start in range(forecaster.horizon, steps, forecaster.horizon):
        ahead.note(blocks[-1], start)
        blocks.append(forecast_block(ahead.rows(start)))
    return _joined(forecaster, blocks, steps)


@dataclass(frozen=True)
class _Ahead:
    """A canonical table that goes on for all steps, each series in order of time."""

    forecaster: ForecasterParts
    table: pd.DataFrame
    step: np.ndarray  # (rows,) int64: steps ahead from 0 on; below 0: history
    targets: np.ndarray  # (rows, targets) float64: NaN where not measured, and not yet forecast

    @classmethod
    def of(cls, forecaster: ForecasterParts, table: pd.DataFrame, steps: int) -> "_Ahead":
        past = _Past.of(forecaster, table)
        history, future = past.step < 0, past.continued(forecaster, steps)
        length = len(future) // len(past.first)
        step = np.r_[past.step[history], np.tile(np.arange(length), len(past.first))]
        run = np.r_[past.run[history], np.repeat(np.arange(len(past.first)), length)]
        order = np.lexsort((step, run))
        whole = pd.concat([past.table[history], future], ignore_index=True).take(order).reset_index(drop=True)
        return cls(forecaster, whole, step[order], whole[list(forecaster.spec.target)].to_numpy(np.float64, copy=True))

    def note(self, block: pd.DataFrame, end: int) -> None:
        """Take a block's forecasts, of the steps before `end`, for the targets' history."""
        horizon, width = self.forecaster.horizon, self.targets.shape[1]
        values = block["forecast"].to_numpy().reshape(-1, horizon, width)
        names = block[SERIES].array[:: horizon * width]
        with np.errstate(divide="ignore", invalid="ignore"):
            bad = ~(np.abs(self.forecaster.normalizer.target_scale(names)[:, None].normalize(values)) <= _LARGEST)
        if bad.any():
            series = int(bad.any(axis=(1, 2)).argmax())
            raise ConfigError(
                f"series {names[series]!r}: rolled forward, its forecast is {values[series][bad[series]][0]:g} within "
                f"{end} steps, which is nothing to go on from. Ask for a shorter horizon."
            )
        self.targets[(self.step >= end - horizon) & (self.step < end)] = values.reshape(-1, width)

    def rows(self, start: int) -> pd.DataFrame:
        """What the block from step `start` on can depend on, and what is known of its steps."""
        kept = (self.step >= start - self.forecaster.reach - 1) & (self.step < start + self.forecaster.horizon)
        targets = dict(zip(self.forecaster.spec.target, self.targets[kept].T, strict=True))
        return self.table[kept].assign(**targets).reset_index(drop=True)


@dataclass(frozen=True)
class _Past:
    """The newest rows of a canonical table on the grids of their series."""

    table: pd.DataFrame
    run: np.ndarray  # (rows,) int64: which series
    step: np.ndarray  # (rows,) int64: steps ahead from 0 on; -1: the newest row with all targets
    first: np.ndarray  # (series,) datetime64[us]: where the grid begins
    newest: np.ndarray  # (series,) int64: steps of the grid up to that newest row
    frequency: Frequency

    @classmethod
    def of(cls, forecaster: ForecasterParts, table: pd.DataFrame) -> "_Past":
        table = forecaster.recent(table).reset_index(drop=True)
        spec = forecaster.spec
        frequency = Frequency.parse(spec.frequency, spec.timezone)
        times = table[TIME].to_numpy("datetime64[us]")
        starts = (table[SERIES] != table[SERIES].shift()).to_numpy(bool)
        run = np.cumsum(starts) - 1
        first = frequency.anchors(times, starts)
        place = frequency.positions(times, first[run])
        measured = table[list(spec.target)].notna().all(axis=1).to_numpy()
        newest = np.full(len(first), -1, np.int64)
        np.maximum.at(newest, run[measured], place[measured])
        return cls(table, run, place - newest[run] - 1, first, newest, frequency)

    def continued(self, forecaster: ForecasterParts, steps: int) -> pd.DataFrame:
        """Rows for whole blocks of steps, series by series, with covariates and without targets."""
        spec, length = forecaster.spec, -(-steps // forecaster.horizon) * forecaster.horizon
        places = self.newest[:, None] + 1 + np.arange(length)
        times = self.frequency.times(np.repeat(self.first, length), places.ravel())
        last = np.repeat(np.flatnonzero(self.step == -1), length)  # a row of the same series
        future = {name: self._taken(name, last) for name in (SERIES, *spec.static)}
        future[TIME] = pd.Series(pd.DatetimeIndex(times, tz="UTC"))
        future |= {name: pd.Series(np.full(len(times), np.nan)) for name in spec.target}
        given, seasons = self._rows_at(0, length), (member.config.season or 0 for member in forecaster.members)
        season = next((one for one in seasons if 0 < one <= forecaster.lookback), 1)
        for name in spec.known:
            future[name] = self._taken(name, self._known(name, given, steps, times.reshape(given.shape)))
        for name in spec.observed:
            future[name] = self._taken(name, self._repeated(name, given, season))
        return pd.DataFrame(future)[self.table.columns]

    def _known(self, column: str, given: np.ndarray, steps: int, times: np.ndarray) -> np.ndarray:
        """(series, length) int64: the rows of its values; where one lacks beyond `steps` the last goes on."""
        there = self._there(column, given)
        if not there[:, :steps].all():
            series, step = np.argwhere(~there[:, :steps])[0]
            name = self.table[SERIES].iloc[int(np.flatnonzero(self.run == series)[0])]
            raise missing_known_value(name, column, times[series, step])
        return np.maximum.accumulate(np.where(there, given, -1), axis=1)

    def _repeated(self, column: str, given: np.ndarray, season: int) -> np.ndarray:
        """(series, length) int64: the rows that an observed column's values are taken from, -1: from none."""
        valid = np.flatnonzero(self.table[column].notna() & (self.step < 0))
        newest = np.full(len(self.first), -1, np.int64)
        np.maximum.at(newest, self.run[valid], valid)
        before = self._rows_at(-season, 0)
        before = np.where(self._there(column, before), before, newest[:, None])
        return np.where(self._there(column, given), given, before[:, np.arange(given.shape[1]) % season])

    def _rows_at(self, begin: int, end: int) -> np.ndarray:
        """(series, end - begin) int64: the row of each step, -1 where there is none."""
        rows = np.full((len(self.first), end - begin), -1, np.int64)
        inside = np.flatnonzero((self.step >= begin) & (self.step < end))
        rows[self.run[inside], self.step[inside] - begin] = inside
        return rows

    def _there(self, column: str, rows: np.ndarray) -> np.ndarray:
        """Whether a column has a value in these rows, -1: no."""
        return (rows >= 0) & self.table[column].notna().to_numpy(bool)[rows]

    def _taken(self, column: str, rows: np.ndarray) -> pd.Series:
        """A column's values in these rows, none for -1."""
        return self.table[column].reindex(rows.ravel()).reset_index(drop=True)


def _joined(forecaster: ForecasterParts, blocks: Sequence[pd.DataFrame], steps: int) -> pd.DataFrame:
    """The blocks' forecasts one after the other within each series, with the intervals that follow from them."""
    targets, horizon = forecaster.spec.target, forecaster.horizon
    names = blocks[0][SERIES].array[:: horizon * len(targets)]
    scale = forecaster.normalizer.target_scale(names)[:, None]
    shape = (len(names), horizon, len(targets))

    def along(parts: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([part.reshape(shape) for part in parts], axis=1)[:, :steps].ravel()

    columns: dict[str, Any] = {SERIES: names.repeat(steps * len(targets))}
    moments = along(block[TIME].to_numpy("datetime64[us]") for block in blocks)
    columns[TIME] = pd.DatetimeIndex(moments).tz_localize("UTC")
    if len(targets) > 1:
        columns["target"] = np.tile(targets, len(names) * steps)
    columns["forecast"] = along(block["forecast"].to_numpy() for block in blocks)
    for name in blocks[0].columns[len(columns) :]:  # lo-80, hi-80, …
        edges = [
            (block["forecast"].to_numpy().reshape(shape), block[name].to_numpy().reshape(shape)) for block in blocks
        ]
        columns[name] = along(_widened(edges, scale, 1 if name.startswith("hi-") else -1))
    columns["rolled"] = np.tile(np.repeat(np.arange(steps) >= horizon, len(targets)), len(names))
    return pd.DataFrame(columns)


def _widened(edges: Iterable[tuple[np.ndarray, np.ndarray]], scale: TargetScale, side: int) -> Iterator[np.ndarray]:
    """One end of each block's intervals, its distance in quadrature with those at the ends of the blocks before.

    Args:
        edges: of each block the forecast and the end of its interval, (series, horizon, targets), raw.
        scale: of the targets, (series, 1, targets).
        side: 1: the upper end, -1: the lower one.
    """
    spent: np.ndarray | float = 0.0
    for number, (forecast, edge) in enumerate(edges):
        center, end = (_normalized(scale, raw) for raw in (forecast, edge))
        squared = np.maximum(side * (end - center), 0.0) ** 2
        yield scale.denormalize(center + side * np.sqrt(spent + squared)) if number else edge
        spent = spent + squared[:, -1:]


def _normalized(scale: TargetScale, raw: np.ndarray) -> np.ndarray:
    """What lies so low that it is written as 0 has no logarithm."""
    return scale.normalize(np.maximum(raw, np.finfo(np.float64).tiny) if scale.log else raw)
