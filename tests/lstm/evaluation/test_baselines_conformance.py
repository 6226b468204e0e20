"""What everything that forecasts windows keeps to: each baseline, a network of each cell, an ensemble."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec
from lstm.data.normalize import Statistics
from lstm.data.scaling import ALL_SERIES, PanelNormalizer
from lstm.evaluation.baselines import fit_baselines
from lstm.evaluation.classical import CLASSICAL
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import predict_point
from lstm.forecasting.forecaster import Forecaster
from tests.support.network_variants import mixed_windows, network_of
from tests.support.tables import DATA

SEASON, N_MEASURED = 4, 3  # two targets and an observed covariate; the fourth column is known ahead
BASELINES = ("persistence", "seasonal_naive", "drift", "ridge", *CLASSICAL)
CELLS = ("lstm", "gru", "bilstm", "transformer")


def training():
    windows = mixed_windows()
    return replace(windows, origins=windows.origins[:60])


def clean():
    windows = mixed_windows()
    return replace(windows, origins=windows.origins[60:])


def of_baseline(name):
    fitted, left_out = fit_baselines([name], training(), clean(), SEASON)
    assert not left_out
    return fitted[name].forecast


def of_network(cell):
    network = network_of(cell=cell, num_layers=1)
    return lambda windows: predict_point(network, windows)


def of_ensemble():
    members = tuple(network_of(cell=cell, num_layers=1, sequence_length=8 + 2 * k) for k, cell in enumerate(CELLS[:3]))
    numbers = np.arange(4.0)[None]
    statistics = Statistics(numbers, numbers + 1, numbers - 9, numbers + 9, names=(ALL_SERIES,), quartiles=None)
    forecaster = Forecaster(
        name="three",
        spec=DataSpec.parse(DATA),
        categories={},
        normalizer=PanelNormalizer.fit(statistics, NormalizeSpec(per="all"), 2),
        members=members,
        weights=(0.5, 0.3, 0.2),
        method="inverse_error",
        intervals=Conformal(np.ones((99, 5, 2))),
        lineage={},
    )
    return forecaster.forecast_windows


MAKERS = {
    **{name: (lambda name=name: of_baseline(name)) for name in BASELINES},
    **{cell: (lambda cell=cell: of_network(cell)) for cell in CELLS},
    "ensemble": of_ensemble,
}
LACKING = pytest.mark.skipif(find_spec("statsforecast") is None, reason="needs statsforecast: lstm[classical]")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[LACKING] if name in CLASSICAL else []) for name in MAKERS]
)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def forecast(name):
    return MAKERS[name]()


def same(one, two):
    """Equal, but for the last digits of float32: networks add up in another order in another batch."""
    return np.allclose(one, two, rtol=0, atol=2e-6)


def test_it_has_a_finite_number_a_window_step_and_target(forecast):
    made = forecast(clean())
    assert made.shape == (len(clean()), 5, 2) and made.dtype == np.float64
    assert np.isfinite(made).all()


def test_the_future_is_not_there_to_be_read(forecast):
    windows = clean()
    before = forecast(windows)
    for place in (0, 17, len(windows) - 1):
        origin = int(windows.origins[place])
        features, targets = windows.features.clone(), torch.full_like(windows.targets, torch.nan)
        features[origin:, :N_MEASURED] = torch.nan  # what is known ahead stays, up to the horizon
        features[origin + 5 :] = torch.nan
        blind = replace(windows, features=features, targets=targets, origins=windows.origins[place : place + 1])
        assert same(forecast(blind), before[place : place + 1])


def test_the_last_window_needs_no_row_behind_its_horizon(forecast):
    windows = clean()
    origins = windows.origins[:20]
    end = int(origins[-1]) + windows.horizon
    series = windows.series[:end]
    cut = replace(
        windows, features=windows.features[:end], targets=windows.targets[:end], origins=origins, series=series
    )
    assert same(forecast(cut), forecast(windows)[:20])


def test_windows_that_move_with_their_rows_are_the_same_windows(forecast):
    windows = clean()
    moved = replace(
        windows,
        features=windows.features[1:],
        targets=windows.targets[1:],
        origins=windows.origins - 1,
        series=windows.series[1:],
    )
    assert same(forecast(moved), forecast(windows))


def test_the_order_of_windows_changes_nothing(forecast):
    windows = clean()
    order = torch.randperm(len(windows), generator=torch.Generator().manual_seed(0))
    assert same(forecast(replace(windows, origins=windows.origins[order])), forecast(windows)[order])


def test_a_window_is_forecast_whatever_the_others_are(forecast):
    windows = clean()
    alone = [forecast(replace(windows, origins=windows.origins[place : place + 1])) for place in range(3)]
    assert same(np.concatenate(alone), forecast(windows)[:3])


def test_the_newest_value_is_read(forecast):
    windows = clean()
    later = replace(windows, features=windows.features.clone(), origins=windows.origins[:1])
    later.features[int(windows.origins[0]) - 1, :2] += 1
    assert not same(forecast(later), forecast(windows)[:1])


def test_made_again_it_gives_the_same_bits_and_its_windows_stay_as_they_were(forecast, name):
    windows = clean()
    kept = windows.features.clone(), windows.targets.clone(), windows.origins.clone()
    made = forecast(windows)
    assert (forecast(windows) == made).all() and (MAKERS[name]()(windows) == made).all()
    assert torch.equal(windows.features, kept[0]) and torch.equal(windows.origins, kept[2])
    assert torch.equal(windows.targets, kept[1])
