"""How long look-back, horizon, splits and filled gaps may be, so that every split has windows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.data.frequency import Frequency
from lstm.data.guess_names import Choice, percent
from lstm.data.guess_rhythm import Rhythm
from lstm.durations import duration

_DAY, _YEAR = pd.Timedelta(1, "D"), pd.Timedelta(360, "D")
_ROUND = "10min 30min 1h 2h 3h 6h 12h 1d 2d 3d 5d 7d 14d 30d 60d 90d 180d 365d"
_LONGEST_LOOKBACK = 336
_LONGEST_HORIZON = 100
_MOST = 0.15  # of the span, for validation and for the test


@dataclass(frozen=True)
class Lengths:
    """All in steps of the frequency, unless said otherwise."""

    season: Choice[int]
    horizon: Choice[int]
    lookback: Choice[int]
    patch: Choice[int]
    split: Choice[str | float]  # a duration or a share, for validation and for the test
    max_gap: Choice[int]
    calendar: Choice[tuple[str, ...]]


def find_lengths(rhythm: Rhythm) -> Lengths:
    """Choose the lengths that fit a rhythm."""
    gap = _max_gap(rhythm)
    unbroken = min(_unbroken(rhythm, gap), rhythm.steps)
    horizon = _horizon(rhythm, unbroken)
    split = _split(rhythm, horizon.value)
    share = split.value if isinstance(split.value, float) else duration(split.value) / (rhythm.step * rhythm.steps)
    room = min(int(rhythm.steps * (1 - 2 * share)), unbroken) - horizon.value
    season = rhythm.season
    if season.value > max(room, 1):
        season = Choice(1, f"steps; a season of {season.value} steps is longer than the data's unbroken runs")
    lookback = _lookback(season.value, room)
    gaps = f"steps: a longer gap splits a series; {percent(rhythm.missing)} of the rows are missing"
    gaps += "; frequency: irregular, without a calendar, may suit better" if rhythm.missing > 0.5 else ""
    return Lengths(season, horizon, lookback, _patch(lookback.value), split, Choice(gap, gaps), _calendar(rhythm))


def _max_gap(rhythm: Rhythm) -> int:
    few = 6 if rhythm.step < _DAY else 3 if rhythm.step < 2 * _DAY else 1
    return few if rhythm.season.value == 1 else max(min(few, rhythm.season.value // 4), 1)


def _unbroken(rhythm: Rhythm, max_gap: int) -> int:
    """The length of run that half of all rows lie in, in steps."""
    runs = []
    for gaps in rhythm.gaps:
        ends = np.cumsum(np.r_[0, gaps])
        starts = np.r_[0, np.flatnonzero(gaps > max_gap + 1) + 1]
        runs.append(ends[np.r_[starts[1:], len(ends)] - 1] - ends[starts] + 1)
    lengths = np.sort(np.concatenate(runs))
    return int(lengths[np.searchsorted(lengths.cumsum(), lengths.sum() / 2)])


def _horizon(rhythm: Rhythm, unbroken: int) -> Choice[int]:
    season, cycle = rhythm.season.value, rhythm.cycle
    wanted, why = season, "one season"
    if season == 1:
        wanted, why = (cycle, "no season shows") if 1 < cycle <= 48 else (12, "no season shows")
    elif season > _LONGEST_HORIZON:
        wanted, why = cycle, "the shortest plausible season"
    most = max(min(int(_MOST * rhythm.steps - 1) // 2, unbroken // 3), 1)
    if wanted > most:
        return Choice(most, "steps ahead: as many as the data's length allows")
    return Choice(wanted, f"steps ahead: {why}")


def _split(rhythm: Rhythm, horizon: int) -> Choice[str | float]:
    span, needed = rhythm.step * rhythm.steps, rhythm.step * (2 * horizon + 1)
    fit = [text for text in _ROUND.split() if needed <= duration(text) <= _MOST * span]
    tenth = [text for text in fit if duration(text) <= 0.1 * span]
    if fit and rhythm.step < 2 * _DAY:
        text = tenth[-1] if tenth else fit[0]
        return Choice(text, f"each: {percent(duration(text) / span)} of the span, two horizons or more")
    if 0.1 * span >= needed:
        return Choice(0.1, "each, of the span")
    return Choice(_MOST, "each, of the span: the data are short for this horizon")


def _lookback(season: int, room: int) -> Choice[int]:
    wanted = min(2 * season, _LONGEST_LOOKBACK) if season > 1 else 24
    most = max(room * 2 // 3, min(season, room), 1)
    if wanted <= most:
        return Choice(wanted, "steps that a window looks back" + (": two seasons" if wanted == 2 * season else ""))
    return Choice(most, "steps that a window looks back: as many as leave windows to train on")


def _patch(lookback: int) -> Choice[int]:
    """A long look-back is read several steps at a time: the recurrence is what costs the time."""
    patch = 1
    if lookback > 96:
        patch = next((size for size in range(2, 25) if lookback % size == 0 and lookback // size <= 48), 1)
    return Choice(patch, "steps that the cell reads at once: a long look-back in less time")


def _calendar(rhythm: Rhythm) -> Choice[tuple[str, ...]]:
    span, step = rhythm.step * rhythm.steps, rhythm.step
    unit = Frequency.parse(rhythm.frequency.value).unit
    features = []
    if unit is None and span >= 2 * _DAY and step <= pd.Timedelta(12, "h"):
        features.append("hour")
    if step < 2 * _DAY and span >= 14 * _DAY:
        features.append("dayofweek")
    if span >= _YEAR and step < 300 * _DAY:
        features.append("dayofyear" if step < 20 * _DAY else "month")
    holidays = "; for public holidays add `holidays: US`" if step < 2 * _DAY else ""
    return Choice(tuple(features), f"in {span / _DAY:,.0f} days{holidays}")
