"""How long look-back, horizon, splits and filled gaps may be, so that every split has windows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.data.frequency import Frequency
from lstm.durations import duration
from lstm.starter.names import Choice, percent
from lstm.starter.rhythm import Rhythm

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


@dataclass(frozen=True)
class _Runs:
    """Stretches of steps without a gap over `max_gap`, over all series."""

    values: np.ndarray  # (values,) int64: steps, one series after the other, far apart
    start: np.ndarray  # (runs,) int64
    end: np.ndarray  # (runs,) int64: the last step
    offset: np.ndarray  # (runs,) int64: what `values`, `start` and `end` are moved by to set series apart

    @classmethod
    def of(cls, rhythm: Rhythm, max_gap: int) -> "_Runs":
        apart = 2 * rhythm.steps + max_gap + 2
        values = np.concatenate([one + number * apart for number, one in enumerate(rhythm.places)])
        broken = np.diff(values) > max_gap + 1
        start, end = values[np.r_[True, broken]], values[np.r_[broken, True]]
        return cls(values, start, end, start // apart * apart)

    @property
    def usual(self) -> int:
        """The length that half of all steps lie in runs of, or longer ones."""
        lengths = np.sort(self.end - self.start + 1)
        return int(lengths[np.searchsorted(lengths.cumsum(), lengths.sum() / 2)])

    def hold(self, lookback: int, horizon: int, first: int, past: int, train: bool) -> bool:
        """Whether a window forecasts only steps of [first, past), and in training sees no others."""
        low = np.maximum(self.start, self.offset + first) + lookback if train else self.start + lookback
        low = np.maximum(low, self.offset + first)
        high = np.minimum(self.end + 1, self.offset + past) - horizon
        # A window ends with a value, none that was filled in.
        origin = self.values[np.minimum(np.searchsorted(self.values, low - 1), len(self.values) - 1)] + 1
        return bool(((low <= origin) & (origin <= high)).any())


def find_lengths(rhythm: Rhythm) -> Lengths:
    """Choose the lengths that fit a rhythm."""
    gap = _max_gap(rhythm)
    runs = _Runs.of(rhythm, gap)
    horizon = _horizon(rhythm, runs.usual)
    split = _split(rhythm, horizon.value)
    share = split.value if isinstance(split.value, float) else duration(split.value) / (rhythm.step * rhythm.steps)
    room = min(int(rhythm.steps * (1 - 2 * share)), runs.usual) - horizon.value
    season = rhythm.season
    if season.value > max(room, 1):
        season = _no_season(season.value)
    season, lookback, horizon = _shortened(season, _lookback(season.value, room), horizon, runs, rhythm.steps, share)
    gaps = f"steps: a longer gap splits a series; {percent(rhythm.missing)} of the rows are missing"
    gaps += "; frequency: irregular, without a calendar, may suit better" if rhythm.missing > 0.5 else ""
    return Lengths(season, horizon, lookback, _patch(lookback.value), split, Choice(gap, gaps), _calendar(rhythm))


def _no_season(steps: int) -> Choice[int]:
    return Choice(1, f"steps; the season of {steps} steps is longer than the data's unbroken runs")


def _shortened(
    season: Choice[int], lookback: Choice[int], horizon: Choice[int], runs: _Runs, steps: int, share: float
) -> tuple[Choice[int], Choice[int], Choice[int]]:
    """The same, as long as each split has windows; else shorter ones."""
    while not _windows(runs, steps, share, max(season.value, lookback.value), horizon.value):
        if season.value > 1:
            season = _no_season(season.value)
        elif lookback.value > 1:
            lookback = Choice(lookback.value * 2 // 3, "steps that a window looks back: unbroken runs are short")
        elif horizon.value > 1:
            horizon = Choice(horizon.value * 2 // 3, "steps ahead: unbroken runs are short")
        else:
            break
    return season, lookback, horizon


def _windows(runs: _Runs, steps: int, share: float, lookback: int, horizon: int) -> bool:
    """Whether each split has windows."""
    test, validation = int(steps * (1 - share)), int(steps * (1 - 2 * share))
    splits = ((0, validation), (validation, test), (test, steps))
    return all(runs.hold(lookback, horizon, *span, train=span[0] == 0) for span in splits)


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
