from dataclasses import replace

import numpy as np
import pytest
import torch

from lstm.config.data import DataSpec
from lstm.data.arrays import SplitArrays
from lstm.data.panel import build_panel
from lstm.data.table import canonicalize
from lstm.errors import DataError
from lstm.evaluation.incumbent import compare_forecasters
from lstm.evaluation.scoring import ScoredWindows
from tests.support.forecasters import make_forecaster
from tests.support.tables import DATA, make_hourly


@pytest.fixture
def judged(spec):
    """A candidate, the table, and the windows of its last ten days."""
    table = canonicalize(make_hourly(shops=("east", "north", "south")), spec)
    candidate = make_forecaster(spec, make_hourly(shops=("east", "north", "south")))
    panel = build_panel(table, spec)
    scale = candidate.normalizer.target_scale(panel.names)
    arrays = SplitArrays(
        features=candidate.normalizer.normalize_features(panel),
        targets=candidate.normalizer.normalize_targets(panel),
        allowed=panel.times >= np.datetime64("2024-04-01"),
        segment=panel.segment,
        series=panel.series,
        times=panel.times,
    )
    windows = arrays.windows(24, 6, panel.layout.n_known)
    scored = ScoredWindows.of(arrays, windows, scale, np.ones((3, 1)))
    return candidate, table, scored, panel.names


def test_a_forecaster_ties_with_itself(judged):
    candidate, table, scored, names = judged
    found = compare_forecasters(candidate, candidate, table, scored, names)
    assert found.equal and found.effect == pytest.approx(0, abs=1e-9)
    assert found.rmse == pytest.approx(found.incumbent_rmse, rel=1e-9)
    actual, forecast = scored.denormalize(scored.actual), scored.denormalize(candidate.forecast_windows(scored.windows))
    assert found.rmse == pytest.approx(np.sqrt(np.mean((actual - forecast) ** 2)))


def test_a_worse_incumbent_is_seen_through_its_own_normaliser(judged):
    candidate, table, scored, names = judged
    with torch.no_grad():
        incumbent = make_forecaster(candidate.spec, make_hourly(shops=("east", "north", "south"), seed=5))
        for member in incumbent.members:
            member.head.out.bias += 3
    found = compare_forecasters(candidate, incumbent, table, scored, names)
    assert found.incumbent_rmse > 2 * found.rmse and found.effect > 0.5


def test_a_series_that_the_incumbent_never_saw_is_left_out(judged):
    candidate, table, scored, names = judged
    incumbent = make_forecaster(candidate.spec, make_hourly(shops=("north", "south")))
    found = compare_forecasters(candidate, incumbent, table, scored, names)
    known = scored.series != 0
    error = scored.denormalize(scored.actual) - scored.denormalize(candidate.forecast_windows(scored.windows))
    assert found.rmse == pytest.approx(np.sqrt(np.mean(error[known] ** 2)))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"target": ["visitors"], "observed": []}, "another target"),
        ({"observed": [], "known": ["price"]}, "needs column 'price'"),
    ],
)
def test_what_cannot_be_compared_is_told(judged, change, said):
    candidate, table, scored, names = judged
    incumbent = replace(candidate, spec=DataSpec.parse({**DATA, **change}))
    with pytest.raises(DataError, match=said):
        compare_forecasters(candidate, incumbent, table, scored, names)


def test_strangers_are_told(judged):
    candidate, table, scored, names = judged
    incumbent = make_forecaster(candidate.spec, make_hourly(shops=("a", "b")))
    with pytest.raises(DataError, match="none of the series"):
        compare_forecasters(candidate, incumbent, table, scored, names)


def test_a_forecast_that_is_not_finite_where_the_target_was_measured_is_no_good_forecast(judged):
    candidate, table, scored, names = judged
    with torch.no_grad():
        incumbent = make_forecaster(candidate.spec, make_hourly(shops=("east", "north", "south")))
        for member in incumbent.members:
            member.head.out.bias[0] = np.nan  # of the first step only
    found = compare_forecasters(candidate, incumbent, table, scored, names)
    assert np.isfinite(found.rmse) and np.isnan(found.incumbent_rmse)
    assert np.isfinite(found.losses).all() and np.isinf(found.incumbent_losses).all()


def test_a_large_series_does_not_drown_a_small_one(judged):
    candidate, table, scored, names = judged
    size = np.array([1.0, 10.0, 100.0])
    found = compare_forecasters(
        candidate, candidate, table, replace(scored, naive_error=size[scored.series][:, None, None]), names
    )
    error = scored.denormalize(scored.actual) - scored.denormalize(candidate.forecast_windows(scored.windows))
    by_series = np.stack([np.mean(error[scored.series == one] ** 2, axis=(1, 2)) / size[one] ** 2 for one in range(3)])
    assert found.losses == pytest.approx(by_series.mean(axis=0))
    assert (found.origins, found.overlap) == (len(np.unique(scored.times)), 6)


def test_a_series_without_a_naive_error_takes_the_others_mean(judged):
    candidate, table, scored, names = judged
    for nothing in (np.nan, 0.0):
        size = np.array([2.0, nothing, 4.0])
        gap = replace(scored, naive_error=size[scored.series][:, None, None])
        filled = replace(scored, naive_error=np.where(size > 0, size, 3.0)[scored.series][:, None, None])
        ours, same = (compare_forecasters(candidate, candidate, table, one, names) for one in (gap, filled))
        assert ours.losses == pytest.approx(same.losses)


def test_a_constant_series_alone_is_compared_in_its_own_units(judged):
    candidate, table, scored, names = judged
    found = compare_forecasters(candidate, candidate, table, replace(scored, naive_error=0 * scored.naive_error), names)
    assert np.mean(found.losses) == pytest.approx(found.rmse**2)
