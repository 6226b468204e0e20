"""Test whether one forecaster is better than another on the same windows."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_EQUAL = 1e-9  # of the mean loss: what two ways of computing the same forecast may differ by
_LONGEST_MEMORY = 0.9  # autocorrelation beyond the overlap, at most


@dataclass(frozen=True)
class Significance:
    """Result of a test of a mean difference of losses."""

    statistic: float  # positive: ours is lower
    p_value: float  # one-sided: probability of at least this statistic if both are equally good
    freedom: int  # degrees of freedom


@dataclass(frozen=True)
class Comparison:
    """Losses of candidate and incumbent on the same windows."""

    rmse: float  # of the candidate, in raw units
    incumbent_rmse: float
    losses: np.ndarray  # (origin times,) float64: squared error by the naive error, mean over series, steps, targets
    incumbent_losses: np.ndarray  # the same shape
    overlap: int  # origin times whose windows share steps: what the losses are correlated over by construction

    @property
    def origins(self) -> int:
        """Number of distinct origin times."""
        return len(self.losses)

    @property
    def effect(self) -> float:
        """Relative reduction of the incumbent's scaled RMSE; positive if the candidate is better."""
        ours, theirs = float(np.mean(self.losses)), float(np.mean(self.incumbent_losses))
        return 1 - math.sqrt(ours / theirs) if theirs > 0 else 0.0

    @property
    def equal(self) -> bool:
        """Whether both made the same forecasts, up to rounding."""
        apart = np.abs(self.losses - self.incumbent_losses)
        return bool((apart <= _EQUAL * np.mean(self.losses + self.incumbent_losses)).all())

    @property
    def testable(self) -> bool:
        """Whether there are enough origin times for a test: at least two horizons."""
        return self.origins >= 2 * self.overlap

    def significance(self) -> Significance:
        """Test that the candidate is better."""
        return diebold_mariano(self.incumbent_losses - self.losses, self.overlap)


def diebold_mariano(difference: np.ndarray, overlap: int) -> Significance:
    """One-sided test of Diebold & Mariano 1995 that the mean of a loss differential is above 0.

    The long-run variance is the equal-weighted cosine estimate of Lazarus, Lewis, Stock & Watson 2018, with which the
    statistic has Student's t in small samples too (Coroneo & Iacone 2020 for this test), and the statistic is
    corrected as Harvey, Leybourne & Newbold 1997. How many cosines: one per 1.5 stretches of time within which the
    losses are correlated. Such a stretch is the overlap of the windows, longer where losses a whole overlap apart are
    still correlated. The test is made with that many, with half and with a third of them, and the largest p counts:
    fewer see slow swings that more take for noise. (A Bartlett kernel of the usual bandwidth promotes equals in 6 to
    16 of 100 cases at alpha 0.05 where losses persist, this one in 2 to 5.)

    Args:
        difference: (n,) float64, theirs minus ours, in the order of time.
        overlap: steps over which windows share targets, at least 1.
    """
    n, mean = len(difference), float(np.mean(difference))
    most = max(math.floor(min(n / (1.5 * overlap * _memory(difference, overlap)), 0.4 * n ** (2 / 3))), 1)
    tests = [_t_test(difference, mean, max(most // part, min(most, 2)), overlap) for part in (1, 2, 3)]
    return max(tests, key=lambda test: test.p_value)


def _memory(difference: np.ndarray, overlap: int) -> float:
    """Return the factor by which correlated losses last longer than the overlap; 1 if they end with it.

    The factor is that of an AR(1) of blocks, whose long-run variance is (1 + r) / (1 − r) times its own.
    """
    centred = difference - difference.mean()
    power = float(centred @ centred)
    if power == 0 or overlap >= len(difference):
        return 1.0
    beyond = min(max(float(centred[overlap:] @ centred[:-overlap]) / power, 0.0), _LONGEST_MEMORY)
    return (1 + beyond) / (1 - beyond)


def _t_test(difference: np.ndarray, mean: float, cosines: int, overlap: int) -> Significance:
    from scipy.stats import t as student  # takes a second: only where there is something to test

    n = len(difference)
    place = np.arange(1, cosines + 1)[:, None] * (np.arange(n) + 0.5)
    projected = math.sqrt(2 / n) * np.cos(math.pi * place / n) @ difference
    variance = float(np.mean(np.square(projected))) / n  # of the mean
    small_sample = max(n + 1 - 2 * overlap + overlap * (overlap - 1) / n, 0.0) / n
    if variance == 0:
        statistic = math.copysign(math.inf, mean) if mean else 0.0
    else:
        statistic = mean / math.sqrt(variance) * math.sqrt(small_sample)
    return Significance(statistic, float(student.sf(statistic, cosines)), cosines)


def losses_by_origin(scaled: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the mean squared error per origin time, over its series, steps and targets.

    Args:
        scaled: (windows, horizon, targets) float64, error by naive error; NaN: not measured.
        times: (windows,) of the first step ahead.

    Returns:
        (origin times,) in the order of time, without those at which nothing was measured.
    """
    measured = ~np.isnan(scaled)
    _, origin = np.unique(times, return_inverse=True)
    sums = np.bincount(origin, np.where(measured, np.square(scaled), 0).sum(axis=(1, 2)))
    counts = np.bincount(origin, measured.sum(axis=(1, 2)))
    return sums[counts > 0] / counts[counts > 0]


def origin_overlap(times: np.ndarray, series: np.ndarray, horizon: int) -> int:
    """Return how many origin times lie within a horizon: more than its steps if the series' times interleave.

    Args:
        times: (windows,) of the first step ahead.
        series: (windows,) int.
        horizon: steps ahead.
    """
    _, rank = np.unique(times, return_inverse=True)
    apart = []
    for one in np.unique(series):
        own = np.sort(rank[series == one])
        apart.append(own[horizon:] - own[:-horizon])
    spans = np.concatenate(apart)
    return max(int(np.median(spans)), 1) if len(spans) else horizon


@dataclass(frozen=True)
class Verdict:
    """Result of a check, with its reason as a clause."""

    passed: bool
    reason: str


def judge_against_baseline(
    ours: float, theirs: float, our_folds: Sequence[float], their_folds: Sequence[float], baseline: str
) -> Verdict:
    """Judge whether a candidate beats a baseline: lower RMSE overall, and in more than half of the folds.

    Args:
        ours: RMSE over all test windows.
        theirs: of the baseline.
        our_folds: RMSE by fold; a fold in which nothing was measured is NaN for both, and counts for neither.
        their_folds: of the baseline.
        baseline: its name.
    """
    pairs = [pair for pair in zip(our_folds, their_folds, strict=True) if not math.isnan(pair[1])]
    won = sum(own < other for own, other in pairs)
    folds = f"lower in {won} of {len(pairs)} folds"
    if not (math.isfinite(ours) and ours < theirs):
        return Verdict(False, f"test RMSE {ours:.4g} does not beat {baseline} with {theirs:.4g} ({folds})")
    if 2 * won <= len(pairs):
        return Verdict(False, f"does not beat {baseline} in more than half of the folds ({folds})")
    return Verdict(True, f"test RMSE {ours:.4g} beats {baseline} with {theirs:.4g} ({folds})")


def judge_against_incumbent(
    comparison: Comparison, alpha: float, min_effect: float, name: str
) -> tuple[Verdict, dict[str, Any]]:
    """Judge whether the candidate is better than the incumbent by the test and by the least effect.

    Args:
        comparison: losses of both, all finite.
        alpha: largest probability of a promotion if both are equally good.
        min_effect: least relative reduction of the incumbent's scaled RMSE.
        name: of the incumbent, such as "the champion, version 3".

    Returns:
        The verdict, and its figures: effect, origins, and where there was a test statistic, p_value, freedom.
    """
    figures: dict[str, Any] = {"effect": comparison.effect, "origins": comparison.origins}
    errors = f"{comparison.rmse:.4g} against {comparison.incumbent_rmse:.4g}"
    on = f"on the same {comparison.origins} origins of the test span: {errors}"
    if comparison.equal:
        return Verdict(False, f"is equal to {name}: the same forecasts {on}"), figures
    if not comparison.testable:
        few = f"{comparison.origins} origins are too few for a test (two horizons of {comparison.overlap} at least)"
        return Verdict(False, f"does not beat {name}: {few}: lengthen split.test"), figures
    test = comparison.significance()
    figures |= {"statistic": test.statistic, "p_value": test.p_value, "freedom": test.freedom}
    change = f"{abs(comparison.effect):.1%} {'lower' if comparison.effect >= 0 else 'higher'}"
    evidence = f"{on}, {change} scaled, Diebold–Mariano p = {test.p_value:.2g}"
    why = []
    if not test.p_value < alpha:
        why.append(f"p is not below alpha {alpha:g}")
    if not comparison.effect >= min_effect:
        why.append(f"the effect is below min_effect {min_effect:.1%}")
    if why:
        return Verdict(False, f"does not beat {name}, {evidence}: {' and '.join(why)}"), figures
    return Verdict(True, f"beats {name}, {evidence}"), figures
