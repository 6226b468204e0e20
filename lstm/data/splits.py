"""The cuts between training, validation and test, the same times for every series.

Spans are counted back from the end of the data, so that the newest rows are the test. If all three are row counts, they
are counted from the start, as papers state their splits, and rows after the test are unused.
"""

from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration
from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.config.preparation import SplitSpec
from lstm.errors import DataError


@dataclass(frozen=True)
class Cuts:
    """Half-open spans of target times: train [start, validation), validation [validation, test), test [test, end)."""

    start: np.datetime64
    validation: np.datetime64
    test: np.datetime64
    end: np.datetime64

    @property
    def spans(self) -> dict[str, tuple[np.datetime64, np.datetime64]]:
        """First time and end (exclusive) of each split."""
        return {
            "train": (self.start, self.validation),
            "validation": (self.validation, self.test),
            "test": (self.test, self.end),
        }


def compute_cuts(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency | None, split: SplitSpec) -> Cuts:
    """Compute the cuts of a table.

    Args:
        first, last: first and last time of all series.
        frequency: of the grid; None: rows are irregular.
        split: each span as rows of the grid, a fraction of the whole span, or a duration.

    Raises:
        DataError: nothing is left to train on, there are fewer rows than the splits need, or a span is a row count and
            rows are irregular.
    """
    first, last = (_to_naive(time) for time in (first, last))
    counts = [span for span in (split.train, split.validation, split.test) if isinstance(span, int)]
    if len(counts) == 3 and frequency is not None:
        return _cuts_from_counts(first, last, frequency, counts)
    end = _shift(last, 1, frequency)
    total = end - first
    test = _before(end, split.test, total, frequency)
    validation = _before(test, split.validation, total, frequency)
    start = first if split.train is None else max(first, _before(validation, split.train, total, frequency))
    if validation <= first:
        raise DataError(
            f"split: validation={split.validation} and test={split.test} leave nothing to train on: the data span "
            f"{first.isoformat()} to {end.isoformat()}. Make them shorter, or bring more data."
        )
    return _cuts(start, validation, test, end)


def count_unused_rows(cuts: Cuts, last: pd.Timestamp, frequency: Frequency) -> int:
    """Return the rows of the grid after the test, up to the last time of all series."""
    return _grid_rows(pd.Timestamp(cuts.end), _to_naive(last), frequency)


def check_window_counts(counts: dict[str, int], config: PipelineConfig, cuts: Cuts) -> None:
    """Check that each split has a window.

    Args:
        counts: windows per split.
        config: complete.
        cuts: of the splits.

    Raises:
        DataError: a split has none.
    """
    season, longest, horizon = config.evaluate.season, config.longest_lookback, config.window.horizon
    length, fix = f"lookback {longest}", "Shorten the horizon or the lookback"
    if season > longest:
        length = f"lookback {season} (evaluate.season, which the seasonal naive repeats)"
        fix = "Lower evaluate.season (1: none), shorten the horizon"
    for split, count in counts.items():
        if not count:
            start, end = (str(moment)[:19] for moment in cuts.spans[split])
            raise DataError(
                f"split {split} ({start} to {end}) holds no window of {length} + window.horizon {horizon} rows "
                f"without a gap. {fix}, lengthen the split, or bring more data."
            )


def _cuts_from_counts(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency, counts: list[int]) -> Cuts:
    """Cut training, validation and test of these numbers of rows, from the start."""
    available = _grid_rows(first, last, frequency)
    if sum(counts) > available:
        train, validation, test = counts
        raise DataError(
            f"split: train={train}, validation={validation} and test={test} are {sum(counts)} rows, but the data hold "
            f"{available}, from {first.isoformat()} to {last.isoformat()}. Make them shorter, or bring more data."
        )
    return _cuts(*(_shift(first, rows, frequency) for rows in (0, *accumulate(counts))))


def _grid_rows(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency) -> int:
    """Return the rows of the grid from `first` to `last`, both included; 0 if `last` is earlier."""
    if last < first:
        return 0
    times = (np.array([time], "datetime64[us]") for time in (last, first))
    steps = int(frequency.positions(*times)[0])
    return 1 + (steps if steps >= 0 else int((last - first) / frequency.step))  # series may have different grids


def _cuts(*times: pd.Timestamp) -> Cuts:
    return Cuts(*(np.datetime64(time, "us") for time in times))


def _to_naive(time: pd.Timestamp) -> pd.Timestamp:
    return time.tz_convert("UTC").tz_localize(None)


def _shift(time: pd.Timestamp, steps: int, frequency: Frequency | None) -> pd.Timestamp:
    if frequency is None:
        return time + steps * pd.Timedelta(1, "us")
    return pd.Timestamp(frequency.shift(np.datetime64(time, "us"), steps))


def _before(
    end: pd.Timestamp, span: int | float | str, total: pd.Timedelta, frequency: Frequency | None
) -> pd.Timestamp:
    if isinstance(span, str):
        return end - parse_duration(span)
    if frequency is None:
        if isinstance(span, int):
            raise DataError(
                f"split: {span} rows of an irregular series are no span of time. Use a duration such as 30d."
            )
        return end - total * span
    steps = span if isinstance(span, int) else max(round(total / frequency.step * span), 1)
    return _shift(end, -steps, frequency)
