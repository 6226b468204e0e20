import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.data.calendar import calendar_columns, calendar_features
from lstm.data.panel import build_panel
from lstm.data.spec import CalendarSpec, DataSpec, SplitSpec
from lstm.data.splits import cut
from lstm.data.table import canonical
from lstm.errors import DataError

from ..conftest import DATA, make_hourly


def panel_of(frame, **changes):
    spec = DataSpec.parse({**DATA, **changes})
    return build_panel(canonical(frame, spec), spec)


def one_shop(values, visitors=None):
    frame = make_hourly(days=1, shops=("a",)).head(len(values))
    return frame.assign(sales=values, visitors=visitors or np.arange(len(values), dtype=float))


def test_a_short_gap_in_a_target_is_interpolated_and_marked():
    panel = panel_of(one_shop([1.0, np.nan, np.nan, 4.0]))
    assert panel.values[:, 0].tolist() == [1, 2, 3, 4]
    assert panel.causal.tolist() == [True, False, False, True]
    assert np.isnan(panel.actual[:, 0]).tolist() == [False, True, True, False]
    assert len(set(panel.segment)) == 1


def test_missing_rows_are_gaps_too():
    panel = panel_of(one_shop([1.0, 2.0, 3.0, 4.0]).drop(index=[1, 2]))
    assert panel.values[:, 0].tolist() == [1, 2, 3, 4]
    assert np.isnan(panel.actual[:, 0]).sum() == 2


def test_a_gap_over_the_limit_splits_the_series():
    panel = panel_of(one_shop([1.0, np.nan, np.nan, 4.0, 5.0]), missing={"max_gap": "1h"})
    assert len(set(panel.segment)) == 4  # before, two broken rows, after
    assert panel.segment[3] == panel.segment[4]


def test_outer_gaps_are_never_filled():
    panel = panel_of(one_shop([np.nan, 2.0, 3.0, np.nan]))
    assert np.isnan(panel.values[[0, 3], 0]).all()


def test_forward_carries_and_none_leaves_gaps():
    values = [1.0, np.nan, 3.0]
    assert panel_of(one_shop(values), missing={"method": "forward"}).values[:, 0].tolist() == [1, 1, 3]
    assert panel_of(one_shop(values), missing={"method": "forward"}).causal.all()
    assert np.isnan(panel_of(one_shop(values), missing={"method": "none"}).values[1, 0])


def test_covariates_are_only_carried_forward():
    panel = panel_of(one_shop([1.0, 2.0, 3.0], visitors=[5.0, np.nan, 9.0]))
    assert panel.values[:, 1].tolist() == [5, 5, 9]
    assert panel.causal.all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.booleans(), min_size=24, max_size=24), st.integers(1, 23), st.floats(-50, 50))
def test_changing_the_future_changes_no_causal_row_of_the_past(missing, moment, change):
    frame = make_hourly(days=1, shops=("a",))
    frame.loc[np.flatnonzero(missing), ["sales", "visitors"]] = np.nan
    frame.loc[0, ["sales", "visitors"]] = 1.0
    later = frame.copy()
    later.loc[moment:, ["sales", "visitors"]] += change
    before, after = panel_of(frame), panel_of(later)
    # A window that ends at row `moment - 1` sees the rows before it, and may end there only if that row is causal.
    if before.causal[moment - 1]:
        np.testing.assert_array_equal(before.values[:moment], after.values[:moment])


def test_series_keep_apart_and_columns_have_their_order():
    panel = panel_of(make_hourly(days=2), calendar={"features": ["hour"], "holidays": "US"}, known=[], static=[])
    assert panel.columns == ("sales", "visitors", "hour_sin", "hour_cos", "holiday")
    assert (panel.n_known, panel.n_scaled) == (3, 2)
    assert not set(panel.segment[panel.series == 0]) & set(panel.segment[panel.series == 1])


def test_rows_ahead_hold_calendar_and_known_values(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    future = hourly.copy()
    future.loc[future["time"] >= "2024-04-09T20:00:00Z", "sales"] = np.nan
    panel = build_panel(canonical(future, spec), spec, ahead=4)
    assert (panel.series == 0).sum() == len(hourly) / 2
    assert not np.isnan(panel.values[-4:, 1]).any()
    with pytest.raises(DataError, match=r"known column 'visitors' has no value at 2024-04-10T00:00:00\+00:00"):
        build_panel(canonical(future, spec), spec, ahead=5)


def test_calendar_follows_the_local_clock_through_daylight_saving():
    times = pd.DatetimeIndex(["2024-07-01T22:00Z", "2024-12-01T23:00Z"])  # both 18:00 in New York
    features = calendar_features(times, CalendarSpec(features=("hour",)), "America/New_York")
    angle = 2 * np.pi * 18 / 24
    np.testing.assert_allclose(features, [[np.sin(angle), np.cos(angle)]] * 2, atol=1e-12)


def test_holidays_are_local_days():
    times = pd.DatetimeIndex(["2024-07-05T02:00Z", "2024-07-05T05:00Z"])  # the 4th, 22:00, and the 5th, 1:00
    features = calendar_features(times, CalendarSpec(holidays="US"), "America/New_York")
    assert features[:, 0].tolist() == [1, 0]


def test_calendar_names_match_the_columns_and_stay_on_the_circle():
    spec = CalendarSpec(features=("hour", "dayofweek", "dayofyear", "month"), holidays="DE")
    times = pd.date_range("2023-01-01", "2024-12-31", freq="7h", tz="UTC")
    features = calendar_features(times, spec, "Europe/Berlin")
    assert features.shape == (len(times), len(calendar_columns(spec)))
    np.testing.assert_allclose(features[:, 0:8:2] ** 2 + features[:, 1:8:2] ** 2, 1)


@pytest.mark.parametrize(("validation", "test"), [("2d", "1d"), (48, 24), (0.2, 0.1)])
def test_cuts_are_the_same_however_they_are_said(validation, test):
    times = pd.date_range("2024-01-01", periods=240, freq="h").to_numpy("datetime64[ns]")
    cuts = cut(times, pd.Timedelta("1h"), SplitSpec(validation=validation, test=test))
    assert cuts.end == np.datetime64("2024-01-11T00")
    assert cuts.test == np.datetime64("2024-01-10T00")
    assert cuts.validation == np.datetime64("2024-01-08T00")


def test_a_row_count_limits_training():
    times = pd.date_range("2024-01-01", periods=240, freq="h").to_numpy("datetime64[ns]")
    cuts = cut(times, pd.Timedelta("1h"), SplitSpec(train=100, validation=48, test=24))
    assert cuts.start == cuts.validation - np.timedelta64(100, "h")


def test_splits_that_leave_nothing_are_refused():
    times = pd.date_range("2024-01-01", periods=24, freq="h").to_numpy("datetime64[ns]")
    with pytest.raises(DataError, match="leave nothing to train on"):
        cut(times, pd.Timedelta("1h"), SplitSpec(validation="30d", test="1d"))
