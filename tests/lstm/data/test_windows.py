import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lstm.data.arrays import SplitArrays
from lstm.data.origins import window_origins
from lstm.data.windows import Windows
from lstm.data.writer import ArrayWriter


def windows_over(rows=50, length=6, horizon=3, n_known=2):
    features = torch.arange(rows * 4, dtype=torch.float32).reshape(rows, 4)
    origins = torch.from_numpy(window_origins(np.zeros(rows, int), length, horizon))
    return Windows(features, features[:, :1].contiguous(), origins, length, horizon, n_known)


def test_a_window_is_the_slices_around_its_origin():
    windows = windows_over()
    index = torch.tensor([0, 7, len(windows) - 1])
    past, known, _ = windows.inputs(index)
    actual = windows.actual(index)
    for row, origin in enumerate(windows.origins[index].tolist()):
        assert torch.equal(past[row], windows.features[origin - 6 : origin])
        assert torch.equal(known[row], windows.features[origin : origin + 3, 2:])
        assert torch.equal(actual[row], windows.targets[origin : origin + 3])


def test_views_share_the_memory_of_the_array():
    from lstm.data.windows import _view

    rows = torch.zeros(10, 2)
    view = _view(rows, 4)
    assert view.shape == (7, 4, 2)
    assert view.data_ptr() == rows.data_ptr()


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=6),
    st.integers(1, 6),
    st.integers(1, 5),
    st.integers(1, 4),
    st.randoms(use_true_random=False),
)
def test_windows_are_exactly_those_that_fit_into_a_segment(lengths, length, horizon, stride, random):
    segment = np.repeat(np.arange(len(lengths)), lengths)
    allowed = np.array([random.random() < 0.8 for _ in segment])
    origins = window_origins(segment, length, horizon, stride, allowed).tolist()
    expected, start = [], 0
    for count in lengths:
        expected += [start + offset for offset in range(length, count - horizon + 1, stride) if allowed[start + offset]]
        start += count
    assert origins == expected


def test_without_a_horizon_the_last_window_ends_with_the_data():
    assert window_origins(np.zeros(5, int), 3, 0).tolist() == [3, 4, 5]


def test_arrays_grow_on_disk_and_come_back_as_maps(tmp_path):
    rows = 30
    arrays = {
        "features": np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32),
        "targets": np.ones((rows, 1), np.float32),
        "allowed": np.ones(rows, bool),
        "segment": np.zeros(rows, np.int32),
        "series": np.zeros(rows, np.int32),
        "times": np.arange(rows).astype("datetime64[us]"),
    }
    with ArrayWriter(tmp_path / "train") as writer:
        for part in (slice(0, 0), slice(0, 7), slice(7, rows)):
            writer.append(**{name: array[part] for name, array in arrays.items()})
    again = SplitArrays.load(tmp_path / "train")
    assert isinstance(again.features, np.memmap)
    for name, array in arrays.items():
        assert (getattr(again, name) == array).all()
    assert len(again.windows(5, 2, 1)) == rows - 6
