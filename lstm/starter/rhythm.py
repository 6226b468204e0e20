"""Frequency and season of an unknown table."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency, infer_frequency
from lstm.starter.names import Choice, format_percent
from lstm.starter.roles import TargetRows

_MAX_SERIES = 200  # whose frequency is inferred
_SEASON_SERIES = 20  # longest series, on which the season is measured
_MAX_GRID = 5_000_000  # steps
_PLAIN_STEPS = "1ms 10ms 100ms 1s 5s 10s 15s 30s 1min 5min 10min 15min 30min 1h 2h 3h 6h 12h 1d 1w MS QS YS"
_CYCLES = {  # fewest and most steps of a season that is tested
    "1min": (10, 60, "a minute"),
    "1h": (12, 60, "an hour"),
    "1d": (2, 1440, "a day"),
    "1w": (2, 336, "a week"),
}
_MIN_AUTOCORRELATION = 0.2  # of a season
_MIN_GAIN = 0.1  # in autocorrelation, of a longer season over a shorter one
_DAY = pd.Timedelta(1, "D")


@dataclass(frozen=True)
class Rhythm:
    """The grid and the season of a table."""

    frequency: Choice[str]
    resample: Choice[str | None]
    season: Choice[int]
    shortest_season: int  # shortest plausible season, whether it shows or not; 1: none
    step: pd.Timedelta  # average step of a calendar frequency
    steps: int  # from the earliest row to the latest
    value_steps: list[np.ndarray]  # per series, (values,): step of each value, counted from the earliest row, rising
    missing: float  # share of the grid's rows without a value


def find_rhythm(rows: TargetRows, timezone: str) -> Rhythm:
    """Find the frequency of the rows and the season of their values."""
    order = np.lexsort((rows.times, rows.series))
    series, moments, values = rows.series[order], rows.times[order], rows.values[order]
    starts = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])[1:]
    times, series_values = np.split(moments, starts), np.split(values, starts)
    frequency, resample = _frequency([_distinct(rising) for rising in times], timezone)
    grid = Frequency.parse(frequency.value, timezone)
    steps = [_steps(stamps, grid, resample.value is not None) for stamps in times]
    longest = sorted(range(len(steps)), key=lambda number: -len(steps[number]))[:_SEASON_SERIES]
    measured = [_distinct(rising[~np.isnan(part)]) for rising, part in zip(steps, series_values, strict=True)]
    season, shortest = _season([_on_grid(steps[number], series_values[number]) for number in longest], grid)
    delays = _delays(times, grid.step)
    return Rhythm(
        frequency=frequency,
        resample=resample,
        season=season,
        shortest_season=shortest,
        step=grid.step,
        steps=round((moments.max() - moments.min()) / grid.step.to_timedelta64()) + 1,
        value_steps=[rising + delay for rising, delay in zip(measured, delays, strict=True) if len(rising)],
        missing=1 - sum(map(len, measured)) / sum(int(rising[-1]) + 1 for rising in steps),
    )


def _delays(times: list[np.ndarray], step: pd.Timedelta) -> list[int]:
    """Return how many steps after the earliest row each series begins."""
    first = min(stamps[0] for stamps in times)
    return [round((stamps[0] - first) / step.to_timedelta64()) for stamps in times]


def _distinct(rising: np.ndarray) -> np.ndarray:
    return rising[np.r_[True, rising[1:] != rising[:-1]][: len(rising)]]


def _frequency(times: list[np.ndarray], timezone: str) -> tuple[Choice[str], Choice[str | None]]:
    rows: Counter[str] = Counter()
    for stamps in sorted(times, key=len, reverse=True)[:_MAX_SERIES]:
        rows[infer_frequency(stamps, timezone) or ""] += len(stamps)
    text = max(rows, key=lambda key: rows[key])
    if not text or rows[text] < 0.5 * rows.total() or not _is_frequency(text):
        return _nearest_plain_step(times, timezone)
    grid = Frequency.parse(text, timezone)
    steps = [grid.positions(stamps, np.full_like(stamps, stamps[0])) for stamps in times]
    following = np.concatenate([np.diff(rising) == 1 for rising in steps]).mean()
    frequency = Choice(text, f"{format_percent(following)} of the rows follow each other by that")
    off_grid = float(np.concatenate([positions < 0 for positions in steps]).mean())
    if off_grid:
        return frequency, Choice(
            "mean", f"{format_percent(off_grid)} of the rows are off the grid; those of a step are averaged"
        )
    return frequency, Choice(None, "every row is on the grid")


def _is_frequency(text: str) -> bool:
    try:
        return bool(Frequency.parse(text))
    except ValueError:
        return False


def _nearest_plain_step(times: list[np.ndarray], timezone: str) -> tuple[Choice[str], Choice[str | None]]:
    """Return the plain step nearest to the third quartile of gaps, or a coarser one if the grid would be far longer."""
    gaps = np.concatenate([np.diff(stamps) for stamps in times]).astype("timedelta64[us]").astype(np.int64)
    usual = pd.Timedelta(int(np.quantile(gaps, 0.75)), "us")
    sizes = {text: Frequency.parse(text, timezone).step for text in _PLAIN_STEPS.split()}
    days = sum((stamps[-1] - stamps[0]) / np.timedelta64(1, "D") for stamps in times)
    max_rows = 20 * sum(map(len, times))
    plain = [text for text, size in sizes.items() if days * (_DAY / size) <= max_rows] or [list(sizes)[-1]]
    text = min(plain, key=lambda text: abs(np.log(sizes[text] / usual)))
    reason = f"no step fits half of the rows; three in four follow the one before within {_format_length(usual)}"
    return Choice(text, reason), Choice(
        "mean", "the rows of a step are averaged; else frequency: irregular, no resample, no calendar"
    )


def _format_length(length: pd.Timedelta) -> str:
    return str(length.round("s" if length > pd.Timedelta(10, "s") else "ms")).removeprefix("0 days ")


def _steps(times: np.ndarray, grid: Frequency, resample: bool) -> np.ndarray:
    stamps = grid.floor(times) if resample else times
    return grid.positions(stamps, np.full_like(stamps, stamps[0]))


def _on_grid(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
    if steps.max() >= _MAX_GRID:
        return np.empty(0)
    grid_values = np.full(int(steps.max()) + 1, np.nan)
    grid_values[steps] = values
    return grid_values


def _season(grids: list[np.ndarray], grid: Frequency) -> tuple[Choice[int], int]:
    plausible = _plausible(grid)
    strengths: dict[int, float] = {}
    for steps in plausible:
        correlations = [_autocorrelation(values, steps) for values in grids if len(values) >= 2.5 * steps]
        if correlations:
            strengths[steps] = float(np.median(correlations))
    shortest = min(plausible, default=1)
    visible = {steps: strength for steps, strength in strengths.items() if strength >= _MIN_AUTOCORRELATION}
    if not visible:
        tried = " or ".join(map(str, strengths)) or "more than one"
        return Choice(1, f"steps; no season of {tried} steps shows: a naive forecast repeats the last value"), shortest
    best = min(visible)
    for steps in sorted(visible):
        best = steps if visible[steps] > visible[best] + _MIN_GAIN else best
    return Choice(best, f"steps: {plausible[best]}; autocorrelation {visible[best]:.2f}"), shortest


def _plausible(grid: Frequency) -> dict[int, str]:
    """Return plausible seasons in steps, with their names."""
    if grid.unit == "D" and grid.multiple == 1:
        return {7: "a week", 365: "a year"}
    if grid.unit == "B" and grid.multiple == 1:
        return {5: "a week"}
    if grid.unit is not None:
        steps = round(365.25 / (grid.step / _DAY))
        return {steps: "a year"} if steps > 1 else {}
    seasons = {}
    for text, (fewest, most, name) in _CYCLES.items():
        steps, remainder = divmod(Frequency.parse(text).step, grid.step)
        if not remainder and fewest <= steps <= most:
            seasons[int(steps)] = name
    return seasons


def _autocorrelation(values: np.ndarray, lag: int) -> float:
    """Return the autocorrelation at a lag, after removing the moving average over the lag; 0 with too few pairs."""
    measured = ~np.isnan(values)
    sums, counts = (np.cumsum(np.r_[0.0, part]) for part in (np.where(measured, values, 0), measured))
    counted = counts[lag:] - counts[:-lag]
    trend = np.where(counted >= lag / 2, (sums[lag:] - sums[:-lag]) / np.maximum(counted, 1), np.nan)
    detrended = values[lag // 2 : lag // 2 + len(trend)] - trend
    before, after = detrended[:-lag], detrended[lag:]
    both = ~np.isnan(before) & ~np.isnan(after)
    power = np.sqrt((before[both] ** 2).sum() * (after[both] ** 2).sum())
    return float((before[both] * after[both]).sum() / power) if both.sum() >= lag // 2 + 1 and power > 0 else 0.0
