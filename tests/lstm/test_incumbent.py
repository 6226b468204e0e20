from dataclasses import replace

import numpy as np
import pytest
import torch

from lstm.data.arrays import SplitArrays
from lstm.data.panel import build_panel
from lstm.data.spec import DataSpec
from lstm.data.table import canonical
from lstm.errors import DataError
from lstm.evaluation.incumbent import compare
from lstm.evaluation.scoring import ScoredWindows

from ..conftest import DATA, make_hourly
from .test_forecaster import make_forecaster


@pytest.fixture
def judged(spec):
    """A candidate, the table, and the windows of its last ten days."""
    table = canonical(make_hourly(shops=("east", "north", "south")), spec)
    candidate = make_forecaster(spec, make_hourly(shops=("east", "north", "south")))
    panel = build_panel(table, spec)
    scale = candidate.normalizer.target_scale(panel.names)
    arrays = SplitArrays(
        features=candidate.normalizer.features(panel),
        targets=candidate.normalizer.targets(panel),
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
    ours, theirs = compare(candidate, candidate, table, scored, names)
    assert ours == pytest.approx(theirs, rel=1e-9)
    actual, forecast = scored.raw(scored.actual), scored.raw(candidate.forecast_windows(scored.windows))
    assert ours == pytest.approx(np.sqrt(np.mean((actual - forecast) ** 2)))


def test_a_worse_incumbent_is_seen_through_its_own_normaliser(judged):
    candidate, table, scored, names = judged
    with torch.no_grad():
        incumbent = make_forecaster(candidate.spec, make_hourly(shops=("east", "north", "south"), seed=5))
        for member in incumbent.members:
            member.head.out.bias += 3
    ours, theirs = compare(candidate, incumbent, table, scored, names)
    assert theirs > 2 * ours


def test_a_series_that_the_incumbent_never_saw_is_left_out(judged):
    candidate, table, scored, names = judged
    incumbent = make_forecaster(candidate.spec, make_hourly(shops=("north", "south")))
    ours, _ = compare(candidate, incumbent, table, scored, names)
    known = scored.series != 0
    error = scored.raw(scored.actual) - scored.raw(candidate.forecast_windows(scored.windows))
    assert ours == pytest.approx(np.sqrt(np.mean(error[known] ** 2)))


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
        compare(candidate, incumbent, table, scored, names)


def test_strangers_are_told(judged):
    candidate, table, scored, names = judged
    incumbent = make_forecaster(candidate.spec, make_hourly(shops=("a", "b")))
    with pytest.raises(DataError, match="none of the series"):
        compare(candidate, incumbent, table, scored, names)


def test_a_forecast_that_is_not_finite_where_the_target_was_measured_is_no_good_forecast(judged):
    candidate, table, scored, names = judged
    with torch.no_grad():
        incumbent = make_forecaster(candidate.spec, make_hourly(shops=("east", "north", "south")))
        for member in incumbent.members:
            member.head.out.bias[0] = np.nan  # of the first step only
    ours, theirs = compare(candidate, incumbent, table, scored, names)
    assert np.isfinite(ours) and np.isnan(theirs)
