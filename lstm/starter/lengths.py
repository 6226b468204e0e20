"""How long horizon, season, splits and filled gaps may be, so that every split has windows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.durations import duration
from lstm.calendars.frequency import Frequency
from lstm.profiling.run_lengths import Runs
from lstm.starter.names import Choice, percent
from lstm.starter.rhythm import Rhythm

_DAY, _YEAR = pd.Timedelta(1, "D"), pd.Timedelta(360, "D")
_ROUND = "10min 30min 1h 2h 3h 6h 12h 1d 2d 3d 5d 7d 14d 30d 60d 90d 180d 365d"
_LONGEST_HORIZON = 100
_SHORTEST_LOOKBACK = 3
_MOST = 0.15  # of the span, for validation and for the test


@dataclass(frozen=True)
class Lengths:
    """All in steps of the frequency, unless said otherwise."""

    season: Choice[int]
    horizon: Choice[int]
    split: Choice[str | float]  # a duration or a share, for validation and for the test
    max_gap: Choice[int]
    calendar: Choice[tuple[str, ...]]


@dataclass(frozen=True)
class _Stretches:
    """Steps without a gap over `max_gap`, of all series."""

    first: np.ndarray  # (stretches,) int64: steps after the first row of all
    length: np.ndarray  # (stretches,) int64
    filled: int  # steps of the longest gap in one of them

    @classmethod
    def of(cls, rhythm: Rhythm, max_gap: int) -> "_Stretches":
        apart = 2 * rhythm.steps + max_gap + 2  # sets one series behind the other
        values = np.concatenate([one + number * apart for number, one in enumerate(rhythm.places)])
        gaps = np.diff(values) - 1
        broken = gaps > max_gap
        first, last = values[np.r_[True, broken]], values[np.r_[broken, True]]
        return cls(first % apart, last - first + 1, int(gaps[~broken].max(initial=0)))

    @property
    def usual(self) -> int:
        """The length that half of all steps lie in stretches of, or longer ones."""
        lengths = np.sort(self.length)
        return int(lengths[np.searchsorted(lengths.cumsum(), lengths.sum() / 2)])

    def cut(self, *moments: int) -> Runs:
        """The same with start, validation, test and end at these steps."""
        return Runs(*(np.clip(moment - self.first, 0, self.length) for moment in moments))


def find_lengths(rhythm: Rhythm) -> Lengths:
    """Choose the lengths that fit a rhythm."""
    gap, steps = _max_gap(rhythm), rhythm.steps
    stretches = _Stretches.of(rhythm, gap)
    horizon = _horizon(rhythm, stretches.usual)
    split = _split(rhythm, horizon.value)
    share = split.value if isinstance(split.value, float) else duration(split.value) / (rhythm.step * steps)
    validation, test = int(steps * (1 - 2 * share)), int(steps * (1 - share))
    season, room = rhythm.season, min(validation, stretches.usual) - horizon.value
    if season.value > max(room, 1):
        season = _no_season(season.value)
    season, horizon = _shortened(season, horizon, stretches.cut(0, validation, test, steps), stretches.filled)
    gaps = f"steps: a longer gap splits a series; {percent(rhythm.missing)} of the rows are missing"
    gaps += "; frequency: irregular, without a calendar, may suit better" if rhythm.missing > 0.5 else ""
    return Lengths(season, horizon, split, Choice(gap, gaps), _calendar(rhythm))


def _no_season(steps: int) -> Choice[int]:
    return Choice(1, f"steps; the season of {steps} steps is longer than the data's unbroken runs")


def _shortened(season: Choice[int], horizon: Choice[int], runs: Runs, filled: int) -> tuple[Choice[int], Choice[int]]:
    """The same, as long as each split has windows that look back a season; else shorter ones."""
    # A window ends with a value, none that was filled in: of `filled` + 1 windows in a row one does.
    while not all(runs.windows(max(season.value, _SHORTEST_LOOKBACK), horizon.value + filled)):
        if season.value > 1:
            season = _no_season(season.value)
        elif horizon.value > 1:
            horizon = Choice(horizon.value * 2 // 3, "steps ahead: unbroken runs are short")
        else:
            break
    return season, horizon


def _max_gap(rhythm: Rhythm) -> int:
    few = 6 if rhythm.step < _DAY else 3 if rhythm.step < 2 * _DAY or rhythm.missing > 0.05 else 1
    return few if rhythm.season.value == 1 else max(min(few, rhythm.season.value // 4), 1)


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
