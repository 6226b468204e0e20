"""`normalize.log`: networks see logarithms of the targets, and forecasts are in the units of the targets."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lstm import Forecaster
from lstm.config.data import DataSpec
from lstm.config.preparation import NormalizeSpec
from lstm.data.arrays import SplitArrays
from lstm.data.normalize import DataNormalizer
from lstm.data.panel import build_panel
from lstm.data.scaling import ALL_SERIES, PanelNormalizer, TargetScale
from lstm.data.table import canonicalize
from lstm.errors import DataError
from lstm.evaluation.incumbent import compare_forecasters
from lstm.evaluation.scoring import ScoredWindows
from lstm.forecasting.conformal import Conformal
from lstm.metrics.metrics import naive_errors
from tests.support.forecasters import make_forecaster
from tests.support.panels import store_panel
from tests.support.tables import DATA, make_hourly

LOG = NormalizeSpec(log=True)


def still(forecaster):
    """The same with networks whose forecast is the anchor: the last value, unchanged."""
    with torch.no_grad():
        for member in forecaster.members:
            for weights in member.parameters():
                weights.zero_()
    return forecaster


def scored_windows(forecaster, table, spec, naive=1.0):
    """The windows of the last ten days."""
    panel = build_panel(table, spec)
    normalizer = forecaster.normalizer
    arrays = SplitArrays(
        features=normalizer.normalize_features(panel),
        targets=normalizer.normalize_targets(panel),
        allowed=panel.times >= np.datetime64("2024-04-01"),
        segment=panel.segment,
        series=panel.series,
        times=panel.times,
    )
    scale = normalizer.target_scale(panel.names)
    windows = arrays.windows(24, 6, panel.layout.n_known)
    return ScoredWindows.of(arrays, windows, scale, np.full((len(panel.names), 1), naive)), panel.names


def test_a_hand_worked_scale():
    scale = TargetScale(np.array([1.0]), np.array([2.0]), log=True)
    np.testing.assert_allclose(scale.normalize(np.array([np.e, np.e**3, 1.0])), [0, 1, -0.5], atol=1e-12)
    np.testing.assert_allclose(scale.denormalize(np.array([0.0, 1.0, np.nan])), [np.e, np.e**3, np.nan])


@given(st.lists(st.floats(1e-6, 1e9), min_size=1), st.floats(-5, 5), st.floats(0.01, 10), st.booleans())
def test_denormalize_inverts_normalize(values, center, scale, log):
    target_scale = TargetScale(np.array([center]), np.array([scale]), log)
    np.testing.assert_allclose(
        target_scale.denormalize(target_scale.normalize(np.array(values))), values, rtol=1e-9, atol=1e-9
    )


@pytest.mark.parametrize("strategy", ["zscore", "minmax", "robust", "none"])
@pytest.mark.parametrize("per", ["series", "all"])
def test_statistics_are_those_of_the_training_rows_logarithms(hourly, tmp_path, strategy, per):
    hourly.loc[::7, "sales"] = np.nan
    _, panel = store_panel(hourly, tmp_path, normalize=NormalizeSpec(strategy=strategy, per=per, log=True))
    training = hourly[hourly["time"] < "2024-03-31"]
    assert panel.normalizer.names == (("north", "south") if per == "series" else (ALL_SERIES,))
    for number, name in enumerate(panel.normalizer.names):
        rows = training if per == "all" else training[training["shop"] == name]
        logged = np.stack([np.log(rows["sales"]), rows["visitors"]], axis=1)  # the covariate is left as it is
        reference = DataNormalizer({"strategy": strategy}).fit(logged)
        np.testing.assert_allclose(panel.normalizer.center[number], reference.center, rtol=1e-9)
        np.testing.assert_allclose(panel.normalizer.scale[number], reference.scale, rtol=1e-9)
    if strategy == "none":
        sales = np.log(hourly["sales"].to_numpy())
        np.testing.assert_allclose(panel.array("targets")[:, 0], sales, rtol=1e-6)
        np.testing.assert_allclose(panel.array("features")[:-1, 1], hourly["visitors"][:-1], rtol=1e-6)


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 10 * 24 - 1), st.floats(1e-3, 1e5))
def test_nothing_after_the_training_span_moves_the_logarithms_statistics(tmp_path, hour, value):
    frame = make_hourly()
    changed = frame.copy()
    start = pd.Timestamp("2024-03-31") + pd.Timedelta(hours=hour)
    changed.loc[changed["time"] == start.strftime("%Y-%m-%dT%H:%M:%SZ"), "sales"] = value
    (_, first), (_, second) = (
        store_panel(each, tmp_path / name, normalize=LOG) for name, each in (("a", frame), ("b", changed))
    )
    assert first.normalizer.to_dict() == second.normalizer.to_dict()


@pytest.mark.parametrize("value", [0.0, -2.5])
@pytest.mark.parametrize("moment", ["2024-03-05T07", "2024-04-07T11"])  # in training, and in the test span
def test_a_value_without_a_logarithm_is_refused_in_any_split(hourly, tmp_path, value, moment):
    hourly.loc[(hourly["time"] == f"{moment}:00:00Z") & (hourly["shop"] == "south"), "sales"] = value
    expected = (
        f"series 'south': target 'sales' must be above 0 where normalize.log is true, but is {value:g} at "
        f"{moment}:00:00Z. Set normalize.log: false, or leave a missing value empty."
    )
    with pytest.raises(DataError) as caught:
        store_panel(hourly, tmp_path, normalize=LOG)
    assert str(caught.value) == expected
    spec = DataSpec.parse(DATA)
    forecaster = make_forecaster(spec, make_hourly(), normalize=LOG)
    with pytest.raises(DataError) as caught:
        forecaster.normalizer.normalize_targets(build_panel(canonicalize(hourly, spec), spec))
    assert str(caught.value) == expected


def test_without_log_any_value_is_accepted(hourly, tmp_path):
    _, panel = store_panel(hourly.assign(sales=-hourly["sales"]), tmp_path)
    assert panel.normalizer.center[0, 0] < 0


def test_a_history_with_a_zero_is_refused(spec, hourly):
    forecaster = make_forecaster(spec, hourly, normalize=LOG)
    hourly.loc[hourly.index[-3], "sales"] = 0
    with pytest.raises(DataError, match="series 'south': target 'sales' must be above 0 .* at 2024-04-09T21:00:00Z"):
        forecaster.forecast(hourly)


def test_networks_that_forecast_no_change_return_the_last_raw_value(spec, hourly, tmp_path):
    forecaster = still(make_forecaster(spec, hourly, normalize=LOG))
    forecaster.save(tmp_path)
    forecast = Forecaster.load(tmp_path).forecast(hourly)
    last = hourly.groupby("shop")["sales"].last()
    np.testing.assert_allclose(forecast["forecast"], forecast["series"].map(last), rtol=1e-5)


def test_intervals_are_as_wide_in_ratio_on_both_sides_and_above_zero(spec, hourly):
    forecast = still(make_forecaster(spec, hourly, normalize=LOG)).forecast(hourly, levels=(80, 99))
    for level in (80, 99):
        low, high = forecast[f"lo-{level}"], forecast[f"hi-{level}"]
        np.testing.assert_allclose(high / forecast["forecast"], forecast["forecast"] / low, rtol=1e-6)
        assert (high - forecast["forecast"] > forecast["forecast"] - low).all() and (low > 0).all()


def test_a_band_of_a_hand_worked_case():
    intervals = Conformal(np.full((99, 1, 1), 0.5))
    scale = TargetScale(np.array([[[1.0]]]), np.array([[[2.0]]]), log=True)
    ((low, high),) = intervals.bands(np.array([[[0.25]]]), [80], scale).values()
    assert (low.item(), high.item()) == (pytest.approx(np.exp(0.5)), pytest.approx(np.exp(2.5)))


def test_a_description_without_log_is_read(spec, hourly):
    normalizer = make_forecaster(spec, hourly).normalizer
    state = normalizer.to_dict()
    assert PanelNormalizer.from_dict({**state, "log": True}).log
    del state["log"]
    assert not PanelNormalizer.from_dict(state).log


def test_errors_of_the_naive_are_in_raw_units():
    raw = np.array([1.0, 2, 4, 8, 10, 10, 11])[:, None]  # of two series
    series, segment = np.array([0, 0, 0, 0, 1, 1, 1]), np.zeros(7, int)
    scale = TargetScale(np.array([[0.5], [2.0]]), np.array([[2.0], [3.0]]), log=True)
    normalized = ((np.log(raw[:, 0]) - scale.center[series, 0]) / scale.scale[series, 0])[:, None]
    errors = naive_errors(series, segment, normalized, season=1, count=2, scale=scale)
    np.testing.assert_allclose(errors[:, 0], [(1 + 2 + 4) / 3, (0 + 1) / 2])


def test_scores_are_in_raw_units_whether_or_not_logarithms_were_forecast(spec, hourly):
    table = canonicalize(hourly, spec)
    scores = {}
    for log in (False, True):
        forecaster = still(make_forecaster(spec, hourly, normalize=NormalizeSpec(log=log)))
        scored, _ = scored_windows(forecaster, table, spec, naive=2.0)
        forecast = forecaster.forecast_windows(scored.windows)
        scores[log] = scored.score(forecast, (), (), folds=1).overall
    for name in ("rmse", "mae", "mape", "smape", "r2", "mase"):  # both are the persistence
        assert scores[True][name] == pytest.approx(scores[False][name], rel=1e-4), name
    sales = hourly["sales"].to_numpy().reshape(2, -1)
    origins = range(31 * 24, 40 * 24 - 5)  # from the first of April on
    errors = [np.abs(sales[:, hour : hour + 6] - sales[:, [hour - 1]]) for hour in origins]
    assert scores[True]["mae"] == pytest.approx(np.mean(errors), rel=1e-4)
    assert scores[True]["mase"] == pytest.approx(np.mean(errors) / 2, rel=1e-4)


@pytest.mark.parametrize("candidate_log", [False, True])
def test_a_candidate_and_an_incumbent_may_differ_in_log(spec, hourly, candidate_log):
    table = canonicalize(hourly, spec)
    candidate, incumbent = (
        still(make_forecaster(spec, hourly, normalize=NormalizeSpec(log=log)))
        for log in (candidate_log, not candidate_log)
    )
    scored, names = scored_windows(candidate, table, spec)
    comparison = compare_forecasters(candidate, incumbent, table, scored, names)
    assert comparison.rmse == pytest.approx(comparison.incumbent_rmse, rel=1e-4)
