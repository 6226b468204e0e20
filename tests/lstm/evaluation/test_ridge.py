"""The ridge baseline: what it reads of a window, which laws it finds, and what it may not know."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from sklearn.metrics import mean_squared_error

from lstm.data.windows import Windows
from lstm.errors import DataError
from lstm.evaluation.baselines import Persistence
from lstm.evaluation.ridge import ALPHAS, MAX_KNOWN_INPUTS, RidgeBaseline, sample_evenly

random = np.random.default_rng(0)


def windows_of(features, origins, length=8, horizon=3, n_known=0, targets=1, measured=None):
    """Windows over one series whose first columns are the targets."""
    rows = torch.tensor(np.asarray(features, np.float32))
    actual = rows[:, :targets].clone() if measured is None else torch.tensor(measured, dtype=torch.float32)
    return Windows(rows, actual, torch.tensor(np.asarray(origins)), length, horizon, n_known)


def halves(features, **changes):
    """Training and validation windows."""
    length, horizon = changes.get("length", 8), changes.get("horizon", 3)
    middle = len(features) * 2 // 3
    training = windows_of(features, np.arange(length, middle - horizon), **changes)
    return training, windows_of(features, np.arange(middle, len(features) - horizon + 1), **changes)


def rmse(forecast, windows):
    actual = windows.actual(torch.arange(len(windows))).numpy()
    return float(np.sqrt(np.nanmean((forecast - actual) ** 2)))


def test_a_wave_is_forecast_exactly():
    hours = np.arange(3000)
    wave = np.sin(2 * np.pi * hours / 24) + 0.5 * np.sin(2 * np.pi * hours / 7 + 1)
    training, validation = halves(wave[:, None], length=48, horizon=12)
    found = RidgeBaseline.fit(training, validation, season=24)
    assert rmse(found.forecast(validation), validation) < 0.005
    assert rmse(Persistence().forecast(validation), validation) > 0.5


def test_known_steps_ahead_and_the_newest_observation_are_used():
    """The law: a step is the step before, plus twice what is known of it, plus thrice what was observed before it."""
    known, observed = random.normal(size=(2, 4000))
    change = 2 * known + 3 * np.r_[0, observed[:-1]]
    features = np.stack([np.cumsum(change) / 20, observed, known], axis=1)
    training, validation = halves(features, horizon=1, n_known=1)
    found = RidgeBaseline.fit(training, validation, season=1)
    assert rmse(found.forecast(validation), validation) < 0.002
    assert rmse(Persistence().forecast(validation), validation) > 0.15
    longer, ahead = halves(features, horizon=4, n_known=1)
    made = RidgeBaseline.fit(longer, ahead, season=1).forecast(ahead)
    unknowable = 3 / 20 * np.sqrt([0, 1, 2, 3])  # observations of steps that are still to come
    actual = ahead.actual(torch.arange(len(ahead))).numpy()
    np.testing.assert_allclose(np.sqrt(np.mean((made - actual) ** 2, axis=0))[:, 0], unknowable, atol=0.02)


def test_it_agrees_with_scikit_learn():
    features = np.cumsum(random.normal(size=(260, 4)), axis=0) / 10  # two targets, one observed, one known
    training, validation = halves(features, length=6, horizon=2, n_known=1, targets=2)
    found = RidgeBaseline.fit(training, validation, season=2)  # two seasons: four values
    made = found.forecast(validation)

    def read(windows, target):
        inputs, outputs = [], []
        for origin in windows.origins.tolist():
            past, last = features[origin - 4 : origin, target], features[origin - 1, target]
            inputs.append([*(past - last), features[origin - 1, 2], *features[origin : origin + 2, 3]])
            outputs.append(features[origin : origin + 2, target] - last)
        return np.array(inputs), np.array(outputs)

    for target in range(2):
        (x, y), (seen, came) = read(training, target), read(validation, target)
        forecasts = {alpha: Ridge(alpha).fit(x, y).predict(seen) for alpha in ALPHAS}
        best = min(ALPHAS, key=lambda alpha: mean_squared_error(came, forecasts[alpha]))
        assert found.models[target].alpha == best
        last = features[validation.origins.numpy() - 1, target]
        np.testing.assert_allclose(made[:, :, target], forecasts[best] + last[:, None], atol=1e-5)


def test_noise_makes_it_shrink():
    features = np.c_[random.normal(size=600), random.normal(size=(600, 30))]
    training, validation = halves(features, horizon=1, n_known=30)
    free, shrunk = (RidgeBaseline.fit(training, validation, season=1, alphas=alphas) for alphas in ((1e-6,), ALPHAS))
    assert rmse(shrunk.forecast(validation), validation) < rmse(free.forecast(validation), validation)


def test_it_does_not_look_ahead():
    features = random.normal(size=(400, 3))
    training, validation = halves(features, n_known=1)
    found = RidgeBaseline.fit(training, validation, season=2)
    before = windows_of(features, [200], n_known=1)
    later = features.copy()
    later[200:, :2] += 100
    assert (found.forecast(windows_of(later, [200], n_known=1)) == found.forecast(before)).all()
    later[201, 2] += 1  # known ahead
    assert (found.forecast(windows_of(later, [200], n_known=1)) != found.forecast(before)).any()
    later = features.copy()
    later[199, 0] += 1  # the newest value
    assert (found.forecast(windows_of(later, [200], n_known=1)) != found.forecast(before)).all()


def test_the_validation_windows_choose_and_do_not_train():
    features = random.normal(size=(400, 1))
    training, validation = halves(features)
    other = windows_of(features, validation.origins.numpy()[:30])
    probe = windows_of(features, [390])
    one, two = (RidgeBaseline.fit(training, each, 2, alphas=(10.0,)).forecast(probe) for each in (validation, other))
    assert (one == two).all()


def test_windows_with_steps_that_were_not_measured_are_left_out():
    features = random.normal(size=(300, 2))
    measured = features[:, :2].copy()
    measured[100, 0] = np.nan
    origins = np.arange(8, 200)
    gappy = windows_of(features, origins, targets=2, measured=measured)
    whole = windows_of(features, origins[(origins < 98) | (origins > 100)], targets=2)
    validation = windows_of(features, np.arange(210, 290), targets=2)
    one, two = (RidgeBaseline.fit(training, validation, season=2).forecast(validation) for training in (gappy, whole))
    np.testing.assert_allclose(one[..., 0], two[..., 0], rtol=1e-9)
    assert not np.isclose(one[..., 1], two[..., 1]).all()  # the other target lacks nothing
    nothing = windows_of(features, origins, targets=2, measured=np.full((300, 2), np.nan))
    with pytest.raises(DataError, match="ridge: no .* training window .* every step of target 1 measured"):
        RidgeBaseline.fit(nothing, validation, season=2)


def test_steps_that_were_not_measured_do_not_choose():
    features = random.normal(size=(300, 1))
    measured = features.copy()
    measured[250:] = np.nan
    training = windows_of(features, np.arange(8, 200))
    gappy = windows_of(features, np.arange(210, 290), measured=measured)
    assert np.isfinite(RidgeBaseline.fit(training, gappy, season=2).forecast(gappy)).all()


@pytest.mark.parametrize(("horizon", "n_known"), [(60, 9), (3, 500)])
def test_of_very_many_known_columns_some_steps_are_read(horizon, n_known):
    features = random.normal(size=(700, 1 + n_known))
    training, validation = halves(features, horizon=horizon, n_known=n_known)
    baseline = RidgeBaseline.fit(training, validation, season=2)
    assert len(baseline.inputs.steps) * n_known <= max(MAX_KNOWN_INPUTS, n_known)
    assert baseline.inputs.steps[0] == 0 and (
        len(baseline.inputs.steps) == 1 or baseline.inputs.steps[-1] == horizon - 1
    )
    assert baseline.forecast(validation).shape == (len(validation), horizon, 1)


@given(st.integers(1, 10**9), st.integers(1, 500))
def test_a_sample_is_even(count, most):
    found = sample_evenly(count, most)
    assert len(found) == min(count, most) and found[0] >= 0 and found[-1] < count
    assert (np.diff(found) > 0).all()
    apart = count / len(found)
    assert (np.abs(found - (np.arange(len(found)) + 0.5) * apart) <= apart / 2 + 1).all()


def test_a_sample_sees_every_hour_of_the_day():
    hours = np.bincount(sample_evenly(24 * 1000, 1000) % 24, minlength=24)
    assert hours.min() > 20
