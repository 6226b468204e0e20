"""The windows of one split with what is needed to score forecasts of them in raw units."""

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

_MAX_VALUES = 100_000  # that are scored in one go: they stay in the cache


@dataclass(frozen=True)
class ScoredWindows:
    """Forecasts are scored on these; all arrays go by window first."""

    windows: Windows
    actual: np.ndarray  # (windows, horizon, targets) float64, normalised, NaN where not measured
    scale: TargetScale  # (windows, 1, targets)
    naive_error: np.ndarray  # (windows, 1, targets), raw: what MASE divides by
    series: np.ndarray  # (windows,) int
    times: np.ndarray  # (windows,) datetime64 of the first step ahead
    names: tuple[str, ...] = ()  # of the series by number; (): they are called by their numbers
    frequency: Frequency | None = None  # None: irregular, so that nobody knows the hours of the steps

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
        """Put the series' scale and raw naive error, (series, targets) each, beside their windows."""
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
        """Sum up everything that metrics are made of, in one pass.

        Args:
            forecast: normalised, (windows, horizon, targets) float64.
            bands: (percent, (lower, upper)) in raw units, (windows, horizon, targets) each; taken one at a time, so
                that a generator never has two of them in memory. `band_levels(levels)` says which are wanted.
            levels: in percent; the coverage and width of these are scored.
            folds: equal parts of the span of origin times.

        Raises:
            ConfigError: there is no band for one of the levels.
        """
        sums = Breakdown(len(self.windows), self.windows.horizon, self._times[1], self._hours)
        with np.errstate(over="ignore", invalid="ignore"):  # a forecast beyond all bounds scores inf or NaN
            for part in self._parts():
                sums.add(part, self._point_quantities(part, forecast[part]))
            for level, (lower, upper) in bands:
                for part in self._parts():
                    actual = self._raw_actual(part)
                    sums.add(part, metrics.band_quantities(actual, lower[part], upper[part], level))
        missing = [level for level in levels if f"inside_{level}" not in sums.by_window]
        if missing:
            raise ConfigError(f"a band for every level must be given, but there is none of {missing[0]} %.")
        return ErrorSums(self, sums, tuple(sorted(levels)), folds)

    def denormalize(self, normalized: np.ndarray) -> np.ndarray:
        """In the units of the targets."""
        return self.scale.denormalize(normalized)

    @property
    def origins(self) -> Origins:
        """The forecast origins of the windows."""
        return Origins(self.windows.origins.cpu().numpy(), self.series, self.times)

    def _point_quantities(self, part: slice, forecast: np.ndarray) -> Sums:
        largest, center = self._largest[part], self._center
        actual, ours = self._raw_actual(part), self.scale[part].denormalize(forecast)
        found = metrics.point_quantities(actual, ours, self.naive_error[part], largest, center)
        return found | metrics.normalized_quantities(self.actual[part], forecast)

    def _raw_actual(self, part: slice) -> np.ndarray:
        return self.scale[part].denormalize(self.actual[part])

    def _parts(self) -> Iterator[slice]:
        size = max(1, _MAX_VALUES // max(1, self.actual[0].size if len(self.actual) else 1))
        return (slice(start, start + size) for start in range(0, len(self.actual), size))

    @cached_property
    def _largest(self) -> np.ndarray:
        """The largest absolute actual value of each window's series, raw: (windows, 1, targets)."""
        largest = np.zeros((int(self.series.max(initial=-1)) + 1, self.actual.shape[2]))
        for part in self._parts():
            values = np.nan_to_num(np.abs(self._raw_actual(part))).max(axis=1)
            np.maximum.at(largest, self.series[part], values)
        return largest[self.series][:, None]

    @cached_property
    def _center(self) -> float:
        """The mean of the actual values, raw."""
        parts = [self._raw_actual(part) for part in self._parts()]
        count = sum(int((~np.isnan(one)).sum()) for one in parts)
        return float(sum(np.nansum(one) for one in parts) / max(count, 1))

    @cached_property
    def _times(self) -> tuple[np.ndarray, np.ndarray]:
        """The unique origin times, rising, and the number of each window's: (times,), (windows,)."""
        return np.unique(self.times, return_inverse=True)

    @cached_property
    def _hours(self) -> np.ndarray | None:
        """(times, horizon) int16, of `hours_of_week`."""
        return None if self.frequency is None else hours_of_week(self._times[0], self.windows.horizon, self.frequency)

    def _windows_by(self, by: Literal["hour", "weekday"]) -> np.ndarray:
        """How many windows forecast a step in each local hour (24,) or weekday (7,): int64."""
        times, number = self._times
        touched = np.zeros((len(times), DAYS * HOURS), bool)
        if self._hours is not None:
            np.put_along_axis(touched, self._hours, True, axis=1)
        groups = touched.reshape(-1, DAYS, HOURS).any(axis=1 if by == "hour" else 2)
        return np.bincount(number, minlength=len(times)) @ groups


@dataclass(frozen=True)
class ErrorSums:
    """A forecast's sums on the windows of a split: every score of it follows from these."""

    split: ScoredWindows
    sums: Breakdown
    levels: tuple[int, ...]
    folds: int

    @property
    def overall(self) -> Scores:
        """All metrics over everything measured."""
        return {name: float(value[0]) for name, value in self._metrics(metrics.sum_all(self.sums.by_window)).items()}

    def relative_to(self, reference: "ErrorSums") -> Scores:
        """`overall`, and beside a reference on the same windows `<metric>_skill` of each error, and `owa`."""
        return with_skill(self.overall, reference.overall)

    def table(self, by: By, reference: "ErrorSums | None" = None) -> pd.DataFrame:
        """Metrics by group, the groups without a window left out.

        Args:
            by: `horizon` (steps ahead from 1), `series` (its name), `hour` (0 to 23) or `weekday` (0: Monday) of the
                step that is forecast, both in local time, or `fold` (from 1) of the first step ahead.
            reference: another forecast of the same windows: skills and `owa` are put beside the metrics.

        Returns:
            Columns: one called as `by`, `windows` (that have a step in the group), and a column a metric. No rows by
            hour or weekday where the split has no frequency.
        """
        labels, counts = self._groups(by)
        found = self._metrics(self._by(by))
        if reference is not None:
            found |= relative_scores(found, reference._metrics(reference._by(by)))
        table = pd.DataFrame({by: labels, "windows": counts, **found})
        return table[table["windows"] > 0].reset_index(drop=True)

    def bootstrap(self, reference: "ErrorSums", seed: int = 0) -> dict[str, tuple[float, float]]:
        """95 % interval of every metric, every `<metric>_skill` and `owa`; see `lstm.metrics.bootstrap`.

        Args:
            reference: another forecast of the same windows, drawn in the same blocks.
            seed: equal seeds give equal intervals.

        Returns:
            (low, high) by metric; NaN where the times are too few for five blocks.
        """
        times, number = self.split._times
        length = bootstrap.block_length(self.split.times, self.split.series, self.split.windows.horizon)
        ours, theirs = (sum_by_group(one.sums.by_window, number, len(times)) for one in (self, reference))
        if not length:
            nothing = (float("nan"), float("nan"))
            return dict.fromkeys(self.relative_to(reference), nothing)
        columns = np.column_stack([*ours.values(), *theirs.values()])
        drawn = iter(bootstrap.resample_sums(columns, length, seed).T)
        mine = self._metrics({name: next(drawn) for name in ours})
        other = reference._metrics({name: next(drawn) for name in theirs})
        blocks = len(times) / length
        found = mine | relative_scores(mine, other)
        return {name: bootstrap.percentile_interval(values, blocks) for name, values in found.items()}

    def _metrics(self, sums: Sums) -> Sums:
        """Every metric of each group, (groups,) each."""
        return {
            **metrics.point_metrics(sums),
            **metrics.interval_metrics(sums, self.levels),
            **metrics.normalized_metrics(sums),
        }

    def _by(self, by: By) -> Sums:
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
        """What the groups are called, and how many windows are in each."""
        if by == "horizon":
            horizon = self.split.windows.horizon
            return range(1, horizon + 1), np.full(horizon, len(self.split.windows))
        if by in ("hour", "weekday"):
            counts = self.split._windows_by(by)
            return range(len(counts)), counts
        group, count = self._window_groups(by)
        names = self.split.names if by == "series" else range(1, count + 1)
        return names or range(count), np.bincount(group, minlength=count)

    def _window_groups(self, by: By) -> tuple[np.ndarray, int]:
        if by == "fold":
            return fold_numbers(self.split.times, self.folds), self.folds
        return self.split.series, len(self.split.names) or int(self.split.series.max(initial=-1)) + 1
