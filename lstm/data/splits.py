"""Where training ends, validation ends and the test begins: two moments, the same for every series."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lstm.data.frequency import Frequency
from lstm.data.spec import SplitSpec
from lstm.durations import duration
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


def cut(first: pd.Timestamp, last: pd.Timestamp, frequency: Frequency | None, split: SplitSpec) -> Cuts:
    """Find the cuts of a table.

    Args:
        first, last: the first and the last time of all series.
        frequency: of the grid; None: rows are irregular.
        split: each span as rows of the grid, a fraction of the whole span, or a duration.

    Raises:
        DataError: nothing is left to train on, or a span counts rows where rows are irregular.
    """
    first, last = (moment.tz_convert("UTC").tz_localize(None) for moment in (first, last))
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
    return Cuts(*(np.datetime64(moment, "us") for moment in (start, validation, test, end)))


def _shifted(moment: pd.Timestamp, steps: int, frequency: Frequency | None) -> pd.Timestamp:
    if frequency is None:
        return moment + steps * pd.Timedelta(1, "us")
    return pd.Timestamp(frequency.shift(np.datetime64(moment, "us"), steps))


def _before(
    end: pd.Timestamp, span: int | float | str, whole: pd.Timedelta, frequency: Frequency | None
) -> pd.Timestamp:
    if isinstance(span, str):
        return end - duration(span)
    if frequency is None:
        if isinstance(span, int):
            raise DataError(
                f"split: {span} rows of an irregular series are no span of time. Use a duration such as 30d."
            )
        return end - whole * span
    steps = span if isinstance(span, int) else max(round(whole / frequency.step * span), 1)
    return _shifted(end, -steps, frequency)
