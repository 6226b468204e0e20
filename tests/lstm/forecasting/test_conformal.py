"""Split, quantile and adaptive conformal intervals against hand-worked numbers, laws, and slow loops."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from lstm.errors import ConfigError
from lstm.evaluation.bands import adaptive_bands, split_bands
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.prediction import Prediction
from tests.support.calibration import LEARNED, SCALE, make_windows


def with_quantiles(*rows, levels=LEARNED):
    """Of windows with one step and one target."""
    quantiles = np.array(rows, float)[:, None, None]
    return Prediction(quantiles[..., len(levels) // 2], quantiles, levels)


def test_without_calibration_the_ends_lie_between_the_learned_quantiles():
    prediction = with_quantiles([0, 4, 10])
    none = Conformal(np.zeros((99, 1, 1)), LEARNED)
    found = none.bands(prediction, [95, 80, 50], SCALE)
    assert list(found) == [95, 80, 50]
    assert [(low.item(), high.item()) for low, high in found.values()] == [
        (0, 10),  # 2.5 and 97.5 % were not learned: the outermost
        (pytest.approx(0), pytest.approx(10)),
        (pytest.approx(1.5), pytest.approx(7.75)),  # 25 % is 3/8 of the way from 10 to 50 %, 75 % is 5/8 to 90 %
    ]


def test_the_radius_of_quantiles_is_the_score_of_the_paper():
    actual = np.array([5.0, 11, -3, 9, 10.5, 0, 14, 5, 8])[:, None, None]
    made = Conformal.fit(actual, with_quantiles(*[[0, 4, 10]] * 9))
    scores = sorted(max(0 - y, y - 10) for y in actual.ravel())  # -5 -5 -2 -1 0 .5 1 3 4
    assert made.level_offsets(80).item() == pytest.approx(scores[8 - 1])  # ⌈10 · 0.8⌉
    narrower = Conformal.fit(np.full((9, 1, 1), 4.0), with_quantiles(*[[0, 4, 10]] * 9))
    ((low, high),) = narrower.bands(with_quantiles([0, 4, 10]), [80], SCALE).values()
    assert (low.item(), high.item()) == (pytest.approx(4), pytest.approx(6))  # 4 below both ends, from both sides


@pytest.mark.slow
@pytest.mark.parametrize("quantiles", [False, True])
@pytest.mark.parametrize("level", [50, 80, 95])
def test_on_exchangeable_data_coverage_is_nominal_or_above_on_average(level, quantiles):
    random, windows, draws = np.random.default_rng(level), 59, 4000
    spread = random.uniform(0.2, 3, (2, windows, draws, 1))
    actual = random.normal(0, spread)
    learned = stats.norm.ppf(LEARNED) * spread[..., None]  # of half the spread only, so that much is left to learn
    made = [
        Prediction(np.zeros_like(one), 0.5 * two if quantiles else None, LEARNED if quantiles else ())
        for one, two in zip(spread, learned, strict=True)
    ]
    ((low, high),) = Conformal.fit(actual[0], made[0]).bands(made[1], [level], SCALE).values()
    covered = ((low <= actual[1]) & (actual[1] <= high)).mean()
    rank = np.ceil((windows + 1) * level / 100)
    # the law: a fresh score is below the rank-th smallest of n with probability rank / (n + 1)
    assert covered == pytest.approx(rank / (windows + 1), abs=0.003)
    assert rank / (windows + 1) >= level / 100


def test_with_quantiles_uneven_noise_is_covered_as_well_by_narrower_intervals():
    random, levels = np.random.default_rng(0), (0.025, 0.5, 0.975)
    spread = np.exp(random.normal(0, 1, (2, 5000, 1, 1)))
    actual = random.normal(0, spread)
    learned = stats.norm.ppf(levels) * spread[..., None]
    found = {}
    for name, (first, second) in {
        "absolute": [Prediction(0 * one) for one in spread],
        "quantiles": [Prediction(0 * one, two, levels) for one, two in zip(spread, learned, strict=True)],
    }.items():
        ((low, high),) = Conformal.fit(actual[0], first).bands(second, [95], SCALE).values()
        found[name] = ((low <= actual[1]) & (actual[1] <= high)).mean(), (high - low).mean()
    assert found["absolute"][0] == pytest.approx(0.95, abs=0.01)
    assert found["quantiles"][0] == pytest.approx(0.95, abs=0.01)
    assert found["quantiles"][1] < 0.8 * found["absolute"][1]


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_wider_levels_hold_narrower_ones_and_all_hold_the_forecast(seed, quantiles, adaptive):
    random = np.random.default_rng(seed)
    shape, levels = (12, 3, 2), [1, 10, 50, 55, 80, 95, 99]
    learned = np.sort(random.normal(0, 1, (*shape, 3)), axis=-1)
    prediction = Prediction(learned[..., 1], learned if quantiles else None, LEARNED if quantiles else ())
    radius = random.normal(0, 1, (99, 3, 2)) if adaptive else np.sort(random.normal(0, 1, (99, 3, 2)), axis=0)
    made = Conformal(radius, prediction.levels)
    split = make_windows(range(12), actual=random.normal(0, 3, shape))
    found = dict((adaptive_bands if adaptive else split_bands)(made, split, prediction, levels))
    inner = (prediction.point, prediction.point)
    for level in levels:
        assert (found[level][0] <= inner[0]).all() and (found[level][1] >= inner[1]).all()
        inner = found[level]


def test_quantiles_that_the_intervals_were_not_learned_for_are_refused():
    plain = Conformal(np.zeros((99, 1, 1)))
    with pytest.raises(ConfigError, match=r"calibrated for quantiles \[\] .* quantiles \[0.1, 0.5, 0.9\]"):
        plain.bands(with_quantiles([0, 1, 2]), [80], SCALE)
    split = make_windows([0], actual=np.zeros((1, 1, 1)))
    with pytest.raises(ConfigError, match="calibrated for quantiles"):
        next(adaptive_bands(plain, split, with_quantiles([0, 1, 2]), [80]))
    with pytest.raises(ConfigError, match="whole percents"):
        next(adaptive_bands(plain, split, np.zeros((1, 1, 1)), [100]))


def test_json_gives_the_same_bits_back():
    random = np.random.default_rng(9)
    made = Conformal(random.normal(0, 1, (99, 3, 2)), LEARNED, np.datetime64("2024-03-01T12:30:00.000001", "us"))
    again = Conformal.from_dict(json.loads(json.dumps(made.to_dict())))
    assert (again.quantile_offsets == made.quantile_offsets).all()
    assert (again.quantiles, again.calibrated_until) == (made.quantiles, made.calibrated_until)
    assert Conformal.from_dict(Conformal(made.quantile_offsets).to_dict()).calibrated_until is None


def test_intervals_of_an_earlier_version_are_told():
    with pytest.raises(ConfigError, match="key 'quantiles' is missing: an earlier version saved this forecaster"):
        Conformal.from_dict({"radius": []})
