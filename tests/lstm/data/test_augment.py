from typing import get_args

import numpy as np
import pytest
import torch
from scipy import stats

from lstm.config.model import Method
from lstm.data.augment import augment

METHODS = get_args(Method)
PAST_METHODS = ["jitter", "time_warp", "slicing", "bootstrap"]
METHODS_THAT_KEEP_THE_NEWEST = ["time_warp", "slicing", "bootstrap"]
N_KNOWN = 2


def windows(batch=16, length=24, horizon=5, n_observed=3, targets=2, seed=0):
    draw = torch.Generator().manual_seed(seed)
    past = torch.randn(batch, length, n_observed + N_KNOWN, generator=draw)
    known = torch.randn(batch, horizon, N_KNOWN, generator=draw)
    return past, known, torch.randn(batch, horizon, targets, generator=draw)


def ones(batch, length, horizon):
    return torch.ones(batch, length, 1), torch.zeros(batch, horizon, 0), torch.ones(batch, horizon, 1)


def ramps(batch=64, length=40):
    """Column 0 is the step, column 1 is random: (B, L, 2)."""
    steps = torch.arange(length, dtype=torch.float32).expand(batch, length)
    return torch.stack([steps, torch.randn(batch, length, generator=torch.Generator().manual_seed(3))], dim=2)


def change(methods, past, known, actual, seed=0):
    names = [methods] if isinstance(methods, str) else methods
    return augment(past, known, actual, names, torch.Generator().manual_seed(seed))


def change_past(method, past, seed=0):
    batch = len(past)
    return change(method, past, past.new_zeros(batch, 1, 0), past.new_zeros(batch, 1, 1), seed)[0]


def edge_padded_average(column, width):
    return np.convolve(np.pad(column, width // 2, mode="edge"), np.full(width, 1 / width), mode="valid")


@pytest.mark.parametrize("method", METHODS)
def test_a_copy_is_changed_and_the_inputs_are_left_alone(method):
    given = windows()
    before = [tensor.clone() for tensor in given]
    augmented = change(method, *given)
    assert not torch.equal(augmented[0], given[0])
    for new, old, original in zip(augmented, given, before, strict=True):
        assert (new.shape, new.dtype) == (old.shape, old.dtype)
        assert torch.equal(old, original)


@pytest.mark.parametrize("method", METHODS)
def test_only_the_generator_determines_the_result(method):
    given = windows()
    torch.manual_seed(1)
    first = change(method, *given, seed=7)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = change(method, *given, seed=7)
    assert all(torch.equal(left, right) for left, right in zip(first, second, strict=True))
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(first[0], change(method, *given, seed=8)[0])


@pytest.mark.parametrize("method", METHODS)
def test_a_generator_moves_on_from_call_to_call(method):
    given, generator = windows(), torch.Generator().manual_seed(0)
    first, second = (augment(*given, [method], generator)[0] for _ in range(2))
    assert not torch.equal(first, second)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "mixup"])
def test_only_mixup_changes_known_inputs(method):
    past, known, actual = windows()
    new_past, new_known, _ = change(method, past, known, actual)
    assert torch.equal(new_past[..., -N_KNOWN:], past[..., -N_KNOWN:])
    assert torch.equal(new_known, known)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "mixup"])
def test_each_window_has_its_own_random_numbers(method):
    past, known, actual = (tensor[:1].expand(2, -1, -1) for tensor in windows())
    first, second = change(method, past, known, actual)[0]
    assert not torch.equal(first, second)


@pytest.mark.parametrize("method", PAST_METHODS)
def test_methods_of_the_past_keep_the_actual_values(method):
    past, known, actual = windows()
    assert torch.equal(change(method, past, known, actual)[2], actual)


@pytest.mark.parametrize("length", [1, 2, 3, 24, 100])
@pytest.mark.parametrize("method", METHODS_THAT_KEEP_THE_NEWEST)
def test_the_newest_observation_stays_the_newest_to_the_bit(method, length):
    past, known, actual = windows(batch=200, length=length)
    assert torch.equal(change(method, past, known, actual)[0][:, -1], past[:, -1])


@pytest.mark.parametrize("sizes", [(1, 24, 5), (16, 1, 1), (16, 2, 1), (16, 3, 2), (1, 1, 1), (4, 300, 50)])
@pytest.mark.parametrize("methods", [*METHODS, METHODS], ids=[*METHODS, "all"])
def test_windows_of_every_size_stay_finite(methods, sizes):
    batch, length, horizon = sizes
    given = windows(batch, length, horizon)
    for new, old in zip(change(methods, *given), given, strict=True):
        assert new.shape == old.shape and torch.isfinite(new).all()


@pytest.mark.parametrize("method", [name for name in METHODS if name != "mixup"])
def test_missing_actual_values_stay_missing_and_no_others_become_missing(method):
    past, known, actual = windows()
    actual[3, 1:, 0] = torch.nan
    new_past, _, new_actual = change(method, past, known, actual)
    assert torch.equal(new_actual.isnan(), actual.isnan())
    assert torch.isfinite(new_past).all()


def test_methods_are_applied_in_turn():
    given, generator = windows(), torch.Generator().manual_seed(5)
    together = change(["scaling", "mixup", "jitter"], *given, seed=5)
    for method in ["scaling", "mixup", "jitter"]:
        given = augment(*given, [method], generator)
    assert all(torch.equal(left, right) for left, right in zip(together, given, strict=True))


def test_jitter_is_normal_noise_of_3_percent():
    noise = change_past("jitter", torch.zeros(64, 50, 2)).flatten().numpy()
    assert stats.kstest(noise / 0.03, "norm").pvalue > 0.01


def test_scaling_keeps_the_ratio_of_actual_values_to_the_past():
    past, known, actual = windows(batch=500)
    new_past, _, new_actual = change("scaling", past, known, actual)
    ratio, new_ratio = (ahead[:, :1] / back[:, -1:, :1] for ahead, back in ((actual, past), (new_actual, new_past)))
    torch.testing.assert_close(new_ratio, ratio)
    factor = new_past[..., :3] / past[..., :3]
    assert torch.allclose(factor, factor[:, :1, :1].expand_as(factor), rtol=1e-5)
    assert stats.kstest((factor[:, 0, 0].numpy() - 1) / 0.1, "norm").pvalue > 0.01


def test_a_magnitude_warp_is_one_smooth_curve_across_the_origin():
    past, _, actual = change("magnitude_warp", *ones(500, 80, 40))
    curve = torch.cat([past, actual], dim=1)[..., 0]
    jump = curve.diff(dim=1).abs()
    assert jump[:, 79].max() < 1.5 * jump[:, :79].max() < 0.1 < curve.max() - 1
    assert (actual.amax(dim=1) - actual.amin(dim=1)).min() > 0  # the curve goes on beyond the origin
    assert curve.min() > 0
    knots = curve[:, [0, -1]].flatten().numpy()
    assert stats.kstest((knots - 1) / 0.1, "norm").pvalue > 0.01


def test_a_magnitude_warp_takes_all_columns_along():
    past, known, actual = windows()
    new_past, _, new_actual = change("magnitude_warp", past, known, actual)
    for new, old in ((new_past[..., :3], past[..., :3]), (new_actual, actual)):
        curve = new / old
        assert torch.allclose(curve, curve[..., :1].expand_as(curve), rtol=1e-4)


@pytest.mark.parametrize("method", ["time_warp", "slicing"])
def test_values_between_steps_are_interpolated(method):
    past = ramps()
    changed = change_past(method, past)
    for new, old in zip(changed.numpy(), past.numpy(), strict=True):
        np.testing.assert_allclose(new[:, 1], np.interp(new[:, 0], old[:, 0], old[:, 1]), atol=1e-4)


def test_warped_time_runs_forward_smoothly_from_the_first_step_to_the_newest():
    past = ramps(batch=500)
    time = change_past("time_warp", past)[..., 0]
    speed = time.diff(dim=1)
    assert speed.min() > 0
    assert (time[:, 0] == 0).all() and (time[:, -1] == 39).all()
    assert 0.05 < speed.std() < 0.3
    assert speed.diff(dim=1).abs().mean() < 0.25 * speed.std()  # white noise: more than its standard deviation


def test_a_slice_is_the_newest_part_stretched_evenly():
    time = change_past("slicing", ramps(batch=500))[..., 0]
    torch.testing.assert_close(time.diff(dim=1), time.diff(dim=1)[:, :1].expand(-1, 39), atol=1e-4, rtol=0)
    kept = (39 - time[:, 0]) / 39
    assert stats.kstest(kept.numpy(), stats.uniform(0.8, 0.2).cdf).pvalue > 0.01


def test_mixup_weighs_two_windows_of_the_batch_by_a_beta():
    batch, shares = 600, []
    past = torch.eye(batch, dtype=torch.float64)[:, None]  # (B, 1, B): the mixture says who is in it
    for seed in range(5):
        share = change_past("mixup", past, seed)[:, 0]
        torch.testing.assert_close(share.sum(dim=1), past.new_ones(batch))
        assert ((share > 0).sum(dim=1) <= 2).all()
        shares.append(share.diagonal())
    assert (shares[0] == shares[1]).double().mean() < 0.1  # another seed, other shares
    assert stats.kstest(torch.cat(shares), stats.beta(0.2, 0.2).cdf).pvalue > 0.01


def test_mixup_keeps_a_linear_law():
    past, known, _ = windows(batch=64)
    draw = torch.Generator().manual_seed(9)
    of_past, of_known = torch.randn(24 * 5, 10, generator=draw), torch.randn(5 * N_KNOWN, 10, generator=draw)

    def law(past, known):
        return (past.flatten(1) @ of_past + known.flatten(1) @ of_known).view(64, 5, 2)

    new_past, new_known, new_actual = change("mixup", past, known, law(past, known))
    assert not torch.equal(new_known, known)
    torch.testing.assert_close(new_actual, law(new_past, new_known), atol=1e-4, rtol=1e-4)


def test_a_mixture_is_missing_where_either_window_is_missing():
    batch = 40
    past, actual = torch.eye(batch)[:, None], torch.ones(batch, 3, 2)
    actual[7, 1, 0] = torch.nan
    mixed, _, new_actual = change("mixup", past, torch.zeros(batch, 3, 0), actual)
    share = mixed[:, 0, 7]
    assert ((share > 0) & (share < 1)).sum() == 2  # window 7 and its partner
    expected = torch.zeros_like(actual, dtype=torch.bool)
    expected[share > 0, 1, 0] = True
    assert torch.equal(new_actual.isnan(), expected)


def test_mixup_keeps_a_single_window_unchanged():
    given = windows(batch=1)
    assert all(torch.equal(new, old) for new, old in zip(change("mixup", *given), given, strict=True))


def test_a_bootstrap_draws_blocks_of_a_windows_residuals_the_same_for_all_columns():
    length, block, width = 49, 7, 7
    past = windows(batch=50, length=length)[0][..., :2]
    changed = change_past("bootstrap", past)
    steps = np.empty((50, length), int)
    for row, (new, old) in enumerate(zip(changed.double().numpy(), past.double().numpy(), strict=True)):
        smooth = np.stack([edge_padded_average(column, width) for column in old.T], axis=1)
        distance = np.abs((new - smooth)[:, None] - (old - smooth)[None]).max(axis=2)  # (new step, old step)
        assert distance.min(axis=1).max() < 1e-5
        steps[row] = distance.argmin(axis=1)
    assert (steps[:, -1] == length - 1).all()
    breaks = np.diff(steps[:, :-1], axis=1) != 1
    assert breaks.sum(axis=1).max() <= length // block  # a cut first block, whole ones, a cut last one
    assert breaks.sum(axis=1).mean() > 0.8 * (length / block - 1)
    assert breaks.any(axis=0).all()  # the grid of blocks begins anywhere
    assert set(steps[:, :-1].ravel()) == set(range(length))


def test_a_bootstrap_keeps_the_level_and_the_trend():
    trend = torch.linspace(-5, 5, 100)[None, :, None] * torch.linspace(-1, 1, 30)[:, None, None] + 8
    past = trend + 0.3 * windows(batch=30, length=100)[0][..., :1]
    changed = change_past("bootstrap", past)
    assert (changed - past).mean(dim=1).abs().max() < 0.2
    assert (changed - trend).abs().max() < 2
    assert (changed - past).std() == pytest.approx(0.3 * 2**0.5, rel=0.2)  # of two independent residuals


@pytest.mark.gpu
@pytest.mark.parametrize("method", METHODS)
def test_windows_are_the_same_on_cuda_and_cpu(method):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    given = windows()
    on_cuda = change(method, *(tensor.cuda() for tensor in given))
    for changed, expected in zip(on_cuda, change(method, *given), strict=True):
        assert changed.device.type == "cuda"
        torch.testing.assert_close(changed.cpu(), expected)
