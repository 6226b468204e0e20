"""How often an unknown table was measured, and what repeats in it."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency, infer_frequency
from lstm.starter.names import Choice, percent
from lstm.starter.roles import Seen

_MOST_SERIES = 200  # series whose frequency is inferred
_GRIDS = 20  # series whose season is looked for
_LARGEST_GRID = 5_000_000
_PLAIN = "1ms 10ms 100ms 1s 5s 10s 15s 30s 1min 5min 10min 15min 30min 1h 2h 3h 6h 12h 1d 1w MS QS YS"
_CYCLES = {  # the fewest and the most steps with which it is worth a look
    "1min": (10, 60, "a minute"),
    "1h": (12, 60, "an hour"),
    "1d": (2, 1440, "a day"),
    "1w": (2, 336, "a week"),
}
_SHOWS = 0.2  # autocorrelation from which on a season counts as seen
_CLEARLY = 0.1  # by how much a longer season must be seen better than a shorter one
_DAY = pd.Timedelta(1, "D")


@dataclass(frozen=True)
class Rhythm:
    """The grid, and the season on it."""

    frequency: Choice[str]
    resample: Choice[str | None]
    season: Choice[int]
    cycle: int  # the shortest season that is plausible, seen or not; 1 where none is
    step: pd.Timedelta  # of a calendar frequency on average
    steps: int  # from the first row of all to the last
    places: list[np.ndarray]  # of each series (values,): steps from the first row of all to each value, rising
    missing: float  # share of the grid's rows without a value


def find_rhythm(seen: Seen, timezone: str) -> Rhythm:
    """Find the frequency of all rows, and the season of the values among them."""
    order = np.lexsort((seen.moments, seen.series))
    series, moments, values = seen.series[order], seen.moments[order], seen.values[order]
    starts = np.flatnonzero(np.r_[True, series[1:] != series[:-1]])[1:]
    times, numbers = np.split(moments, starts), np.split(values, starts)
    frequency, resample = _frequency([_distinct(one) for one in times], timezone)
    grid = Frequency.parse(frequency.value, timezone)
    places = [_places(one, grid, resample.value is not None) for one in times]
    longest = sorted(range(len(places)), key=lambda one: -len(places[one]))[:_GRIDS]
    measured = [_distinct(one[~np.isnan(values)]) for one, values in zip(places, numbers, strict=True)]
    season, cycle = _season([_on_grid(places[one], numbers[one]) for one in longest], grid)
    return Rhythm(
        frequency=frequency,
        resample=resample,
        season=season,
        cycle=cycle,
        step=grid.step,
        steps=round((moments.max() - moments.min()) / grid.step.to_timedelta64()) + 1,
        places=[one + late for one, late in zip(measured, _lateness(times, grid.step), strict=True) if len(one)],
        missing=1 - sum(map(len, measured)) / sum(int(one[-1]) + 1 for one in places),
    )


def _lateness(times: list[np.ndarray], step: pd.Timedelta) -> list[int]:
    """How many steps after the first row of all each series begins."""
    first = min(one[0] for one in times)
    return [round((one[0] - first) / step.to_timedelta64()) for one in times]


def _distinct(rising: np.ndarray) -> np.ndarray:
    return rising[np.r_[True, rising[1:] != rising[:-1]][: len(rising)]]


def _frequency(times: list[np.ndarray], timezone: str) -> tuple[Choice[str], Choice[str | None]]:
    weight: Counter[str] = Counter()
    for one in sorted(times, key=len, reverse=True)[:_MOST_SERIES]:
        weight[infer_frequency(one, timezone) or ""] += len(one)
    text = max(weight, key=lambda key: weight[key])
    if not text or weight[text] < 0.5 * weight.total() or not _valid(text):
        return _nearest(times, timezone)
    grid = Frequency.parse(text, timezone)
    places = [grid.positions(one, np.full_like(one, one[0])) for one in times]
    following = np.concatenate([np.diff(one) == 1 for one in places]).mean()
    frequency = Choice(text, f"{percent(following)} of the rows follow each other by that")
    off = float(np.concatenate([one < 0 for one in places]).mean())
    if off:
        return frequency, Choice("mean", f"{percent(off)} of the rows are off the grid; those of a step are averaged")
    return frequency, Choice(None, "every row is on the grid")


def _valid(text: str) -> bool:
    try:
        return bool(Frequency.parse(text))
    except ValueError:
        return False


def _nearest(times: list[np.ndarray], timezone: str) -> tuple[Choice[str], Choice[str | None]]:
    """The plain step nearest to what three gaps in four stay under, coarser where that would make far more rows."""
    gaps = np.concatenate([np.diff(one) for one in times]).astype("timedelta64[us]").astype(np.int64)
    usual = pd.Timedelta(int(np.quantile(gaps, 0.75)), "us")
    sizes = {text: Frequency.parse(text, timezone).step for text in _PLAIN.split()}
    days = sum((one[-1] - one[0]) / np.timedelta64(1, "D") for one in times)
    most = 20 * sum(map(len, times))
    plain = [text for text, size in sizes.items() if days * (_DAY / size) <= most] or [list(sizes)[-1]]
    text = min(plain, key=lambda text: abs(np.log(sizes[text] / usual)))
    why = f"no step fits half of the rows; three in four follow the one before within {_said(usual)}"
    return Choice(text, why), Choice(
        "mean", "the rows of a step are averaged; else frequency: irregular, no resample, no calendar"
    )


def _said(length: pd.Timedelta) -> str:
    return str(length.round("s" if length > pd.Timedelta(10, "s") else "ms")).removeprefix("0 days ")


def _places(moments: np.ndarray, grid: Frequency, resample: bool) -> np.ndarray:
    stamps = grid.floor(moments) if resample else moments
    return grid.positions(stamps, np.full_like(stamps, stamps[0]))


def _on_grid(places: np.ndarray, values: np.ndarray) -> np.ndarray:
    if places.max() >= _LARGEST_GRID:
        return np.empty(0)
    row = np.full(int(places.max()) + 1, np.nan)
    row[places] = values
    return row


def _season(grids: list[np.ndarray], grid: Frequency) -> tuple[Choice[int], int]:
    plausible = _plausible(grid)
    found: dict[int, float] = {}
    for steps in plausible:
        seen = [_autocorrelation(row, steps) for row in grids if len(row) >= 2.5 * steps]
        if seen:
            found[steps] = float(np.median(seen))
    cycle = min(plausible, default=1)
    shown = {steps: value for steps, value in found.items() if value >= _SHOWS}
    if not shown:
        tried = " or ".join(map(str, found)) or "more than one"
        return Choice(1, f"steps; no season of {tried} steps shows: a naive forecast repeats the last value"), cycle
    best = min(shown)
    for steps in sorted(shown):
        best = steps if shown[steps] > shown[best] + _CLEARLY else best
    return Choice(best, f"steps: {plausible[best]}; autocorrelation {shown[best]:.2f}"), cycle


def _plausible(grid: Frequency) -> dict[int, str]:
    """Seasons in steps, with their names."""
    if grid.unit == "D" and grid.multiple == 1:
        return {7: "a week", 365: "a year"}
    if grid.unit == "B" and grid.multiple == 1:
        return {5: "a week"}
    if grid.unit is not None:
        steps = round(365.25 / (grid.step / _DAY))
        return {steps: "a year"} if steps > 1 else {}
    found = {}
    for text, (fewest, most, name) in _CYCLES.items():
        steps, rest = divmod(Frequency.parse(text).step, grid.step)
        if not rest and fewest <= steps <= most:
            found[int(steps)] = name
    return found


def _autocorrelation(row: np.ndarray, lag: int) -> float:
    """Of a series without its trend (the moving average over a season), at a lag; 0 where too little overlaps."""
    there = ~np.isnan(row)
    sums, counts = (np.cumsum(np.r_[0.0, one]) for one in (np.where(there, row, 0), there))
    counted = counts[lag:] - counts[:-lag]
    trend = np.where(counted >= lag / 2, (sums[lag:] - sums[:-lag]) / np.maximum(counted, 1), np.nan)
    rest = row[lag // 2 : lag // 2 + len(trend)] - trend
    before, after = rest[:-lag], rest[lag:]
    both = ~np.isnan(before) & ~np.isnan(after)
    power = np.sqrt((before[both] ** 2).sum() * (after[both] ** 2).sum())
    return float((before[both] * after[both]).sum() / power) if both.sum() >= lag // 2 + 1 and power > 0 else 0.0
