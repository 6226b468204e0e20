"""Forecasts beyond the trained horizon: block after block, each continuing from the one before.

A block is an ordinary forecast of the trained horizon. Its point forecasts become the history of the targets, from
which the next block is forecast. The rules:

- Known columns and categories must be given for all requested steps (if the last block reaches beyond them and no
  values are given there, the last value repeats). Calendar and holidays continue by themselves.
- Observed columns are not known ahead. Values that the table holds are used. Otherwise they repeat the last season
  before the forecast (`season` of the networks, if it fits into the lookback; else the last value), and where that
  season has no value, the newest value of the series. This is an untested assumption.
- Forecast steps count as measured.
- Intervals of later blocks: the error at a step is the error at the last step of each earlier block plus the error of
  the step within its own block. Assumed independent, they add up in quadrature: half width² = Σ half width(last
  step)² + half width(step)², normalised, for the upper and the lower side separately. This is exact for a random walk;
  it is a rule, not calibrated on data.

Steps within the trained horizon are bit-identical to a forecast without rolling, and a longer forecast begins with the
steps of a shorter one.
"""

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import TargetScale
from lstm.errors import ConfigError
from lstm.forecasting.history import History
from lstm.forecasting.parts import ForecasterParts

MAX_BLOCKS = 100  # longest forecast, in trained horizons
_MAX_NORMALIZED = 1e15  # the square of much larger values overflows float32


class RollingForward(UserWarning):
    """A forecast goes beyond the trained horizon and continues from its own forecasts."""


def roll_forward(
    forecaster: ForecasterParts,
    table: pd.DataFrame,
    steps: int,
    forecast_block: Callable[[pd.DataFrame], pd.DataFrame],
) -> pd.DataFrame:
    """Forecast more steps than the trained horizon.

    Args:
        forecaster: of which no network is run here.
        table: canonical history.
        steps: of the forecast, more than the trained horizon.
        forecast_block: forecasts the trained horizon from a canonical table, with intervals.

    Returns:
        The table of `Forecaster.forecast`, with the column `rolled` (bool): the step lies beyond the trained horizon.

    Raises:
        DataError: as `forecast_block`; or a known column has no value at one of the steps.
        ConfigError: rows are irregular, or a forecast diverges.

    Warns:
        RollingForward: always.
    """
    if forecaster.spec.frequency == "irregular":
        raise ConfigError(
            f"`horizon <= {forecaster.horizon}` must hold where rows are irregular (the times of later ones are "
            f"unknown), but got {steps}. Name a data.frequency and a data.resample rule, and train again."
        )
    blocks = [forecast_block(table)]
    extended = _ExtendedTable.of(forecaster, table, steps)
    warnings.warn(
        RollingForward(
            f"horizon {steps}: trained for {forecaster.horizon} steps; later ones go on from the model's own "
            "forecasts, and their intervals follow a rule that was not calibrated (column `rolled`)."
        ),
        stacklevel=4,
    )
    for start in range(forecaster.horizon, steps, forecaster.horizon):
        extended.insert_forecasts(blocks[-1], start)
        blocks.append(forecast_block(extended.block_rows(start)))
    return _concat_blocks(forecaster, blocks, steps)


@dataclass(frozen=True)
class _ExtendedTable:
    """A canonical table with rows for all steps ahead, sorted by series and time."""

    forecaster: ForecasterParts
    table: pd.DataFrame
    step: np.ndarray  # (rows,) int64: steps ahead from 0; negative: history
    targets: np.ndarray  # (rows, targets) float64: NaN where neither measured nor forecast yet

    @classmethod
    def of(cls, forecaster: ForecasterParts, table: pd.DataFrame, steps: int) -> "_ExtendedTable":
        history = History.of(forecaster, table)
        past, future = history.step < 0, history.future_rows(forecaster, steps)
        n_series = len(history.first)
        length = len(future) // n_series
        step = np.r_[history.step[past], np.tile(np.arange(length), n_series)]
        series = np.r_[history.series[past], np.repeat(np.arange(n_series), length)]
        order = np.lexsort((step, series))
        whole = pd.concat([history.table[past], future], ignore_index=True).take(order).reset_index(drop=True)
        return cls(forecaster, whole, step[order], whole[list(forecaster.spec.target)].to_numpy(np.float64, copy=True))

    def insert_forecasts(self, block: pd.DataFrame, end: int) -> None:
        """Write the forecasts of a block, of the steps before `end`, into `targets`."""
        horizon, width = self.forecaster.horizon, self.targets.shape[1]
        values = block["forecast"].to_numpy().reshape(-1, horizon, width)
        names = block[SERIES].array[:: horizon * width]
        with np.errstate(divide="ignore", invalid="ignore"):
            normalized = self.forecaster.normalizer.target_scale(names)[:, None].normalize(values)
            bad = ~(np.abs(normalized) <= _MAX_NORMALIZED)
        if bad.any():
            series = int(bad.any(axis=(1, 2)).argmax())
            raise ConfigError(
                f"series {names[series]!r}: rolled forward, its forecast is {values[series][bad[series]][0]:g} within "
                f"{end} steps, too large to continue from. Ask for a shorter horizon."
            )
        self.targets[(self.step >= end - horizon) & (self.step < end)] = values.reshape(-1, width)

    def block_rows(self, start: int) -> pd.DataFrame:
        """Return the history that the block from step `start` can depend on, and the rows of its own steps."""
        kept = (self.step >= start - self.forecaster.reach - 1) & (self.step < start + self.forecaster.horizon)
        targets = dict(zip(self.forecaster.spec.target, self.targets[kept].T, strict=True))
        return self.table[kept].assign(**targets).reset_index(drop=True)


def _concat_blocks(forecaster: ForecasterParts, blocks: Sequence[pd.DataFrame], steps: int) -> pd.DataFrame:
    """Return one table of all blocks, sorted by series and step, with the intervals of later blocks widened."""
    targets, horizon = forecaster.spec.target, forecaster.horizon
    names = blocks[0][SERIES].array[:: horizon * len(targets)]
    scale = forecaster.normalizer.target_scale(names)[:, None]
    shape = (len(names), horizon, len(targets))

    def flatten(parts: Iterable[np.ndarray]) -> np.ndarray:
        return np.concatenate([part.reshape(shape) for part in parts], axis=1)[:, :steps].ravel()

    columns: dict[str, Any] = {SERIES: names.repeat(steps * len(targets))}
    times = flatten(block[TIME].to_numpy("datetime64[us]") for block in blocks)
    columns[TIME] = pd.DatetimeIndex(times).tz_localize("UTC")
    if len(targets) > 1:
        columns["target"] = np.tile(targets, len(names) * steps)
    columns["forecast"] = flatten(block["forecast"].to_numpy() for block in blocks)
    for name in blocks[0].columns[len(columns) :]:  # lo-80, hi-80, …
        ends = [
            (block["forecast"].to_numpy().reshape(shape), block[name].to_numpy().reshape(shape)) for block in blocks
        ]
        columns[name] = flatten(_widen_ends(ends, scale, 1 if name.startswith("hi-") else -1))
    columns["rolled"] = np.tile(np.repeat(np.arange(steps) >= horizon, len(targets)), len(names))
    return pd.DataFrame(columns)


def _widen_ends(ends: Iterable[tuple[np.ndarray, np.ndarray]], scale: TargetScale, side: int) -> Iterator[np.ndarray]:
    """Yield one end of each block's intervals, its half width added in quadrature to those of the earlier blocks.

    Args:
        ends: forecast and end of its interval of each block, (series, horizon, targets) each, raw.
        scale: of the targets, (series, 1, targets).
        side: 1: upper ends, -1: lower ends.
    """
    earlier: np.ndarray | float = 0.0  # squared half widths at the last steps of the earlier blocks
    for number, (forecast, end) in enumerate(ends):
        center, normalized_end = (_normalize(scale, raw) for raw in (forecast, end))
        squared = np.maximum(side * (normalized_end - center), 0.0) ** 2
        yield scale.denormalize(center + side * np.sqrt(earlier + squared)) if number else end
        earlier = earlier + squared[:, -1:]


def _normalize(scale: TargetScale, raw: np.ndarray) -> np.ndarray:
    """Return normalised values; values that underflowed to 0 get the logarithm of the smallest float64."""
    return scale.normalize(np.maximum(raw, np.finfo(np.float64).tiny) if scale.log else raw)
