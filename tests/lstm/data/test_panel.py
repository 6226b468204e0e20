import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.config.data import CalendarSpec, DataSpec
from lstm.data.calendar import calendar_columns, calendar_features
from lstm.data.panel import build_panel, panel_blocks
from lstm.data.table import canonicalize
from lstm.errors import DataError
from tests.support.tables import DATA, make_hourly


def panel_of(frame, **changes):
    spec = DataSpec.parse({**DATA, **changes})
    return build_panel(canonicalize(frame, spec), spec)


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


def test_series_are_separate_and_columns_in_order():
    panel = panel_of(make_hourly(days=2), calendar={"features": ["hour"], "holidays": "US"}, known=[], static=[])
    assert panel.layout.columns == ("sales", "visitors", "hour_sin", "hour_cos", "holiday")
    assert (panel.layout.n_known, panel.layout.scaled) == (3, (0, 1))
    assert not set(panel.segment[panel.series == 0]) & set(panel.segment[panel.series == 1])


def test_rows_ahead_hold_calendar_and_known_values(hourly):
    spec = DataSpec.parse({**DATA, "observed": [], "known": ["visitors"]})
    future = hourly.copy()
    future.loc[future["time"] >= "2024-04-09T20:00:00Z", "sales"] = np.nan
    panel = build_panel(canonicalize(future, spec), spec, ahead=4)
    assert (panel.series == 0).sum() == len(hourly) / 2
    assert not np.isnan(panel.values[-4:, 1]).any()
    with pytest.raises(DataError, match=r"known column 'visitors' has no value at 2024-04-10T00:00:00\+00:00"):
        build_panel(canonicalize(future, spec), spec, ahead=5)


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


def test_a_seasonal_gap_is_filled_from_the_season_before():
    values = [1.0, 2, 3, 4, 11, 12, 13, 14, np.nan, np.nan, 23, np.nan]
    frame = one_shop([*values, 31.0, 32])
    panel = panel_of(frame, missing={"method": "seasonal", "season": 4, "max_gap": 2})
    assert panel.values[8:12, 0].tolist() == [11, 12, 23, 14]
    assert panel.causal.all()


def test_a_season_that_is_missing_too_is_taken_from_further_back():
    frame = one_shop([1.0, 2, np.nan, 4, np.nan, 6])
    panel = panel_of(frame, missing={"method": "seasonal", "season": 2, "max_gap": 1})
    assert panel.values[:, 0].tolist() == [1, 2, 1, 4, 1, 6]


def test_missing_indicators_mark_values_that_were_not_measured():
    frame = one_shop([1.0, np.nan, 3.0, 4.0], visitors=[5.0, 6.0, np.nan, 8.0])
    panel = panel_of(frame, missing={"indicators": True})
    assert panel.layout.columns == ("sales", "visitors", "sales_missing", "visitors_missing")
    assert panel.layout.n_known == 0 and panel.layout.scaled == (0, 1)
    assert panel.values[:, 2:].tolist() == [[0, 0], [1, 0], [0, 1], [0, 0]]


def test_known_categories_become_columns_and_unknown_ones_do_not():
    frame = one_shop([1.0, 2.0, 3.0, 4.0]).assign(kind=["a", "b", "x", None], size="big")
    spec = DataSpec.parse({**DATA, "observed": "kind", "static": "size", "categorical": ["kind", "size"]})
    panel = build_panel(canonicalize(frame, spec), spec, {"kind": ["a", "b"], "size": ["big"]})
    assert panel.layout.columns == ("sales", "kind=a", "kind=b", "size=big")
    assert panel.layout.n_known == 1 and panel.layout.scaled == (0,)
    assert panel.values[:, 1:].tolist() == [[1, 0, 1], [0, 1, 1], [0, 0, 1], [0, 0, 1]]


def test_irregular_rows_hold_the_time_since_the_row_before():
    times = pd.to_datetime(["2024-01-01T00:00", "2024-01-01T00:10", "2024-01-01T06:20", "2024-01-01T06:21"], utc=True)
    frame = pd.DataFrame({"time": times, "sales": 1.0})
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", "frequency": "irregular"})
    panel = build_panel(canonicalize(frame, spec), spec)
    assert panel.layout.columns == ("sales", "since_last")
    assert panel.values[:2, 1].tolist() == [0, np.log1p(600) / np.log1p(6 * 3600)]
    assert panel.segment.tolist() == [0, 0, 1, 1]  # more than max_gap lies between


RULES = [
    {"missing": {"max_gap": 3, "method": method, **season}}
    for method, season in (("linear", {}), ("forward", {}), ("none", {}), ("seasonal", {"season": 5}))
]


@pytest.mark.slow
@settings(max_examples=80, deadline=None)
@given(st.data())
def test_blocks_together_are_the_whole_panel(data):
    frame = make_hourly(days=2, shops=("a", "b", "c")).assign(kind="x", area=1.0)
    frame["kind"] = np.where(np.arange(len(frame)) % 5 == 0, "y", "x")
    rows = st.sets(st.integers(0, len(frame) - 1), max_size=90)
    frame.loc[list(data.draw(rows)), "sales"] = np.nan
    frame.loc[list(data.draw(rows)), "visitors"] = np.nan
    frame = frame.drop(index=data.draw(rows))
    changes = data.draw(st.sampled_from([*RULES, {"frequency": "irregular", "missing": {"max_gap": "2h"}}]))
    missing = {**changes["missing"], "indicators": data.draw(st.booleans())}
    roles = {"observed": ["visitors", "kind"], "static": "area", "categorical": "kind"}
    spec = DataSpec.parse({**DATA, **roles, **changes, "missing": missing})
    table, categories = canonicalize(frame, spec), {"kind": ["x", "y"]}
    cuts = sorted(data.draw(st.sets(st.integers(1, len(table) - 1), max_size=12)))
    pieces = (table.iloc[low:high] for low, high in itertools.pairwise([0, *cuts, len(table)]))
    whole, names, parts = build_panel(table, spec, categories), [], {}
    for block in panel_blocks(pieces, spec, categories):
        names += [name for name in block.names if name not in names]
        for name in ("values", "actual", "causal", "segment", "times"):
            parts.setdefault(name, []).append(getattr(block, name))
        parts.setdefault("series", []).append(np.array([names.index(name) for name in block.names])[block.series])
    assert tuple(names) == whole.names
    for name, arrays in parts.items():
        np.testing.assert_array_equal(np.concatenate(arrays), getattr(whole, name), err_msg=name)


@pytest.mark.parametrize("zone", ["Australia/Sydney", "America/New_York", "UTC"])
@pytest.mark.parametrize("minutes", [30, 60])
def test_a_whole_year_keeps_its_days_of_23_and_25_hours(zone, minutes):
    local = pd.date_range("2024-01-01", "2025-01-01", freq=f"{minutes}min", tz=zone, inclusive="left")
    frame = pd.DataFrame({"time": local, "sales": 1.0})
    spec = DataSpec.parse(
        {
            "source": "-",
            "time": "time",
            "target": "sales",
            "frequency": f"{minutes}min",
            "timezone": zone,
            "calendar": {"features": ["hour", "dayofweek"]},
        }
    )
    panel = build_panel(canonicalize(frame, spec), spec)
    assert len(panel.times) == 366 * 24 * 60 // minutes
    assert set(panel.segment) == {0} and panel.times.tolist() == local.tz_convert(None).to_pydatetime().tolist()
    steps = pd.Series(1, index=pd.DatetimeIndex(panel.times, tz="UTC").tz_convert(zone).date).groupby(level=0).sum()
    hours = (steps * minutes / 60).value_counts().to_dict()
    assert hours == ({24: 366} if zone == "UTC" else {24: 364, 23: 1, 25: 1})
    clock = (np.arctan2(panel.values[:, 1], panel.values[:, 2]) * 24 / (2 * np.pi)) % 24
    np.testing.assert_allclose(clock, (local.hour + local.minute / 60).to_numpy(), atol=1e-9)
    weekday = (np.arctan2(panel.values[:, 3], panel.values[:, 4]) * 7 / (2 * np.pi)).round() % 7
    np.testing.assert_array_equal(weekday, local.day_of_week.to_numpy())


def test_a_gap_that_reaches_over_a_border_is_not_filled():
    table = canonicalize(one_shop([1.0, np.nan, np.nan, 4.0, np.nan, 6.0]), DataSpec.parse(DATA))
    border = np.datetime64("2024-03-01T02:00")
    panel = next(panel_blocks(iter([table]), DataSpec.parse(DATA), {}, borders=(border,)))
    np.testing.assert_array_equal(panel.values[:, 0], [1, np.nan, np.nan, 4, 5, 6])


def test_irregular_covariates_are_carried_for_as_long_as_max_gap():
    times = pd.to_datetime([f"2024-01-01T{hour:02d}:00Z" for hour in (0, 1, 2, 9)])
    frame = pd.DataFrame({"time": times, "y": 1.0, "o": [5.0, None, None, None], "c": ["a", None, None, None]})
    values = {"source": "-", "time": "time", "target": "y", "observed": ["o", "c"], "categorical": "c"}
    spec = DataSpec.parse({**values, "frequency": "irregular"})
    panel = build_panel(canonicalize(frame, spec), spec, {"c": ["a"]})
    assert panel.layout.columns[:3] == ("y", "o", "c=a")
    np.testing.assert_array_equal(panel.values[:, 1:3], [[5, 1], [5, 1], [5, 1], [np.nan, 0]])


@pytest.mark.parametrize(
    ("zone", "first", "clock"), [("America/Santiago", "2023-09-03", "0h"), ("Europe/Berlin", "2024-03-31", "2h30min")]
)
def test_days_may_begin_with_one_whose_time_the_clocks_skipped(zone, first, clock):
    wall = pd.date_range(first, periods=20) + pd.Timedelta(clock)
    local = wall.tz_localize(zone, nonexistent="shift_forward")
    frame = pd.DataFrame({"time": local.tz_convert("UTC"), "sales": np.arange(20.0)})
    spec = DataSpec.parse({"source": "-", "time": "time", "target": "sales", "frequency": "1d", "timezone": zone})
    table = canonicalize(frame, spec)
    panel = build_panel(table, spec, ahead=3)
    assert panel.actual[:20, 0].tolist() == list(range(20))
    assert panel.times[:20].tolist() == local.tz_convert("UTC").tz_localize(None).to_pydatetime().tolist()
    later = pd.DatetimeIndex(panel.times[20:], tz="UTC").tz_convert(zone)
    assert (later.hour.to_numpy() * 60 + later.minute == pd.Timedelta(clock).seconds // 60).all()
    cut = [table.iloc[:7], table.iloc[7:]]
    blocks = list(panel_blocks(iter(cut), spec, {}))
    assert np.concatenate([block.actual[:, 0] for block in blocks]).tolist() == list(range(20))


def test_many_irregular_series_are_extended_ahead():
    count = 3000
    times = pd.to_datetime(np.tile(np.arange(5) * 60, count), unit="s", utc=True)
    frame = pd.DataFrame({"time": times, "id": np.repeat(np.arange(count), 5).astype(str), "y": 1.0})
    spec = DataSpec.parse({"source": "-", "time": "time", "series": "id", "target": "y", "frequency": "irregular"})
    panel = build_panel(canonicalize(frame, spec), spec, ahead=2)
    ahead = panel.times.reshape(count, 7)[:, 5:].astype("datetime64[s]").astype(int)
    assert (ahead == [300, 360]).all()
