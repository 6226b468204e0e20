"""Where training ends, validation ends and the test begins: two moments, the same for every series.

Spans are counted back from the end of the data, so that the newest rows are the test. Where all three are row counts
they are counted from the start instead, as papers state their splits, and rows after the test are left unused.
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
        """First moment and end of each split."""
        return {
            "train": (self.start, self.validation),
            "validation": (self.validation, self.test),
            "test": (self.test, self.end),
        }


def compute_cuts(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency | None, split: SplitSpec) -> Cuts:
    """Find the cuts of a table.

    Args:
        first, last: the first and the last time of all series.
        frequency: of the grid; None: rows are irregular.
        split: each span as rows of the grid, a fraction of the whole span, or a duration.

    Raises:
        DataError: nothing is left to train on, there are fewer rows than are counted, or a span counts rows where
            rows are irregular.
    """
    first, last = (_naive(moment) for moment in (first, last))
    counts = [span for span in (split.train, split.validation, split.test) if isinstance(span, int)]
    if len(counts) == 3 and frequency is not None:
        return _counted(first, last, frequency, counts)
    end = _shifted(last, 1, frequency)
    whole = end - first
    test = _before(end, split.test, whole, frequency)
    validation = _before(test, split.validation, whole, frequency)
    start = first if split.train is None else max(first, _before(validation, split.train, whole, frequency))
    if validation <= first:
        raise DataError(
            f"split: validation={split.validation} and test={split.test} leave nothing to train on: the data span "
            f"{first.isoformat()} to {end.isoformat()}. Make them shorter, or bring more data."
        )
    return _cuts(start, validation, test, end)


def count_unused_rows(cuts: Cuts, last: pd.Timestamp, frequency: Frequency) -> int:
    """Rows of the grid after the end of the test, up to the last time of all series."""
    return _rows(pd.Timestamp(cuts.end), _naive(last), frequency)


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
    length, fix = f"look-back {longest}", "Shorten the horizon or the look-back"
    if season > longest:
        length = f"look-back {season} (evaluate.season, which the seasonal naive repeats)"
        fix = "Lower evaluate.season (1: none), shorten the horizon"
    for split, count in counts.items():
        if not count:
            start, end = (str(moment)[:19] for moment in cuts.spans[split])
            raise DataError(
                f"split {split} ({start} to {end}) holds no window of {length} + window.horizon {horizon} rows "
                f"without a gap. {fix}, lengthen the split, or bring more data."
            )


def _counted(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency, counts: list[int]) -> Cuts:
    """Training, validation and test of so many rows each, from the start."""
    there = _rows(first, last, frequency)
    if sum(counts) > there:
        train, validation, test = counts
        raise DataError(
            f"split: train={train}, validation={validation} and test={test} are {sum(counts)} rows, but the data hold "
            f"{there}, from {first.isoformat()} to {last.isoformat()}. Make them shorter, or bring more data."
        )
    return _cuts(*(_shifted(first, rows, frequency) for rows in (0, *accumulate(counts))))


def _rows(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency) -> int:
    """Rows of the grid from one moment to another, both included; 0 where the other comes before it."""
    if last < first:
        return 0
    moments = (np.array([moment], "datetime64[us]") for moment in (last, first))
    steps = int(frequency.positions(*moments)[0])
    return 1 + (steps if steps >= 0 else int((last - first) / frequency.step))  # of series whose grids differ


def _cuts(*moments: pd.Timestamp) -> Cuts:
    return Cuts(*(np.datetime64(moment, "us") for moment in moments))


def _naive(moment: pd.Timestamp) -> pd.Timestamp:
    return moment.tz_convert("UTC").tz_localize(None)


def _shifted(moment: pd.Timestamp, steps: int, frequency: Frequency | None) -> pd.Timestamp:
    if frequency is None:
        return moment + steps * pd.Timedelta(1, "us")
    return pd.Timestamp(frequency.shift(np.datetime64(moment, "us"), steps))


def _before(
    end: pd.Timestamp, span: int | float | str, whole: pd.Timedelta, frequency: Frequency | None
) -> pd.Timestamp:
    if isinstance(span, str):
        return end - parse_duration(span)
    if frequency is None:
        if isinstance(span, int):
            raise DataError(
                f"split: {span} rows of an irregular series are no span of time. Use a duration such as 30d."
            )
        return end - whole * span
    steps = span if isinstance(span, int) else max(round(whole / frequency.step * span), 1)
    return _shifted(end, -steps, frequency)
