"""Where training ends, validation ends and the test begins: two moments, the same for every series."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

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


def cut(times: np.ndarray, step: pd.Timedelta, split: SplitSpec) -> Cuts:
    """Find the cuts of a panel.

    Args:
        times: (rows,) datetime64[ns] of all series.
        step: the frequency.
        split: each span as rows of the grid, a fraction of the whole span, or a duration.

    Raises:
        DataError: nothing is left to train on.
    """
    first, end = pd.Timestamp(times.min()), pd.Timestamp(times.max()) + step
    whole = end - first
    test = end - _length(split.test, whole, step)
    validation = test - _length(split.validation, whole, step)
    start = first if split.train is None else max(first, validation - _length(split.train, whole, step))
    if validation <= first:
        raise DataError(
            f"split: validation={split.validation} and test={split.test} leave nothing to train on: the data span "
            f"{first.isoformat()} to {end.isoformat()}. Make them shorter, or bring more data."
        )
    return Cuts(*(np.datetime64(moment, "ns") for moment in (start, validation, test, end)))


def _length(span: int | float | str, whole: pd.Timedelta, step: pd.Timedelta) -> pd.Timedelta:
    if isinstance(span, str):
        return duration(span)
    if isinstance(span, int):
        return span * step
    return max(round(whole / step * span), 1) * step
