"""Forecasts that were issued, beside what came: scored as the backtest was, by the same sums.

A window is what one series was forecast at one moment. Its seasonal naive sees what was measured before the window's
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

ISSUED, TARGET, FORECAST = "issued_at", "target", "forecast"
AGES = (1, 3, 7, 14, 30, 60, 90, 180, 365)  # days: where a bin of the model's age ends
_MEANINGLESS = ("pinball", "normalized", "crps", "owa")  # of a reference without bands, and on a scale of one


@dataclass(frozen=True)
class LiveForecasts:
    """Windows of which something has come, by series, then by moment of issue; all arrays go by window first."""

    windows: ScoredWindows  # in raw units
    forecast: np.ndarray  # (windows, horizon, targets)
    naive: np.ndarray  # the same shape: of the seasonal naive, or the last value where no season came before
    bands: Bands
    issued: np.ndarray  # (windows,) datetime64[us], UTC
    waiting: int  # forecasts, a target and step each, of which nothing has come yet
    repeated: int  # rows that another one of the same series, time, target and moment has replaced

    @classmethod
    def of(
        cls,
        rows: pd.DataFrame,
        panel: Panel,
        naive_error: np.ndarray,
        season: int,
        frequency: Frequency | None,
    ) -> Self:
        """Put forecasts beside what came.

        Args:
            rows: of the log: `series`, `time`, `target` (only with several), `forecast`, `lo-80`, `hi-80`, … and
                `issued_at`. Of rows alike in series, time, target and moment of issue the last one counts.
            panel: what came, and at least a season before; it holds every series of the rows.
            naive_error: (series, targets), in-sample error of the seasonal naive, which MASE divides by.
            season: steps of a season.
            frequency: of the grid; None: rows are irregular, and steps are counted by their order.
        """
        targets = list(panel.layout.columns[: panel.layout.n_targets])
        keys = [SERIES, ISSUED, TARGET, TIME]
        named = rows if TARGET in rows else rows.assign(**{TARGET: targets[0]})
        once = named.drop_duplicates(keys, keep="last").sort_values(keys, ignore_index=True)
        place = _Places.of(once, panel, targets, frequency)
        shape = (place.count, place.steps, len(targets))
        levels = sorted(int(name.removeprefix("lo-")) for name in map(str, rows) if name.startswith("lo-"))
        filled = {name: place.filled(once[name].to_numpy(np.float64), shape) for name in _numbers(levels)}
        # Where nothing was forecast nothing counts, as where nothing was measured.
        actual = np.where(np.isnan(filled[FORECAST]), np.nan, place.filled(place.actual(panel), shape))
        kept = ~np.isnan(actual).all(axis=(1, 2)) & place.has_history(panel)
        origins, series = place.origin[kept], place.series[kept]
        windows = ScoredWindows(
            windows=Windows(*_tensors(panel, origins), season, place.steps),
            actual=actual[kept],
            scale=TargetScale(np.zeros((len(origins), 1, 1)), np.ones((len(origins), 1, 1))),
            naive_error=naive_error[series][:, None],
            series=series,
            times=place.first[kept],
            names=panel.names,
            frequency=frequency,
        )
        bands = {level: (filled[f"lo-{level}"][kept], filled[f"hi-{level}"][kept]) for level in levels}
        naive = _naive(panel, windows.windows, season)
        waiting = int(np.isnan(place.actual(panel)).sum())
        issued = place.issued[kept]
        return cls(windows, filled[FORECAST][kept], naive, bands, issued, waiting, len(rows) - len(once))

    def __len__(self) -> int:
        """How many windows there are."""
        return len(self.issued)

    def part(self, chosen: np.ndarray) -> Self:
        """Some of the windows, (windows,) bool."""
        one, told = self.windows, ("actual", "scale", "naive_error", "series", "times")
        arrays = {name: getattr(one, name)[chosen] for name in told}
        windows = replace(one.windows, origins=one.windows.origins[torch.from_numpy(chosen)])
        bands = {level: (low[chosen], high[chosen]) for level, (low, high) in self.bands.items()}
        return replace(
            self,
            windows=replace(one, windows=windows, **arrays),
            forecast=self.forecast[chosen],
            naive=self.naive[chosen],
            bands=bands,
            issued=self.issued[chosen],
        )

    @cached_property
    def error_sums(self) -> tuple[ErrorSums, ErrorSums]:
        """Sums of the forecasts, and of the seasonal naive on the same rows."""
        levels = tuple(sorted(self.bands))
        ours = self.windows.score(self.forecast, self.bands.items(), levels, 1)
        return ours, self.windows.score(self.naive, (), (), 1)

    @property
    def scores(self) -> Scores:
        """rmse, mae, mape, smape, mase, r2, `coverage_80`, `width_80`, …, and the skills of the errors."""
        ours, naive = self.error_sums
        return _meant(ours.relative_to(naive))

    def rmse_interval(self, day: np.timedelta64, seed: int = 0) -> tuple[float, float]:
        """95 % of the RMSE, by resampled blocks of days that last the horizon at least; NaN of fewer than 5 blocks."""
        times, squared = squared_errors(self.windows, self.forecast, 1.0)
        number = ((times - times.min()) // day).astype(np.int64)
        sums = np.column_stack([np.bincount(number, squared), np.bincount(number)])
        ahead = times.max() - self.windows.times.max()
        length = max(1 + int(ahead / day), int(np.ceil(len(sums) ** (1 / 3))))
        if len(sums) < bootstrap.MIN_BLOCKS * length:
            return float("nan"), float("nan")
        drawn = bootstrap.resample_sums(sums, length, seed)
        return bootstrap.percentile_interval(np.sqrt(drawn[:, 0] / drawn[:, 1]), len(sums) / length)

    @property
    def by_step(self) -> pd.DataFrame:
        """A row a step ahead: `horizon`, `windows`, and the scores."""
        ours, naive = self.error_sums
        table = ours.table("horizon", naive)
        return table[[name for name in table if _is_meant(str(name))]]

    def by_age(self, ages: np.ndarray) -> pd.DataFrame:
        """A row a bin of the model's age: `from_day`, `to_day` (not included), `windows`, and the scores.

        Args:
            ages: (windows,) days from the end of the data that the model came from to the moment of issue; NaN: not
                known, and left out.
        """
        bins = np.searchsorted(AGES, np.nan_to_num(ages, nan=-1.0), side="right")
        rows = []
        for number in np.unique(bins[~np.isnan(ages)]):
            part = self.part(~np.isnan(ages) & (bins == number))
            to = AGES[number] if number < len(AGES) else np.inf
            rows.append({"from_day": AGES[number - 1] if number else 0, "to_day": to, "windows": len(part)})
            rows[-1] |= part.scores
        return pd.DataFrame(rows)

    def squared_errors(self) -> tuple[np.ndarray, np.ndarray]:
        """When what was forecast came, and the squared error over the series' naive error: (errors,) each."""
        return squared_errors(self.windows, self.forecast, error_units(self.windows.naive_error))


@dataclass(frozen=True)
class _Places:
    """Where each row of the log lies: its window, step and target, and the panel's row of its time."""

    window: np.ndarray  # (rows,) int
    step: np.ndarray  # (rows,) int
    target: np.ndarray  # (rows,) int
    row: np.ndarray  # (rows,) int: of the panel; -1: has not come yet
    series: np.ndarray  # (windows,) int: position in the panel's names
    first: np.ndarray  # (windows,) datetime64[us]: time of the first step
    origin: np.ndarray  # (windows,) int64: the panel's row of that, or the next one of the series after it
    issued: np.ndarray  # (windows,) datetime64[us]

    @classmethod
    def of(cls, rows: pd.DataFrame, panel: Panel, targets: list[str], frequency: Frequency | None) -> Self:
        """Of rows in order of series, moment of issue, target and time."""
        times, issued = (rows[name].to_numpy("datetime64[us]") for name in (TIME, ISSUED))
        window = rows.groupby([SERIES, ISSUED], sort=False).ngroup().to_numpy()
        starts = np.flatnonzero(np.r_[True, window[1:] != window[:-1]]) if len(rows) else np.zeros(0, np.int64)
        first = np.minimum.reduceat(times, starts) if len(rows) else times
        if frequency is None:
            step = rows.groupby([SERIES, ISSUED, TARGET], sort=False).cumcount().to_numpy()
        else:
            step = frequency.positions(times, first[window])
        series = pd.Index(panel.names).get_indexer(pd.Index(rows[SERIES]))
        row, origin = _rows_from(panel, series, times), _rows_from(panel, series[starts], first)
        nearest = np.minimum(row, len(panel.times) - 1)
        came = (series >= 0) & (panel.times[nearest] == times) & (panel.series[nearest] == series)
        target = pd.Index(targets).get_indexer(pd.Index(rows[TARGET]))
        return cls(window, step, target, np.where(came, row, -1), series[starts], first, origin, issued[starts])

    def has_history(self, panel: Panel) -> np.ndarray:
        """(windows,) bool: whether the panel holds a row before the first step."""
        return (self.origin > 0) & (panel.series[self.origin - 1] == self.series)

    @property
    def count(self) -> int:
        """Of windows."""
        return len(self.first)

    @property
    def steps(self) -> int:
        """Of the longest window."""
        return int(self.step.max(initial=0)) + 1

    def filled(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Values of the rows, (rows,), by window, step and target; NaN where there is no row."""
        found = np.full(shape, np.nan)
        found[self.window, self.step, self.target] = values
        return found

    def actual(self, panel: Panel) -> np.ndarray:
        """What came, (rows,); NaN where nothing has."""
        return np.where(self.row >= 0, panel.actual[self.row, self.target], np.nan)


def _rows_from(panel: Panel, series: np.ndarray, times: np.ndarray) -> np.ndarray:
    """The panel's first row of each series that is not before a time, or one further: (times,) int64."""
    moments = np.unique(panel.times)
    keys = panel.series.astype(np.int64) * (len(moments) + 1) + np.searchsorted(moments, panel.times)
    found = np.searchsorted(keys, series.astype(np.int64) * (len(moments) + 1) + np.searchsorted(moments, times))
    return found.astype(np.int64)


def _numbers(levels: Sequence[int]) -> Iterator[str]:
    yield FORECAST
    for level in levels:
        yield from (f"lo-{level}", f"hi-{level}")


def _tensors(panel: Panel, origins: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    targets = panel.layout.n_targets
    return torch.from_numpy(panel.values[:, :targets]), torch.from_numpy(panel.actual), torch.from_numpy(origins)


def _naive(panel: Panel, windows: Windows, season: int) -> np.ndarray:
    """(windows, horizon, targets), raw: the last season again, or the last value where that is not at hand."""
    origins = windows.origins.numpy()
    found = Persistence().forecast(windows)
    back = np.maximum(origins - season, 0)
    whole = (origins >= season) & (panel.segment[back] == panel.segment[origins - 1])
    if whole.any():
        seasonal = replace(windows, origins=torch.from_numpy(origins[whole]))
        found[whole] = SeasonalNaive(season).forecast(seasonal)
    return found


def squared_errors(
    windows: ScoredWindows, forecast: np.ndarray, unit: np.ndarray | float
) -> tuple[np.ndarray, np.ndarray]:
    """When what was forecast came, and the squared errors: (errors,) each.

    Args:
        windows: on any scale.
        forecast: (windows, horizon, targets), raw.
        unit: what raw errors are divided by, a number or (windows, 1, targets).
    """
    error = (forecast - windows.raw(windows.actual)) / unit
    horizon, frequency = windows.windows.horizon, windows.frequency
    steps = np.tile(np.arange(horizon), len(windows.times))
    first = np.repeat(windows.times, horizon)
    times = first if frequency is None else frequency.times(first, steps)
    measured = ~np.isnan(error)
    came = np.broadcast_to(times.reshape(-1, horizon, 1), error.shape)
    return came[measured], np.square(error[measured])


def _meant(scores: Scores) -> Scores:
    return {name: value for name, value in scores.items() if _is_meant(name)}


def _is_meant(name: str) -> bool:
    return not any(part in name for part in _MEANINGLESS)
