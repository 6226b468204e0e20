"""ingest → normalize → window, without Prefect: what the splits may and may not know."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, reject, settings
from hypothesis import strategies as st

from lstm.data.arrays import SplitArrays
from lstm.errors import DataError
from tests.support.prepared_data import prepare
from tests.support.tables import make_hourly

SPLITS = ("train", "validation", "test")


def test_counts_and_content_hash_travel_in_the_handles(hourly, home, tmp_path):
    _, table, panel, windows = prepare(hourly, tmp_path)
    assert (table.rows, table.series, panel.rows) == (1920, 2, 1920)
    # 30 days of training less lookback 48 and horizon 6, five days less horizon, two shops
    assert windows.train == 2 * (30 * 24 - 48 - 6 + 1)
    assert windows.validation == windows.test == 2 * (5 * 24 - 6 + 1)
    assert windows.n_known == 2


def stored_files(home):
    """Return inode and content of every stored array: a rewritten file has another inode."""
    paths = [path for path in home.rglob("*") if path.suffix in (".npy", ".parquet")]
    return {path: (path.stat().st_ino, path.read_bytes()) for path in paths}


def test_a_second_run_reuses_everything_and_writes_nothing(hourly, home, tmp_path):
    first = prepare(hourly, tmp_path)
    before = stored_files(home)
    assert before
    second = prepare(hourly.sample(frac=1, random_state=0), tmp_path)
    assert first[1:] == second[1:]
    assert stored_files(home) == before


@pytest.mark.slow
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 20 * 24 - 1), max_size=80), st.integers(0, 9), st.sampled_from([12, 24, 48]))
def test_no_window_reads_past_its_cut_or_across_a_gap(home, tmp_path, holes, long_gap, length):
    """Values are the numbers of the hours, so that a window shows which hours it reads."""
    frame = make_hourly(days=20, shops=("a", "b"))
    hour = np.tile(np.arange(20 * 24, dtype=float), 2)
    frame = frame.assign(sales=hour, visitors=hour)
    gap = np.isin(hour, range(long_gap * 48, long_gap * 48 + 9)) & (frame["shop"] == "a")
    missing = np.isin(hour, list(holes))
    try:
        config, _, panel, windows = prepare(
            frame[~gap & ~missing],
            tmp_path,
            split={"validation": "4d", "test": "4d"},
            normalize={"strategy": "none"},
        )
    except DataError:
        reject()  # the holes left a split without windows
    cuts = json.loads((panel.folder / "panel.json").read_text())["cuts"]
    bounds = [np.datetime64(cuts[name]) for name in ("start", "validation", "test", "end")]
    first_time = pd.Timestamp("2024-03-01")
    for split, start, end in zip(SPLITS, bounds[:-1], bounds[1:], strict=True):
        arrays = SplitArrays.load(windows.folder / split)
        split_windows = arrays.windows(length, config.window.horizon, windows.n_known)
        for origin in split_windows.origins.tolist():
            times = arrays.times[origin - length : origin + config.window.horizon]
            assert (np.diff(times) == np.timedelta64(1, "h")).all()
            assert len(set(arrays.series[origin - length : origin + config.window.horizon])) == 1
            assert start <= times[length] and times[-1] < end
            read = split_windows.features[origin - length : origin, 0].numpy()
            expected = (pd.DatetimeIndex(times[:length]) - first_time) / pd.Timedelta("1h")
            np.testing.assert_allclose(read, expected, atol=1e-3)
        if split == "train":
            assert arrays.times.max() < bounds[1]
        else:
            assert arrays.times.max() < end


def test_changing_the_test_span_changes_no_training_or_validation_array(hourly, home, tmp_path):
    changed = hourly.copy()
    changed.loc[hourly["time"] >= "2024-04-05", ["sales", "visitors"]] += 1000
    *_, first = prepare(hourly, tmp_path)
    *_, second = prepare(changed, tmp_path)
    assert first.folder != second.folder
    for split, same in (("train", True), ("validation", True), ("test", False)):
        a, b = (SplitArrays.load(windows.folder / split) for windows in (first, second))
        assert np.array_equal(a.features, b.features) is same


def test_a_gap_across_a_cut_changes_nothing_before_it(hourly, home, tmp_path):
    cut = (hourly["time"] >= "2024-03-30T22") & (hourly["time"] < "2024-03-31T02")
    gappy = hourly.assign(sales=hourly["sales"].mask(cut))
    changed = gappy.copy()
    changed.loc[hourly["time"] >= "2024-03-31", ["sales", "visitors"]] += 1000
    shorter = gappy.copy()
    shorter.loc[(hourly["time"] >= "2024-03-31") & cut, "sales"] = 5.0  # the gap ends at the cut
    folders = [prepare(frame, tmp_path)[-1].folder for frame in (gappy, changed, shorter)]
    first, *others = (SplitArrays.load(folder / "train") for folder in folders)
    for other in others:
        for name in ("features", "targets", "allowed"):
            np.testing.assert_array_equal(getattr(other, name), getattr(first, name))
        np.testing.assert_array_equal(np.diff(other.segment) != 0, np.diff(first.segment) != 0)


@pytest.mark.parametrize("lost", ["panel-*/features.npy", "panel-*/panel.json", "windows-*/train/segment.npy"])
def test_lost_files_are_written_again(hourly, home, tmp_path, lost):
    *_, windows = prepare(hourly, tmp_path)
    (path,) = (home / "work").glob(lost)
    before = path.read_bytes()
    path.unlink()
    assert prepare(hourly, tmp_path)[-1] == windows
    assert path.read_bytes() == before


def test_every_trial_is_scored_on_the_same_origins(hourly, home, tmp_path):
    config, _, _, windows = prepare(hourly, tmp_path)
    validation = SplitArrays.load(windows.folder / "validation")
    origins = [validation.windows(length, config.window.horizon, 2).origins.tolist() for length in (12, 24, 48)]
    assert origins[0] == origins[1] == origins[2]


def test_stride_thins_training_only(hourly, home, tmp_path):
    *_, windows = prepare(hourly, tmp_path, window={"horizon": 6, "stride": 6})
    assert windows.train == 2 * -(-(30 * 24 - 48 - 6 + 1) // 6)
    assert windows.validation == 2 * (5 * 24 - 6 + 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"window": {"horizon": 500}}, "holds no window of lookback 48"),
        ({"window": {"horizon": 121}}, "split validation .* holds no window"),
        ({"split": {"validation": "60d", "test": "5d"}}, "leave nothing to train on"),
        ({"split": {"validation": "5d", "test": "2h"}}, "split test .* holds no window"),
    ],
)
def test_a_split_without_windows_is_an_error(hourly, home, tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        prepare(hourly, tmp_path, **changes)
