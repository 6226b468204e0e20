"""Cuts between training, validation and test, from spans in rows, durations and fractions."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lstm.calendars.frequency import Frequency
from lstm.config.preparation import SplitSpec
from lstm.data.normalize import DataNormalizer
from lstm.data.splits import compute_cuts, count_unused_rows
from lstm.errors import DataError
from tests.support.panels import store_panel

HOURLY = Frequency.parse("1h")
TEN_DAYS = (pd.Timestamp("2024-01-01T00:00Z"), pd.Timestamp("2024-01-10T23:00Z"))


@pytest.mark.parametrize(("validation", "test"), [("2d", "1d"), (48, 24), (0.2, 0.1)])
def test_cuts_are_the_same_in_rows_durations_and_fractions(validation, test):
    cuts = compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(validation=validation, test=test))
    assert cuts.end == np.datetime64("2024-01-11T00")
    assert cuts.test == np.datetime64("2024-01-10T00")
    assert cuts.validation == np.datetime64("2024-01-08T00")


def test_a_row_count_limits_training():
    cuts = compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(train=100, validation="2d", test=24))
    assert cuts.start == cuts.validation - np.timedelta64(100, "h")
    assert cuts.end == np.datetime64("2024-01-11T00")


def test_three_row_counts_count_from_the_start_and_leave_the_end_unused():
    cuts = compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(train=100, validation=48, test=24))
    hours = [np.datetime64("2024-01-01T00") + np.timedelta64(row, "h") for row in (0, 100, 148, 172)]
    assert [cuts.start, cuts.validation, cuts.test, cuts.end] == hours
    assert count_unused_rows(cuts, TEN_DAYS[1], HOURLY) == 240 - 172


def test_three_row_counts_may_use_every_row_but_not_one_more():
    whole = compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(train=168, validation=48, test=24))
    assert whole == compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(validation=48, test=24))
    assert count_unused_rows(whole, TEN_DAYS[1], HOURLY) == 0
    expected = (
        "split: train=169, validation=48 and test=24 are 241 rows, but the data hold 240, from 2024-01-01T00:00:00 to "
        "2024-01-10T23:00:00. Make them shorter, or bring more data."
    )
    with pytest.raises(DataError) as caught:
        compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(train=169, validation=48, test=24))
    assert str(caught.value) == expected


def test_a_billion_rows_are_too_many_and_not_a_moment_before_the_first():
    with pytest.raises(DataError, match="are 3000000000 rows, but the data hold 240"):
        compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(train=10**9, validation=10**9, test=10**9))


@given(st.integers(1, 200), st.integers(1, 200), st.integers(1, 200), st.sampled_from(["1h", "1d", "MS", "B", "30min"]))
def test_the_spans_of_three_row_counts_have_these_numbers_of_rows(train, validation, test, text):
    frequency = Frequency.parse(text, "America/New_York")
    first = np.datetime64("2015-01-01T05:00", "us")  # midnight in New York, and the start of a month
    times = frequency.times(np.full(700, first), np.arange(700))
    span = (pd.Timestamp(times[0], tz="UTC"), pd.Timestamp(times[-1], tz="UTC"))
    cuts = compute_cuts(*span, frequency, SplitSpec(train=train, validation=validation, test=test))
    counts = [int(((times >= start) & (times < end)).sum()) for start, end in cuts.spans.values()]
    assert counts == [train, validation, test]
    assert count_unused_rows(cuts, span[1], frequency) == 700 - sum(counts)


def test_splits_that_leave_nothing_are_refused():
    with pytest.raises(DataError, match="leave nothing to train on"):
        compute_cuts(*TEN_DAYS, HOURLY, SplitSpec(validation="30d", test="1d"))


def test_months_are_counted_by_the_calendar():
    monthly = Frequency.parse("MS")
    span = (pd.Timestamp("2014-01-01T00:00Z"), pd.Timestamp("2023-12-01T00:00Z"))
    cuts = compute_cuts(*span, monthly, SplitSpec(train=60, validation=12, test=0.1))
    assert cuts.end == np.datetime64("2024-01-01")
    assert cuts.test == np.datetime64("2023-01-01")
    assert cuts.validation == np.datetime64("2022-01-01")
    assert cuts.start == np.datetime64("2017-01-01")


@pytest.mark.parametrize("train", [None, 24])
def test_rows_of_an_irregular_series_are_no_span(train):
    with pytest.raises(DataError, match="24 rows of an irregular series are no span of time"):
        compute_cuts(*TEN_DAYS, None, SplitSpec(train=train, validation=24, test=24))


def test_statistics_use_the_first_rows_only_and_unused_rows_are_in_no_array(hourly, tmp_path):
    split = SplitSpec(train=300, validation=100, test=50)
    _, panel = store_panel(hourly, tmp_path, split=split)
    assert panel.array("times").max() == np.datetime64("2024-03-01T00") + np.timedelta64(449, "h")
    for number, name in enumerate(panel.names):
        rows = hourly[hourly["shop"] == name].head(300)[["sales", "visitors"]]
        reference = DataNormalizer().fit(rows.to_numpy())
        np.testing.assert_allclose(panel.normalizer.center[number], reference.center, rtol=1e-9)
        np.testing.assert_allclose(panel.normalizer.scale[number], reference.scale, rtol=1e-9)
    changed = hourly.assign(sales=hourly["sales"].where(hourly.groupby("shop").cumcount() < 450, 1e6))
    _, same = store_panel(changed, tmp_path / "changed", split=split)
    for array in ("features", "targets", "causal", "segment"):
        np.testing.assert_array_equal(panel.array(array), same.array(array))


@pytest.mark.skipif(not os.environ.get("LSTM_DATA_DIR"), reason="LSTM_DATA_DIR is not set")
def test_the_cuts_of_ett_are_those_of_the_papers():
    dates = pd.read_csv(Path(os.environ["LSTM_DATA_DIR"]) / "ETTh1.csv", usecols=["date"])["date"]
    first, last = (pd.Timestamp(moment, tz="UTC") for moment in (dates.iloc[0], dates.iloc[-1]))
    cuts = compute_cuts(first, last, HOURLY, SplitSpec(train=8640, validation=2880, test=2880))
    assert cuts.validation == np.datetime64(dates[8640])
    assert cuts.test == np.datetime64(dates[8640 + 2880])
    assert count_unused_rows(cuts, last, HOURLY) == 17_420 - 14_400
