"""Scoring: the windows of a split with their actual values, and the error sums that all metrics are computed from."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Self

import numpy as np
import pandas as pd
import torch

from lstm.calendars.frequency import Frequency
from lstm.data.arrays import SplitArrays
from lstm.data.scaling import TargetScale
from lstm.data.windows import Windows
from lstm.errors import ConfigError
from lstm.forecasting.adaptive import Origins
from lstm.metrics import bootstrap, metrics
from lstm.metrics.breakdown import DAYS, HOURS, Breakdown, fold_numbers, hours_of_week, sum_by_group
from lstm.metrics.metrics import Band, Scores, Sums
from lstm.metrics.skill import relative_scores, with_skill

By = Literal["horizon", "series", "hour", "weekday", "fold"]

_MAX_VALUES = 100_000  # scored at once, so that they stay in the CPU cache


@dataclass(frozen=True)
class ScoredWindows:
    """Windows that forecasts are scored on, with their actual values and scales."""

    windows: Windows
    actual: np.ndarray  # (windows, horizon, targets) float64, normalised; NaN where not measured
    scale: TargetScale  # (windows, 1, targets)
    naive_error: np.ndarray  # (windows, 1, targets) float64, raw units: the denominator of MASE
    series: np.ndarray  # (windows,) int: number of the series
    times: np.ndarray  # (windows,) datetime64[us], UTC, of the first step ahead
    names: tuple[str, ...] = ()  # of the series by number; (): tables show the numbers
    frequency: Frequency | None = None  # None: irregular rows, whose hours are unknown

    @classmethod
    def of(
        cls,
        arrays: SplitArrays,
        windows: Windows,
        scale: TargetScale,
        naive_error: np.ndarray,
        names: Sequence[str] = (),
        frequency: Frequency | None = None,
    ) -> Self:
        """Return the windows with the values of their series.

        Args:
            arrays: of the split.
            windows: of these arrays.
            scale: (series, targets).
            naive_error: (series, targets) float64, raw units, see `naive_errors`.
            names: of the series by number.
            frequency: of the steps; None: irregular rows.
        """
        origins = windows.origins.numpy()
        series = np.asarray(arrays.series[origins])
        return cls(
            windows=windows,
            actual=windows.actual(torch.arange(len(windows))).numpy().astype(np.float64),
            scale=scale[series][:, None],
            naive_error=naive_error[series][:, None],
            series=series,
            times=np.asarray(arrays.times[origins]),
            names=tuple(names),
            frequency=frequency,
        )

    def score(
        self,
        forecast: np.ndarray,
        bands: Iterable[tuple[int, Band]],
        levels: Sequence[int],
        folds: int,
    ) -> "ErrorSums":
        """Return the sums of a forecast that all of its metrics are computed from.

        Args:
            forecast: (windows, horizon, targets) float64, normalised.
            bands: level in percent and band, (windows, horizon, targets) each, in raw units; consumed one at a time,
                so that a generator needs memory for one band only. `band_levels(levels)` are the ones to give.
            levels: in percent, whose coverage and width are scored.
            folds: number of equal parts of the span of origin times.

        Raises:
            ConfigError: the band of one of the levels is missing.
        """
        sums = Breakdown(len(self.windows), self.windows.horizon, self._times[1], self._hours)
        with np.errstate(over="ignore", invalid="ignore"):  # a diverged forecast scores inf or NaN
            for part in self._parts():
                sums.add(part, self._point_quantities(part, forecast[part]))
            for level, (lower, upper) in bands:
                for part in self._parts():
                    actual = self._raw_actual(part)
                    sums.add(part, metrics.band_quantities(actual, lower[part], upper[part], level))
        missing = [level for level in levels if f"inside_{level}" not in sums.by_window]
        if missing:
            raise ConfigError(f"a band must be given for every level, but there is none of {missing[0]} %.")
        return ErrorSums(self, sums, tuple(sorted(levels)), folds)

    def denormalize(self, normalized: np.ndarray) -> np.ndarray:
        """Return the values, (windows, horizon, targets), in raw units."""
        return self.scale.denormalize(normalized)

    @property
    def origins(self) -> Origins:
        """The forecast origins of the windows."""
        return Origins(self.windows.origins.cpu().numpy(), self.series, self.times)

    def _point_quantities(self, part: slice, forecast: np.ndarray) -> Sums:
        largest, center = self._largest[part], self._center
        actual, raw_forecast = self._raw_actual(part), self.scale[part].denormalize(forecast)
        quantities = metrics.point_quantities(actual, raw_forecast, self.naive_error[part], largest, center)
        return quantities | metrics.normalized_quantities(self.actual[part], forecast)

    def _raw_actual(self, part: slice) -> np.ndarray:
        return self.scale[part].denormalize(self.actual[part])

    def _parts(self) -> Iterator[slice]:
        size = max(1, _MAX_VALUES // max(1, self.actual[0].size if len(self.actual) else 1))
        return (slice(start, start + size) for start in range(0, len(self.actual), size))

    @cached_property
    def _largest(self) -> np.ndarray:
        """Largest absolute actual value of each window's series: (windows, 1, targets), raw units."""
        largest = np.zeros((int(self.series.max(initial=-1)) + 1, self.actual.shape[2]))
        for part in self._parts():
            values = np.nan_to_num(np.abs(self._raw_actual(part))).max(axis=1)
            np.maximum.at(largest, self.series[part], values)
        return largest[self.series][:, None]

    @cached_property
    def _center(self) -> float:
        """Mean of the actual values, raw units."""
        parts = [self._raw_actual(part) for part in self._parts()]
        count = sum(int((~np.isnan(part)).sum()) for part in parts)
        return float(sum(np.nansum(part) for part in parts) / max(count, 1))

    @cached_property
    def _times(self) -> tuple[np.ndarray, np.ndarray]:
        """Unique origin times, (times,), rising, and the number of each window's time, (windows,) int."""
        return np.unique(self.times, return_inverse=True)

    @cached_property
    def _hours(self) -> np.ndarray | None:
        """Local hour of the week of each step, (times, horizon) int16; None: unknown."""
        return None if self.frequency is None else hours_of_week(self._times[0], self.windows.horizon, self.frequency)

    def _count_windows_by(self, by: Literal["hour", "weekday"]) -> np.ndarray:
        """Return the number of windows with a step in each local hour, (24,) int64, or weekday, (7,) int64."""
        times, number = self._times
        has_step = np.zeros((len(times), DAYS * HOURS), bool)
        if self._hours is not None:
            np.put_along_axis(has_step, self._hours, True, axis=1)
        groups = has_step.reshape(-1, DAYS, HOURS).any(axis=1 if by == "hour" else 2)
        return np.bincount(number, minlength=len(times)) @ groups


@dataclass(frozen=True)
class ErrorSums:
    """The error sums of a forecast on the windows of a split; all its metrics are computed from them."""

    split: ScoredWindows
    sums: Breakdown
    levels: tuple[int, ...]
    folds: int

    @property
    def overall(self) -> Scores:
        """All metrics over all measured values."""
        return {
            name: float(value[0])
            for name, value in metrics.all_metrics(metrics.sum_all(self.sums.by_window), self.levels).items()
        }

    def relative_to(self, reference: "ErrorSums") -> Scores:
        """Return `overall`, with the skills and `owa` relative to a reference on the same windows."""
        return with_skill(self.overall, reference.overall)

    def table(self, by: By, reference: "ErrorSums | None" = None) -> pd.DataFrame:
        """Return the metrics by group, one row per group that has windows.

        Args:
            by: `horizon` (steps ahead, from 1), `series` (name), `hour` (0 to 23) or `weekday` (0: Monday) of the
                forecast step in local time, or `fold` (from 1) of the first step ahead.
            reference: another forecast of the same windows; adds the skills and `owa` relative to it.

        Returns:
            Columns: the one named by `by`, `windows` (with a step in the group), and one per metric. No rows by hour
            or weekday if the split has no frequency.
        """
        labels, counts = self._groups(by)
        values = metrics.all_metrics(self._sums_by(by), self.levels)
        if reference is not None:
            values |= relative_scores(values, metrics.all_metrics(reference._sums_by(by), reference.levels))
        table = pd.DataFrame({by: labels, "windows": counts, **values})
        return table[table["windows"] > 0].reset_index(drop=True)

    def bootstrap(self, reference: "ErrorSums", seed: int = 0) -> dict[str, tuple[float, float]]:
        """Return the 95 % interval of every metric, skill and `owa` by block bootstrap, see `lstm.metrics.bootstrap`.

        Args:
            reference: another forecast of the same windows; both are resampled with the same blocks.
            seed: equal seeds give equal intervals.

        Returns:
            Low and high end by metric; NaN if the times are too few for five blocks.
        """
        times, number = self.split._times
        length = bootstrap.block_length(self.split.times, self.split.series, self.split.windows.horizon)
        ours, theirs = (sum_by_group(sums.sums.by_window, number, len(times)) for sums in (self, reference))
        if not length:
            undefined = (float("nan"), float("nan"))
            return dict.fromkeys(self.relative_to(reference), undefined)
        columns = np.column_stack([*ours.values(), *theirs.values()])
        resampled = iter(bootstrap.resample_sums(columns, length, seed).T)
        values = metrics.all_metrics({name: next(resampled) for name in ours}, self.levels)
        reference_values = metrics.all_metrics({name: next(resampled) for name in theirs}, reference.levels)
        blocks = len(times) / length
        values |= relative_scores(values, reference_values)
        return {name: bootstrap.percentile_interval(samples, blocks) for name, samples in values.items()}

    def _sums_by(self, by: By) -> Sums:
        if by == "horizon":
            return self.sums.by_step
        if by in ("hour", "weekday"):
            axis = 0 if by == "hour" else 1
            return {name: values.reshape(DAYS, HOURS).sum(axis=axis) for name, values in self._weekly.items()}
        group, count = self._window_groups(by)
        return sum_by_group(self.sums.by_window, group, count)

    @property
    def _weekly(self) -> Sums:
        return self.sums.by_hour or {name: np.zeros(DAYS * HOURS) for name in self.sums.by_window}

    def _groups(self, by: By) -> tuple[Sequence[int | str], np.ndarray]:
        """Return the label of each group, and the number of its windows."""
        if by == "horizon":
            horizon = self.split.windows.horizon
            return range(1, horizon + 1), np.full(horizon, len(self.split.windows))
        if by in ("hour", "weekday"):
            counts = self.split._count_windows_by(by)
            return range(len(counts)), counts
        group, count = self._window_groups(by)
        names = self.split.names if by == "series" else range(1, count + 1)
        return names or range(count), np.bincount(group, minlength=count)

    def _window_groups(self, by: By) -> tuple[np.ndarray, int]:
        if by == "fold":
            return fold_numbers(self.split.times, self.folds), self.folds
        return self.split.series, len(self.split.names) or int(self.split.series.max(initial=-1)) + 1
