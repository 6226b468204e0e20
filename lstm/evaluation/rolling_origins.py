"""Rolling origins: the cuts of each fold, and the windows of all folds as one set.

Tashman 2000, "Out-of-sample tests of forecasting accuracy"; Hyndman & Athanasopoulos, fpp3, 5.10.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from lstm.calendars.frequency import Frequency
from lstm.data.scaling import TargetScale
from lstm.data.splits import Cuts
from lstm.errors import DataError
from lstm.evaluation.scoring import ErrorSums, ScoredWindows
from lstm.metrics import metrics
from lstm.metrics.breakdown import sum_by_group
from lstm.metrics.metrics import Band, Sums
from lstm.metrics.skill import relative_scores


@dataclass(frozen=True)
class Fold:
    """One origin: what is learned from, and which part of the test span is forecast."""

    cuts: Cuts  # nothing at or after their end is looked at
    since: np.datetime64  # windows whose first step ahead lies here or later are scored


def make_folds(cuts: Cuts, count: int, frequency: Frequency | None, refit: bool, sliding: bool = False) -> list[Fold]:
    """Equal parts of the test span, each with training and validation directly before it.

    Args:
        cuts: of the configuration's split.
        count: of folds.
        frequency: of the grid, whose rows are counted; None: rows are irregular, and the parts last equally long.
        refit: False: all folds have the training and validation of the first.
        sliding: whether the start of training moves along with its end.

    Raises:
        DataError: the test span has fewer rows than folds.
    """
    rows = None if frequency is None else _rows(cuts, frequency)
    if rows is not None and rows < count:
        raise DataError(
            f"evaluate.backtest.folds: {count} folds can't be cut from the {rows} rows of the test span ({cuts.test} "
            f"to {cuts.end}). Lower it, or lengthen split.test."
        )

    def moved(moment: np.datetime64, parts: int) -> np.datetime64:
        if frequency is None or rows is None:
            return moment + (cuts.end - cuts.test) * parts // count
        return frequency.shift(moment, round(rows * parts / count)) if parts else moment

    borders = [*(moved(cuts.test, number) for number in range(count)), cuts.end]
    folds = []
    for number, (since, end) in enumerate(pairwise(borders)):
        parts = number if refit else 0
        start = moved(cuts.start, parts) if sliding else cuts.start
        folds.append(Fold(Cuts(start, moved(cuts.validation, parts), borders[parts], end), since))
    return folds


def _rows(cuts: Cuts, frequency: Frequency) -> int:
    """Of the grid in the test span."""
    most = int((cuts.end - cuts.test) / frequency.step.to_timedelta64() * 1.1) + 10  # calendar steps differ in length
    return int((frequency.times(np.repeat(cuts.test, most), np.arange(most)) < cuts.end).sum())


@dataclass(frozen=True)
class FoldWindows:
    """The windows of one fold."""

    split: ScoredWindows  # from the test's beginning on
    in_fold: np.ndarray  # (windows,) bool: the fold's own, which are scored

    @classmethod
    def of(cls, split: ScoredWindows, fold: Fold) -> "FoldWindows":
        """Which of the windows are the fold's own."""
        return cls(split, split.times >= fold.since)


def join_folds(folds: Sequence[FoldWindows]) -> ScoredWindows:
    """The windows of all folds, one fold after the other, each with the scale of its own training.

    They are to be scored and not to be forecast: of their `windows` only number and horizon mean anything.
    """
    names = tuple(sorted({name for one in folds for name in one.split.names}))
    places = {name: place for place, name in enumerate(names)}
    numbers = [np.array([places[name] for name in one.split.names]) for one in folds]
    series = np.concatenate([own[one.split.series[one.in_fold]] for own, one in zip(numbers, folds, strict=True)])
    scales = [one.split.scale[one.in_fold] for one in folds]
    center, scale = (np.concatenate([getattr(one, name) for one in scales]) for name in ("center", "scale"))
    return ScoredWindows(
        windows=replace(folds[0].split.windows, origins=torch.arange(len(series))),
        actual=np.concatenate([one.split.actual[one.in_fold] for one in folds]),
        scale=TargetScale(center, scale, scales[0].log),
        naive_error=np.concatenate([one.split.naive_error[one.in_fold] for one in folds]),
        series=series,
        times=np.concatenate([one.split.times[one.in_fold] for one in folds]),
        names=names,
    )


def join_fold_bands(
    folds: Sequence[FoldWindows], bands: Iterable[Iterable[tuple[int, Band]]]
) -> Iterator[tuple[int, Band]]:
    """The bands of `joined` windows, from those of each fold's, which come in the same order of levels."""
    for parts in zip(*bands, strict=True):
        pairs = [
            (lower[one.in_fold], upper[one.in_fold]) for one, (_, (lower, upper)) in zip(folds, parts, strict=True)
        ]
        lowers, uppers = zip(*pairs, strict=True)
        yield parts[0][0], (np.concatenate(lowers), np.concatenate(uppers))


def fold_table(scored: ErrorSums, reference: ErrorSums, folds: Sequence[FoldWindows]) -> pd.DataFrame:
    """Metrics of `joined` windows by fold: `fold` (from 1), `windows`, the metrics, their skills and `owa`."""
    counts = [int(one.in_fold.sum()) for one in folds]
    labels = np.repeat(np.arange(len(folds)), counts)
    ours, theirs = (
        _metrics(sum_by_group(one.sums.by_window, labels, len(folds)), one.levels) for one in (scored, reference)
    )
    relative = relative_scores(ours, theirs)
    return pd.DataFrame({"fold": np.arange(1, len(folds) + 1), "windows": counts, **ours, **relative})


def _metrics(sums: Sums, levels: Sequence[int]) -> Sums:
    points, intervals = metrics.point_metrics(sums), metrics.interval_metrics(sums, levels)
    return {**points, **intervals, **metrics.normalized_metrics(sums)}
