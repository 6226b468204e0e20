"""When one forecaster counts as better than another: never more often by luck than alpha says."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter
from scipy.stats import ttest_1samp

from lstm.evaluation.comparison import (
    Comparison,
    diebold_mariano,
    judge_against_baseline,
    judge_against_incumbent,
    losses_by_origin,
    origin_overlap,
)

HORIZON, ORIGINS = 24, 720


def retrained(random, phi, ours=1.0, horizon=HORIZON, origins=ORIGINS, series=1):
    """Two networks of one architecture on the same windows: most of their error is common, since nobody could know it.

    What each errs on its own persists over hours (AR(1) of `phi`), and each hour is the target of `horizon` windows.

    Args:
        ours: RMSE of the candidate as a share of the incumbent's.
    """
    steps = origins + horizon - 1
    shared, own, theirs = (persistent(random, phi, (series, steps)) for _ in range(3))
    errors = [ours * (shared + 0.3 * own), shared + 0.3 * theirs]
    losses = [
        np.lib.stride_tricks.sliding_window_view(np.square(one), horizon, axis=1).mean(axis=(0, 2)) for one in errors
    ]
    rmses = [math.sqrt(one.mean()) for one in losses]
    return Comparison(*rmses, *losses, overlap=horizon)


def persistent(random, phi, shape):
    noise = random.normal(size=(shape[0], shape[1] + 200))
    return lfilter([math.sqrt(1 - phi**2)], [1, -phi], noise, axis=1)[:, 200:]


def promoted(found, min_effect=0.0):
    return judge_against_incumbent(found, 0.05, min_effect, "the champion")[0].passed


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.9])
def test_of_200_retrainings_of_equal_quality_no_more_are_promoted_than_alpha_says(phi):
    random = np.random.default_rng(0)  # about 3 in 100 are, so that 1 seed in 25 has more than 10 of 200
    wrong = sum(promoted(retrained(random, phi)) for _ in range(200))
    assert wrong <= 0.05 * 200


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.9])
@pytest.mark.parametrize(
    ("horizon", "origins", "series"), [(24, 720, 1), (24, 720, 10), (6, 115, 1), (1, 700, 1), (96, 600, 1), (24, 96, 1)]
)
def test_of_2000_retrainings_of_equal_quality_no_more_are_promoted_either(phi, horizon, origins, series):
    random = np.random.default_rng(2)
    wrong = sum(promoted(retrained(random, phi, 1.0, horizon, origins, series)) for _ in range(2000))
    assert wrong <= 0.05 * 2000


@pytest.mark.slow
@pytest.mark.parametrize("phi", [0.0, 0.5, 0.8, 0.9])
def test_gaussian_differentials_that_overlap_and_persist_pass_as_seldom(phi):
    random = np.random.default_rng(3)
    steps = persistent(random, phi, (2000, ORIGINS + HORIZON - 1))
    differences = np.lib.stride_tricks.sliding_window_view(steps, HORIZON, axis=1).mean(axis=2)
    wrong = sum(diebold_mariano(one, HORIZON).p_value < 0.05 for one in differences)
    assert wrong <= 0.05 * 2000


@pytest.mark.parametrize(("phi", "series"), [(0.0, 1), (0.5, 1), (0.8, 5), (0.9, 10)])
def test_one_with_five_percent_less_error_is_mostly_promoted(phi, series):
    random = np.random.default_rng(4)
    found = (retrained(random, phi, 0.95, series=series) for _ in range(100))
    assert sum(promoted(one, 0.01) for one in found) > 60


def test_a_worse_one_is_never_promoted():
    random = np.random.default_rng(5)
    assert not any(promoted(retrained(random, 0.9, ours=1.05)) for _ in range(100))


def test_a_statistic_by_hand():
    difference = np.array([1.0, 3.0, 2.0, 6.0])
    # n = 4, overlap 1: 0.4 · 4^(2/3) cosines, so one; √(2/4) · Σ cos(π (t − ½) / 4) d
    projected = math.sqrt(0.5) * sum(math.cos(math.pi * (t + 0.5) / 4) * d for t, d in enumerate(difference))
    corrected = math.sqrt((4 + 1 - 2 + 0) / 4)
    test = diebold_mariano(difference, 1)
    assert test.freedom == 1
    assert test.statistic == pytest.approx(3.0 / math.sqrt(projected**2 / 4) * corrected)
    # Student's t with one degree of freedom is Cauchy's
    assert test.p_value == pytest.approx(0.5 - math.atan(test.statistic) / math.pi)


def test_without_overlap_it_comes_close_to_the_t_test():
    difference = np.random.default_rng(6).normal(0.1, 1, 5000)
    plain = ttest_1samp(difference, 0, alternative="greater")
    assert diebold_mariano(difference, 1).statistic == pytest.approx(plain.statistic, rel=0.25)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 30), st.floats(0.01, 100))
def test_scale_does_not_matter_and_the_sign_turns_the_statistic(seed, overlap, scale):
    difference = np.random.default_rng(seed).normal(0.2, 1, 100)
    test, scaled, turned = (diebold_mariano(one, overlap) for one in (difference, scale * difference, -difference))
    assert scaled.p_value == pytest.approx(test.p_value)
    assert (test.p_value < 0.5) == (test.statistic > 0) == (turned.statistic < 0)
    assert 0 <= test.p_value <= 1


def test_a_constant_difference_is_certain():
    assert diebold_mariano(np.full(100, 0.1), 1).p_value < 1e-6
    assert diebold_mariano(np.zeros(100), 1).p_value == 0.5


def comparison(ours, theirs, overlap=2):
    losses = [np.asarray(one, float) for one in (ours, theirs)]
    return Comparison(*(math.sqrt(one.mean()) for one in losses), *losses, overlap=overlap)


def test_the_same_forecasts_are_equal_and_not_better():
    losses = np.random.default_rng(7).random(50)
    verdict, figures = judge_against_incumbent(
        comparison(losses, losses * (1 + 1e-12)), 0.05, 0.0, "the champion, version 3"
    )
    assert not verdict.passed
    assert verdict.reason.startswith("is equal to the champion, version 3: the same forecasts on the same 50 origins")
    assert "p_value" not in figures
    assert comparison(np.zeros(9), np.zeros(9)).equal


def test_too_few_origins_are_no_proof():
    verdict, _ = judge_against_incumbent(comparison([1, 1, 1], [9, 9, 9]), 0.05, 0.0, "the champion")
    assert not verdict.passed
    assert "3 origins are too few for a test (two horizons of 2 at least): lengthen split.test" in verdict.reason


def test_a_sure_but_tiny_effect_is_told_as_such():
    random = np.random.default_rng(8)
    theirs = 1 + 0.001 * random.random(400)
    verdict, figures = judge_against_incumbent(comparison(theirs * 0.999, theirs), 0.05, 0.01, "the champion")
    assert not verdict.passed and figures["p_value"] < 0.05
    assert verdict.reason.endswith(": the effect is below min_effect 1.0%")
    assert figures["effect"] == pytest.approx(1 - math.sqrt(0.999))
    assert judge_against_incumbent(comparison(theirs * 0.999, theirs), 0.05, 0.0, "the champion")[0].passed


def test_losses_are_the_mean_of_what_was_measured_at_each_origin():
    error = np.array([[[1.0], [3.0]], [[2.0], [np.nan]], [[np.nan], [np.nan]], [[4.0], [4.0]]])
    times = np.array([20, 10, 30, 10])
    # at 10: (4 + 16 + 16) / 3; at 20: (1 + 9) / 2; at 30 nothing
    assert losses_by_origin(error, times).tolist() == [12.0, 5.0]


def test_an_overlap_counts_the_origins_of_all_series():
    hours = np.arange(100)
    assert origin_overlap(hours, np.zeros(100, int), 24) == 24
    times, series = np.r_[hours, hours + 0.5], np.repeat([0, 1], 100)
    assert origin_overlap(times, series, 24) == 48
    assert origin_overlap(np.r_[hours, hours], series, 24) == 24
    assert origin_overlap(hours[:5], np.zeros(5, int), 24) == 24


@pytest.mark.parametrize(
    ("ours", "folds", "passed", "said"),
    [
        (5.0, (4, 5, 6, 9), True, "test RMSE 5 beats persistence with 8 (lower in 3 of 4 folds)"),
        (5.0, (4, 5, 9, 9), False, "does not beat persistence in more than half of the folds (lower in 2 of 4 folds)"),
        (8.0, (4, 5, 6, 7), False, "test RMSE 8 does not beat persistence with 8 (lower in 4 of 4 folds)"),
        (math.nan, (math.nan,) * 4, False, "test RMSE nan does not beat persistence with 8 (lower in 0 of 4 folds)"),
        (math.inf, (4, 5, 6, math.inf), False, "test RMSE inf does not beat persistence with 8"),
    ],
)
def test_a_baseline_is_beaten_overall_and_in_most_folds(ours, folds, passed, said):
    verdict = judge_against_baseline(ours, 8.0, folds, (8, 8, 8, 8), "persistence")
    assert verdict.passed is passed and verdict.reason.startswith(said)


def test_a_fold_in_which_nothing_was_measured_does_not_count():
    nothing = math.nan
    assert judge_against_baseline(5.0, 8.0, (4, 4, nothing, nothing), (8, 8, nothing, nothing), "drift").passed
