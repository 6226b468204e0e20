"""Rolling-origin evaluation: the cuts of each fold, and the windows of all folds joined.

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
from lstm.metrics.metrics import Band
from lstm.metrics.skill import relative_scores


@dataclass(frozen=True)
class Fold:
    """One fold: what a model is trained on, and the part of the test span it is scored on."""

    cuts: Cuts  # nothing at or after `cuts.end` is used
    since: np.datetime64  # UTC; windows whose first step ahead is at or after this time are scored


def make_folds(cuts: Cuts, count: int, frequency: Frequency | None, refit: bool, sliding: bool = False) -> list[Fold]:
    """Cut the test span into equal folds, each with training and validation directly before it.

    Args:
        cuts: of the configuration's split.
        count: number of folds.
        frequency: of the time grid; folds have equally many of its rows. None: irregular rows, folds of equal duration.
        refit: False: all folds keep the training and validation span of the first.
        sliding: whether the start of training moves along with its end.

    Raises:
        DataError: the test span has fewer rows than folds.
    """
    rows = None if frequency is None else _count_test_rows(cuts, frequency)
    if rows is not None and rows < count:
        raise DataError(
            f"evaluate.backtest.folds: {count} folds can't be cut from the {rows} rows of the test span ({cuts.test} "
            f"to {cuts.end}). Lower it, or lengthen split.test."
        )

    def shift(time: np.datetime64, parts: int) -> np.datetime64:
        if frequency is None or rows is None:
            return time + (cuts.end - cuts.test) * parts // count
        return frequency.shift(time, round(rows * parts / count)) if parts else time

    borders = [*(shift(cuts.test, number) for number in range(count)), cuts.end]
    folds = []
    for number, (since, end) in enumerate(pairwise(borders)):
        parts = number if refit else 0
        start = shift(cuts.start, parts) if sliding else cuts.start
        folds.append(Fold(Cuts(start, shift(cuts.validation, parts), borders[parts], end), since))
    return folds


def _count_test_rows(cuts: Cuts, frequency: Frequency) -> int:
    """Return the number of rows of the time grid in the test span."""
    most = int((cuts.end - cuts.test) / frequency.step.to_timedelta64() * 1.1) + 10  # calendar steps differ in length
    return int((frequency.times(np.repeat(cuts.test, most), np.arange(most)) < cuts.end).sum())


@dataclass(frozen=True)
class FoldWindows:
    """The windows of one fold."""

    split: ScoredWindows  # all windows of the fold's cuts from the start of the test span on
    in_fold: np.ndarray  # (windows,) bool: windows that belong to the fold and are scored

    @classmethod
    def of(cls, split: ScoredWindows, fold: Fold) -> "FoldWindows":
        """Select the windows that belong to the fold."""
        return cls(split, split.times >= fold.since)


def join_folds(folds: Sequence[FoldWindows]) -> ScoredWindows:
    """Return the windows of all folds, fold after fold, each with the scale of its own training.

    They can be scored but not forecast: of `windows` only the number and the horizon are valid.
    """
    names = tuple(sorted({name for fold in folds for name in fold.split.names}))
    number_of = {name: number for number, name in enumerate(names)}
    numbers = [np.array([number_of[name] for name in fold.split.names]) for fold in folds]
    series = np.concatenate(
        [codes[fold.split.series[fold.in_fold]] for codes, fold in zip(numbers, folds, strict=True)]
    )
    scales = [fold.split.scale[fold.in_fold] for fold in folds]
    center, scale = (np.concatenate([getattr(part, name) for part in scales]) for name in ("center", "scale"))
    return ScoredWindows(
        windows=replace(folds[0].split.windows, origins=torch.arange(len(series))),
        actual=np.concatenate([fold.split.actual[fold.in_fold] for fold in folds]),
        scale=TargetScale(center, scale, scales[0].log),
        naive_error=np.concatenate([fold.split.naive_error[fold.in_fold] for fold in folds]),
        series=series,
        times=np.concatenate([fold.split.times[fold.in_fold] for fold in folds]),
        names=names,
    )


def join_fold_bands(
    folds: Sequence[FoldWindows], bands: Iterable[Iterable[tuple[int, Band]]]
) -> Iterator[tuple[int, Band]]:
    """Yield level and band of the windows of `join_folds`, from the bands of each fold in the same order of levels."""
    for parts in zip(*bands, strict=True):
        pairs = [
            (lower[fold.in_fold], upper[fold.in_fold]) for fold, (_, (lower, upper)) in zip(folds, parts, strict=True)
        ]
        lowers, uppers = zip(*pairs, strict=True)
        yield parts[0][0], (np.concatenate(lowers), np.concatenate(uppers))


def fold_table(scored: ErrorSums, reference: ErrorSums, folds: Sequence[FoldWindows]) -> pd.DataFrame:
    """Return the metrics of the windows of `join_folds` by fold.

    Args:
        scored: sums of the forecasts of these windows.
        reference: sums of another forecast of them.
        folds: in the order in which they were joined.

    Returns:
        Columns `fold` (from 1), `windows`, the metrics, their skills and `owa`.
    """
    counts = [int(fold.in_fold.sum()) for fold in folds]
    labels = np.repeat(np.arange(len(folds)), counts)
    ours, theirs = (
        metrics.all_metrics(sum_by_group(sums.sums.by_window, labels, len(folds)), sums.levels)
        for sums in (scored, reference)
    )
    relative = relative_scores(ours, theirs)
    return pd.DataFrame({"fold": np.arange(1, len(folds) + 1), "windows": counts, **ours, **relative})
