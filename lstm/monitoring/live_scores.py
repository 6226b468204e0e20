"""Scores of logged forecasts against actual values, by the same sums as the backtest.

A window is what one series was forecast at one time of issue. Its seasonal naive sees the values before the window's
first step, as the model did.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import pandas as pd
import torch

from lstm.calendars.frequency import Frequency
from lstm.data.panel import Panel
from lstm.data.rows import SERIES, TIME
from lstm.data.scaling import TargetScale
from lstm.data.windows import Windows
from lstm.evaluation.baselines import Persistence, SeasonalNaive
from lstm.evaluation.incumbent import error_units
from lstm.evaluation.scoring import ErrorSums, ScoredWindows
from lstm.metrics import bootstrap
from lstm.metrics.metrics import Bands, Scores
from lstm.monitoring.log_rows import FORECAST, ISSUED, TARGET, LogRows

AGES = (1, 3, 7, 14, 30, 60, 90, 180, 365)  # ends of the bins of the model's age, days
_OMITTED = ("pinball", "normalized", "crps", "owa")  # meaningless for a naive without bands and an identity scale


@dataclass(frozen=True)
class LiveForecasts:
    """Logged forecasts with at least one actual value, as windows in order of series and time of issue."""

    windows: ScoredWindows  # in raw units
    forecast: np.ndarray  # (windows, horizon, targets)
    naive: np.ndarray  # same shape: of the seasonal naive, or of persistence where less than a season is known
    bands: Bands
    issued: np.ndarray  # (windows,) datetime64[us], UTC
    waiting: int  # forecast values (of one target and step) without an actual value yet
    repeated: int  # duplicate rows, of which the last one counts

    @classmethod
    def of(
        cls,
        rows: pd.DataFrame,
        panel: Panel,
        naive_error: np.ndarray,
        season: int,
        frequency: Frequency | None,
    ) -> Self:
        """Join forecasts and actual values.

        Args:
            rows: of the log: `series`, `time`, `target` (only with several), `forecast`, `lo-80`, `hi-80`, … and
                `issued_at`. Of rows with the same series, time, target and time of issue the last one counts.
            panel: actual values, and at least a season before; it holds every series of the rows.
            naive_error: (series, targets), in-sample error of the seasonal naive: the denominator of MASE.
            season: steps of a season.
            frequency: of the grid; None: rows are irregular, and steps are counted by their order.
        """
        targets = list(panel.layout.columns[: panel.layout.n_targets])
        keys = [SERIES, ISSUED, TARGET, TIME]
        named = rows if TARGET in rows else rows.assign(**{TARGET: targets[0]})
        unique = named.drop_duplicates(keys, keep="last").sort_values(keys, ignore_index=True)
        located = LogRows.of(unique, panel, targets, frequency)
        levels = sorted(int(name.removeprefix("lo-")) for name in map(str, rows) if name.startswith("lo-"))
        arrays = {
            name: located.by_window(unique[name].to_numpy(np.float64), len(targets)) for name in _value_columns(levels)
        }
        actual = located.by_window(located.actual(panel), len(targets))
        actual = np.where(np.isnan(arrays[FORECAST]), np.nan, actual)  # steps without a forecast don't count
        scorable = ~np.isnan(actual).all(axis=(1, 2)) & located.has_history(panel)
        origins, series = located.origin[scorable], located.series[scorable]
        windows = ScoredWindows(
            windows=Windows(*_tensors(panel, origins), season, located.n_steps),
            actual=actual[scorable],
            scale=TargetScale(np.zeros((len(origins), 1, 1)), np.ones((len(origins), 1, 1))),
            naive_error=naive_error[series][:, None],
            series=series,
            times=located.first_step[scorable],
            names=panel.names,
            frequency=frequency,
        )
        return cls(
            windows=windows,
            forecast=arrays[FORECAST][scorable],
            naive=_naive_forecast(panel, windows.windows, season),
            bands={level: (arrays[f"lo-{level}"][scorable], arrays[f"hi-{level}"][scorable]) for level in levels},
            issued=located.issued[scorable],
            waiting=int(np.isnan(located.actual(panel)).sum()),
            repeated=len(rows) - len(unique),
        )

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.issued)

    def select(self, mask: np.ndarray) -> Self:
        """Return the windows of a mask, (windows,) bool."""
        scored = self.windows
        names = ("actual", "scale", "naive_error", "series", "times")
        arrays = {name: getattr(scored, name)[mask] for name in names}
        windows = replace(scored.windows, origins=scored.windows.origins[torch.from_numpy(mask)])
        return replace(
            self,
            windows=replace(scored, windows=windows, **arrays),
            forecast=self.forecast[mask],
            naive=self.naive[mask],
            bands={level: (low[mask], high[mask]) for level, (low, high) in self.bands.items()},
            issued=self.issued[mask],
        )

    @cached_property
    def error_sums(self) -> tuple[ErrorSums, ErrorSums]:
        """Error sums of the forecasts, and of the seasonal naive on the same rows."""
        levels = tuple(sorted(self.bands))
        model = self.windows.score(self.forecast, self.bands.items(), levels, 1)
        return model, self.windows.score(self.naive, (), (), 1)

    @property
    def scores(self) -> Scores:
        """Metrics: rmse, mae, mape, smape, mase, r2, `coverage_80`, `width_80`, …, and the skills of the errors."""
        model, naive = self.error_sums
        return _without_omitted(model.relative_to(naive))

    def rmse_interval(self, day: np.timedelta64, seed: int = 0) -> tuple[float, float]:
        """Return the 95 % interval of the RMSE by block bootstrap; NaN with fewer than 5 blocks.

        Blocks are of whole days, and at least as long as the horizon.
        """
        times, squared = squared_errors(self.windows, self.forecast, 1.0)
        day_number = ((times - times.min()) // day).astype(np.int64)
        sums = np.column_stack([np.bincount(day_number, squared), np.bincount(day_number)])
        horizon = times.max() - self.windows.times.max()
        length = max(1 + int(horizon / day), int(np.ceil(len(sums) ** (1 / 3))))
        if len(sums) < bootstrap.MIN_BLOCKS * length:
            return float("nan"), float("nan")
        resampled = bootstrap.resample_sums(sums, length, seed)
        return bootstrap.percentile_interval(np.sqrt(resampled[:, 0] / resampled[:, 1]), len(sums) / length)

    @property
    def by_step(self) -> pd.DataFrame:
        """One row per step ahead: `horizon`, `windows`, and the scores."""
        model, naive = self.error_sums
        table = model.table("horizon", naive)
        return table[[name for name in table if _is_reported(str(name))]]

    def by_age(self, ages: np.ndarray) -> pd.DataFrame:
        """Return one row per bin of the model's age: `from_day`, `to_day` (exclusive), `windows`, and the scores.

        Args:
            ages: (windows,) days from the end of the model's training data to the time of issue; windows with NaN
                are left out.
        """
        bins = np.searchsorted(AGES, np.nan_to_num(ages, nan=-1.0), side="right")
        rows = []
        for number in np.unique(bins[~np.isnan(ages)]):
            part = self.select(~np.isnan(ages) & (bins == number))
            low, high = AGES[number - 1] if number else 0, AGES[number] if number < len(AGES) else np.inf
            rows.append({"from_day": low, "to_day": high, "windows": len(part), **part.scores})
        return pd.DataFrame(rows)

    def squared_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """Return time and squared error of each value, (errors,) each; errors are in units of the naive error."""
        return squared_errors(self.windows, self.forecast, error_units(self.windows.naive_error))


def _value_columns(levels: Sequence[int]) -> Iterator[str]:
    yield FORECAST
    for level in levels:
        yield from (f"lo-{level}", f"hi-{level}")


def _tensors(panel: Panel, origins: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    targets = panel.layout.n_targets
    return torch.from_numpy(panel.values[:, :targets]), torch.from_numpy(panel.actual), torch.from_numpy(origins)


def _naive_forecast(panel: Panel, windows: Windows, season: int) -> np.ndarray:
    """Return the seasonal naive forecast, or persistence without a season of history: (windows, horizon, targets)."""
    origins = windows.origins.numpy()
    forecast = Persistence().forecast(windows)
    season_ago = np.maximum(origins - season, 0)
    has_season = (origins >= season) & (panel.segment[season_ago] == panel.segment[origins - 1])
    if has_season.any():
        seasonal = replace(windows, origins=torch.from_numpy(origins[has_season]))
        forecast[has_season] = SeasonalNaive(season).forecast(seasonal)
    return forecast


def squared_errors(
    windows: ScoredWindows, forecast: np.ndarray, unit: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """Return time and squared error of each value with an actual value, (errors,) each.

    Args:
        windows: on any scale.
        forecast: (windows, horizon, targets), raw.
        unit: divisor of raw errors, a number or (windows, 1, targets).
    """
    error = (forecast - windows.denormalize(windows.actual)) / unit
    horizon, frequency = windows.windows.horizon, windows.frequency
    steps = np.tile(np.arange(horizon), len(windows.times))
    first = np.repeat(windows.times, horizon)
    times = first if frequency is None else frequency.times(first, steps)
    measured = ~np.isnan(error)
    value_times = np.broadcast_to(times.reshape(-1, horizon, 1), error.shape)
    return value_times[measured], np.square(error[measured])


def _without_omitted(scores: Scores) -> Scores:
    return {name: value for name, value in scores.items() if _is_reported(name)}


def _is_reported(name: str) -> bool:
    return not any(part in name for part in _OMITTED)
