"""Choose season, horizon, splits and filled gaps so that every split has windows."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration
from lstm.calendars.frequency import Frequency
from lstm.profiling.run_lengths import RunLengths
from lstm.starter.names import Choice, format_percent
from lstm.starter.rhythm import Rhythm

_DAY, _YEAR = pd.Timedelta(1, "D"), pd.Timedelta(360, "D")
_SPLIT_LENGTHS = "10min 30min 1h 2h 3h 6h 12h 1d 2d 3d 5d 7d 14d 30d 60d 90d 180d 365d"
_LONGEST_HORIZON = 100
_SHORTEST_LOOKBACK = 3
_MAX_SHARE = 0.15  # of the span, for validation and for the test


@dataclass(frozen=True)
class Lengths:
    """Chosen lengths, in steps of the frequency unless stated otherwise."""

    season: Choice[int]
    horizon: Choice[int]
    split: Choice[str | float]  # a duration or a share, for validation and for the test
    max_gap: Choice[int]
    calendar: Choice[tuple[str, ...]]


@dataclass(frozen=True)
class _UnbrokenRuns:
    """Runs of steps without a gap longer than `max_gap`, of all series."""

    first: np.ndarray  # (runs,) int64: steps after the earliest row
    length: np.ndarray  # (runs,) int64
    filled: int  # steps of the longest gap within a run

    @classmethod
    def of(cls, rhythm: Rhythm, max_gap: int) -> "_UnbrokenRuns":
        offset = 2 * rhythm.steps + max_gap + 2  # between series, so that their runs don't join
        values = np.concatenate([steps + number * offset for number, steps in enumerate(rhythm.value_steps)])
        gaps = np.diff(values) - 1
        broken = gaps > max_gap
        first, last = values[np.r_[True, broken]], values[np.r_[broken, True]]
        return cls(first % offset, last - first + 1, int(gaps[~broken].max(initial=0)))

    @property
    def typical_length(self) -> int:
        """Length such that half of all steps are in runs of this length or longer."""
        lengths = np.sort(self.length)
        return int(lengths[np.searchsorted(lengths.cumsum(), lengths.sum() / 2)])

    def cut_at(self, *moments: int) -> RunLengths:
        """Return the run lengths with start, validation, test and end at these steps."""
        return RunLengths(*(np.clip(moment - self.first, 0, self.length) for moment in moments))


def find_lengths(rhythm: Rhythm) -> Lengths:
    """Choose the lengths for a rhythm."""
    gap, steps = _max_gap(rhythm), rhythm.steps
    runs = _UnbrokenRuns.of(rhythm, gap)
    horizon = _horizon(rhythm, runs.typical_length)
    split = _split(rhythm, horizon.value)
    share = split.value if isinstance(split.value, float) else parse_duration(split.value) / (rhythm.step * steps)
    validation, test = int(steps * (1 - 2 * share)), int(steps * (1 - share))
    season, room = rhythm.season, min(validation, runs.typical_length) - horizon.value
    if season.value > max(room, 1):
        season = _no_season(season.value)
    season, horizon = _shortened(season, horizon, runs.cut_at(0, validation, test, steps), runs.filled)
    gaps = f"steps: a longer gap splits a series; {format_percent(rhythm.missing)} of the rows are missing"
    gaps += "; frequency: irregular, without a calendar, may suit better" if rhythm.missing > 0.5 else ""
    return Lengths(season, horizon, split, Choice(gap, gaps), _calendar(rhythm))


def _no_season(steps: int) -> Choice[int]:
    return Choice(1, f"steps; the season of {steps} steps is longer than the data's unbroken runs")


def _shortened(
    season: Choice[int], horizon: Choice[int], runs: RunLengths, filled: int
) -> tuple[Choice[int], Choice[int]]:
    """Shorten season and horizon until each split has windows that look back a season."""
    # No window ends with a filled value, which leaves at least one of `filled` + 1 consecutive windows.
    while not all(runs.windows(max(season.value, _SHORTEST_LOOKBACK), horizon.value + filled)):
        if season.value > 1:
            season = _no_season(season.value)
        elif horizon.value > 1:
            horizon = Choice(horizon.value * 2 // 3, "steps ahead: unbroken runs are short")
        else:
            break
    return season, horizon


def _max_gap(rhythm: Rhythm) -> int:
    usual = 6 if rhythm.step < _DAY else 3 if rhythm.step < 2 * _DAY or rhythm.missing > 0.05 else 1
    return usual if rhythm.season.value == 1 else max(min(usual, rhythm.season.value // 4), 1)


def _horizon(rhythm: Rhythm, typical_run: int) -> Choice[int]:
    season, cycle = rhythm.season.value, rhythm.shortest_season
    wanted, reason = season, "one season"
    if season == 1:
        wanted, reason = (cycle, "no season shows") if 1 < cycle <= 48 else (12, "no season shows")
    elif season > _LONGEST_HORIZON:
        wanted, reason = cycle, "the shortest plausible season"
    longest = max(min(int(_MAX_SHARE * rhythm.steps - 1) // 2, typical_run // 3), 1)
    if wanted > longest:
        return Choice(longest, "steps ahead: as many as the data's length allows")
    return Choice(wanted, f"steps ahead: {reason}")


def _split(rhythm: Rhythm, horizon: int) -> Choice[str | float]:
    span, needed = rhythm.step * rhythm.steps, rhythm.step * (2 * horizon + 1)
    fitting = [text for text in _SPLIT_LENGTHS.split() if needed <= parse_duration(text) <= _MAX_SHARE * span]
    up_to_tenth = [text for text in fitting if parse_duration(text) <= 0.1 * span]
    if fitting and rhythm.step < 2 * _DAY:
        text = up_to_tenth[-1] if up_to_tenth else fitting[0]
        return Choice(text, f"each: {format_percent(parse_duration(text) / span)} of the span, two horizons or more")
    if 0.1 * span >= needed:
        return Choice(0.1, "each, of the span")
    return Choice(_MAX_SHARE, "each, of the span: the data are short for this horizon")


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
