"""AutoETS and AutoTheta on windows: what is chosen in training, what is made of a lookback, what is refused."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from lstm.data.windows import Windows
from lstm.errors import DataError
from lstm.evaluation.baselines import Persistence, SeasonalNaive, fit_baselines
from lstm.evaluation.classical import CLASSICAL, ClassicalBaseline

pytestmark = pytest.mark.skipif(find_spec("statsforecast") is None, reason="needs statsforecast: lstm[classical]")

both = pytest.mark.parametrize("name", CLASSICAL)
SEASON, LENGTH, HORIZON = 6, 36, 8


def windows_of(values, origins, length=LENGTH, series=None):
    rows = torch.tensor(np.asarray(values, np.float32)).reshape(len(values), -1)
    numbers = None if series is None else torch.tensor(series)
    return Windows(rows, rows, torch.tensor(np.asarray(origins)), length, HORIZON, 0, numbers)


def wave(count, noise=0.0, seed=0):
    season = 3 * np.sin(2 * np.pi * np.arange(count) / SEASON)
    return season + np.random.default_rng(seed).normal(0, noise, count)


def rmse(forecast, windows):
    actual = windows.actual(torch.arange(len(windows))).numpy()
    return float(np.sqrt(np.mean((forecast - actual) ** 2)))


@both
def test_it_finds_a_season_in_noise_from_any_phase(name):
    values = wave(700, noise=0.5)
    training, later = windows_of(values[:500], range(36, 493)), windows_of(values, range(540, 692))
    made = ClassicalBaseline.fit(name, training, SEASON).forecast(later)
    assert rmse(made, later) < 0.6  # the noise is 0.5
    assert rmse(SeasonalNaive(SEASON).forecast(later), later) > 0.65


@both
def test_a_level_that_has_moved_since_training_is_followed(name):
    values = wave(700, noise=0.1) + 50 * (np.arange(700) >= 500)
    training, later = windows_of(values[:500], range(36, 493)), windows_of(values, range(540, 692))
    assert rmse(ClassicalBaseline.fit(name, training, SEASON).forecast(later), later) < 0.3


def test_simple_exponential_smoothing_is_what_it_is_by_hand():
    """From the mean of the lookback's first ten values on."""
    random = np.random.default_rng(1)
    values = 5 + random.normal(size=300) + np.cumsum(random.normal(0, 0.2, 300))
    training = windows_of(values, range(36, 293))
    found = ClassicalBaseline.fit("auto_ets", training, 1)
    assert found.models[0][0]["components"] == "ANNN"
    alpha, past = found.models[0][0]["par"][0], values[100:136].astype(np.float32)
    level = past[:10].mean()
    for value in past:
        level += alpha * (value - level)
    made = found.forecast(windows_of(values, [136]))
    np.testing.assert_allclose(made[0, :, 0], level, rtol=1e-5)


@both
def test_only_the_last_unbroken_run_of_a_series_is_read(name):
    values = np.r_[np.random.default_rng(2).normal(9, 5, 100), wave(200, noise=0.3)]
    broken = windows_of(values, [*range(36, 60), *range(136, 293)])
    whole = windows_of(values[100:], range(36, 193))
    probe = windows_of(values, [250])
    one, two = (ClassicalBaseline.fit(name, windows, SEASON).forecast(probe) for windows in (broken, whole))
    assert (one == two).all()


@both
def test_each_series_and_target_has_a_model_of_its_own_and_a_new_one_that_of_the_longest(name):
    columns = np.stack([wave(500, noise=0.3), np.cumsum(wave(500, noise=1.0, seed=1))], axis=1)
    numbers = np.repeat([1, 2, 3], [200, 150, 150])
    training = windows_of(columns, [*range(36, 193), *range(236, 343)], series=numbers)
    found = ClassicalBaseline.fit(name, training, SEASON)
    assert sorted(found.models) == [1, 2] and found.new_series_model == 1
    new = windows_of(columns, [450], series=numbers)
    as_first = windows_of(columns, [450], series=np.ones(500, int))
    assert (found.forecast(new) == found.forecast(as_first)).all()
    alone = ClassicalBaseline.fit(name, windows_of(columns[:200, 1], range(36, 193)), SEASON)
    probe = windows_of(columns[:200], [150], series=numbers[:200])
    np.testing.assert_array_equal(
        found.forecast(probe)[..., 1], alone.forecast(windows_of(columns[:200, 1], [150]))[..., 0]
    )


@both
def test_what_never_changes_stays_as_it_is(name):
    still = windows_of(np.full(200, 2.5), range(36, 193))
    found = ClassicalBaseline.fit(name, still, SEASON)
    assert (found.forecast(still) == 2.5).all()
    moving = windows_of(wave(200, noise=0.3), range(36, 193))
    assert (found.forecast(moving) == Persistence().forecast(moving)).all()
    assert (ClassicalBaseline.fit(name, moving, SEASON).forecast(still) == 2.5).all()


def test_what_they_cannot_do_is_the_reason_that_they_are_left_out():
    windows = windows_of(wave(300, noise=0.1), range(36, 293))
    fitted, left_out = fit_baselines(("drift", *CLASSICAL), windows, windows, season=25)
    assert list(fitted) == ["drift"]
    assert "`season <= 24` must hold, but got season=25" in left_out["auto_ets"]
    assert "lookback=36, season=25" in left_out["auto_theta"]
    with pytest.raises(DataError, match="lookback=36, season=19"):
        ClassicalBaseline.fit("auto_ets", windows, 19)
