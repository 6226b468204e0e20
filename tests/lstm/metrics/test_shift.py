"""PSI and Kolmogorov–Smirnov distance against hand-worked numbers, SciPy and the laws of a divergence."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy, ks_2samp

from lstm.metrics.shift import decile_edges, distribution_shift, ks_distance, population_stability, stretch_starts

VALUES = st.lists(st.floats(-1e6, 1e6, width=32), min_size=1, max_size=50).map(np.array)
START, HOUR = np.datetime64("2021-01-01", "us"), np.timedelta64(1, "h")


def smoothed_psi(reference, other):
    """As the diagnosis of a run computes it: between deciles, half a value added to each bin."""
    return population_stability(reference, other, decile_edges(reference), pseudo_count=0.5)


@given(VALUES, VALUES, st.randoms(use_true_random=False))
def test_a_shift_is_never_negative_and_zero_against_the_same_values(reference, other, random):
    shuffled = np.array(random.sample(reference.tolist(), len(reference)))
    assert distribution_shift(reference, shuffled) == {"psi": 0, "ks": 0}
    assert smoothed_psi(reference, shuffled) == 0 and smoothed_psi(reference, other) >= 0
    shift = distribution_shift(reference, other)
    assert shift["psi"] >= 0
    differences = [abs((reference <= value).mean() - (other <= value).mean()) for value in (*reference, *other)]
    assert shift["ks"] == pytest.approx(max(differences))
    assert shift["ks"] == pytest.approx(ks_distance(other, reference))
    assert distribution_shift(reference, np.array([])) == {}


@given(st.integers(0, 2**32 - 1), st.floats(-2, 2), st.floats(0.2, 4))
def test_a_shift_does_not_depend_on_the_unit_and_the_distance_is_that_of_scipy(seed, center, spread):
    random = np.random.default_rng(seed)
    reference, other = random.normal(0, 1, 500), random.normal(center, spread, 300)
    assert ks_distance(reference, other) == pytest.approx(ks_2samp(reference, other).statistic)
    for psi in (population_stability, smoothed_psi):
        rescaled = psi(3 * reference + 7, 3 * other + 7)
        assert rescaled == pytest.approx(psi(reference, other), rel=1e-6, abs=1e-9)


def test_the_stability_index_is_that_of_the_hand_worked_shares():
    half, quarter = np.repeat([0.0, 1.0], 50), np.repeat([0.0, 1.0], [25, 75])
    assert population_stability(half, quarter) == pytest.approx(0.25 * math.log(2) + 0.25 * math.log(1.5))
    assert ks_distance(half, quarter) == 0.25
    # deciles of 0 … 99 hold a tenth each; 0 … 49 fills five of them with a fifth each, and leaves five empty
    filled, empty = 5 * 0.1 * math.log(2), 5 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert population_stability(np.arange(100.0), np.arange(50.0)) == pytest.approx(filled + empty)


def test_categories_shift_by_their_shares_and_have_no_distance():
    one_each, three_of_four = np.array([0.0, 1.0]), np.array([0.0, 0.0, 0.0, 1.0])
    psi = 0.25 * math.log(1.5) + 0.25 * math.log(2)
    assert distribution_shift(one_each, three_of_four, numeric=False) == {"psi": pytest.approx(psi)}


def test_the_stability_index_is_the_symmetric_entropy_of_the_bins():
    random = np.random.default_rng(0)
    reference, other = random.normal(0, 1, 100_000), random.normal(1, 1, 100_000)
    edges = np.quantile(reference, np.arange(1, 10) / 10)
    p, q = (np.bincount(np.searchsorted(edges, values), minlength=10) / 100_000 for values in (reference, other))
    assert population_stability(reference, other) == pytest.approx(entropy(p, q) + entropy(q, p))
    assert smoothed_psi(reference, other) == pytest.approx(entropy(p, q) + entropy(q, p), rel=0.01)


def test_pseudo_counts_keep_empty_bins_finite():
    # By hand: 10 zeros, then 10 ones; with half a value in each of the two bins the shares are 10.5/11 and 0.5/11.
    assert smoothed_psi(np.zeros(10), np.ones(10)) == pytest.approx(2 * 10 / 11 * math.log(21))
    assert smoothed_psi(np.zeros(100), np.zeros(50)) < 0.01  # half a value weighs more in a smaller sample


@pytest.mark.parametrize(
    ("hours", "length", "count"),
    [(100, 40, 2), (100, 50, 2), (100, 51, 0), (100, 100, 0), (100, 0, 0), (100, 4, 12), (0, 4, 0)],
)
def test_stretches_lie_in_the_span_and_do_not_overlap(hours, length, count):
    times = START + np.arange(hours + 1) * HOUR if hours else np.zeros(0, "M8[us]")
    starts = stretch_starts(times[::-1], length * HOUR)
    assert len(starts) == count
    if count:
        assert starts[0] == times[0] and starts[-1] + length * HOUR == times[-1]
        assert (np.diff(starts) >= length * HOUR).all()
