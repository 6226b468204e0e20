"""Losses and outputs against SciPy, hand-worked numbers and laws."""

import numpy as np
import pytest
import torch
from scipy import stats

from lstm.config.model import ModelConfig
from lstm.networks import outputs
from lstm.networks.losses import make_loss, naive_error
from tests.support.network_variants import actual_of, batch, network_of, point_of

LEVELS = (0.1, 0.5, 0.9)
EVERY_LOSS = [
    *({"loss": loss} for loss in ("mse", "mae", "huber", "mase", "gaussian", "student_t")),
    {"quantiles": LEVELS},
]
every_loss = pytest.mark.parametrize("changes", EVERY_LOSS, ids=lambda changes: changes.get("loss", "pinball"))


def loss_of(out, actual, past=None, **changes):
    """Total and count of a loss."""
    past = torch.zeros(len(out), 12, out.shape[2]) if past is None else past
    return make_loss(ModelConfig(**changes), torch.device("cpu"))(out, actual, past)


def random_values(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", ["mse", "mae", "huber", "mase"])
def test_a_loss_of_points_is_zero_for_a_perfect_forecast_and_above_for_any_other(loss):
    actual = random_values(4, 3, 2)
    total, count = loss_of(actual[..., None], actual, loss=loss)
    assert (float(total), int(count)) == (0, 24)
    assert float(loss_of(actual[..., None] + random_values(4, 3, 2, 1, seed=1), actual, loss=loss)[0]) > 0


def test_pinball_is_zero_where_all_quantiles_are_the_truth():
    actual = random_values(4, 3, 2)
    assert float(loss_of(actual[..., None].expand(-1, -1, -1, 3), actual, quantiles=LEVELS)[0]) == 0


@pytest.mark.parametrize(
    ("loss", "expected"), [("mse", (0.25 + 9) / 2), ("mae", (0.5 + 3) / 2), ("huber", (0.125 + 2.5) / 2)]
)
def test_losses_of_errors_of_a_half_and_three_are_the_hand_worked_ones(loss, expected):
    total, count = loss_of(torch.tensor([[[[1.5]], [[-1.0]]]]), torch.tensor([[[1.0], [2.0]]]), loss=loss)
    assert float(total / count) == pytest.approx(expected)


def test_pinball_of_a_hand_worked_case():
    total, count = loss_of(torch.tensor([[[[0.0, 1.0, 4.0]]]]), torch.tensor([[[2.0]]]), quantiles=LEVELS)
    assert float(total / count) == pytest.approx((0.1 * 2 + 0.5 * 1 + 0.1 * 2) / 3)


def test_the_naive_error_of_a_zig_zag_is_its_step_and_with_its_season_the_least_there_is():
    zig_zag = torch.tensor([0.0, 3.0] * 6).reshape(1, 12, 1)
    assert float(naive_error(zig_zag, 1)) == 3
    assert float(naive_error(zig_zag, 2)) == pytest.approx(0.01)
    assert float(naive_error(zig_zag, 12)) == 3  # the lookback holds one season only, so the lag is one step
    ramp = torch.arange(12.0).reshape(1, 12, 1)
    assert [float(naive_error(ramp, season)) for season in (1, 2, 4, 11)] == [1, 2, 4, 11]
    assert float(naive_error(ramp[:, :1], 1)) == 1


def test_mase_is_the_absolute_error_over_the_naive_error_of_each_window_and_target():
    past = torch.stack([torch.tensor([0.0, 3.0] * 6), torch.arange(12.0)], dim=1).expand(2, -1, -1) * torch.tensor(
        [[[1.0]], [[10.0]]]
    )
    actual = torch.zeros(2, 1, 2)
    total, count = loss_of(torch.full((2, 1, 2, 1), 6.0), actual, past, loss="mase")
    assert float(total / count) == pytest.approx((6 / 3 + 6 / 1 + 6 / 30 + 6 / 10) / 4)


def test_a_gaussian_loss_is_scipy_s_log_density():
    loc, scale, actual = random_values(5, 4, 2), random_values(5, 4, 2, seed=1).exp(), random_values(5, 4, 2, seed=2)
    total, count = loss_of(torch.stack([loc, scale], dim=-1), actual, loss="gaussian")
    expected = -stats.norm.logpdf(actual.numpy(), loc.numpy(), scale.numpy()).mean()
    assert float(total / count) == pytest.approx(expected, rel=1e-5)


def test_a_student_t_loss_is_scipy_s_log_density():
    loc, scale, actual = random_values(5, 4, 2), random_values(5, 4, 2, seed=1).exp(), random_values(5, 4, 2, seed=2)
    df = 2 + random_values(5, 4, 2, seed=3).exp()
    total, count = loss_of(torch.stack([loc, scale, df], dim=-1), actual, loss="student_t")
    expected = -stats.t.logpdf(actual.numpy(), df.numpy(), loc.numpy(), scale.numpy()).mean()
    assert float(total / count) == pytest.approx(expected, rel=1e-5)


@every_loss
def test_unmeasured_values_have_no_weight(changes):
    network, (past, known, _), actual = network_of(**changes), batch(), actual_of()
    out, targets = network(past, known).detach(), past[..., :2]
    alone = [loss_of(out[[row]], actual[[row]], targets[[row]], **changes)[0] for row in (0, 2)]
    actual[1] = torch.nan
    total, count = loss_of(out, actual, targets, **changes)
    assert int(count) == 20
    assert float(total) == pytest.approx(float(sum(alone)), rel=1e-5)


@every_loss
def test_gradients_are_finite_and_zero_where_nothing_was_measured(changes):
    network, (past, known, _), actual = network_of(**changes), batch(), actual_of()
    actual[0, 1:3] = torch.nan
    out = network(past, known).detach().requires_grad_()
    loss_of(out, actual, past[..., :2], **changes)[0].backward()
    assert torch.isfinite(out.grad).all()
    assert not out.grad[0, 1:3].any()
    assert out.grad[0, 0].any()
    loss_of(network(past, known), actual, past[..., :2], **changes)[0].backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    assert all(torch.isfinite(gradient).all() for gradient in gradients)
    assert any(gradient.any() for gradient in gradients)


@every_loss
def test_a_batch_without_any_measurement_has_no_loss_and_no_gradient(changes):
    out = network_of(**changes)(*batch()).detach().requires_grad_()
    total, count = loss_of(out, torch.full((3, 5, 2), torch.nan), **changes)
    total.backward()
    assert (float(total.detach()), int(count)) == (0, 0)
    assert not out.grad.any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("anchor", ["none", "standard", "seasonal"])
def test_quantiles_rise_and_never_cross_whatever_the_weights(seed, anchor):
    network = network_of(quantiles=(0.05, 0.1, 0.5, 0.9, 0.95), anchor=anchor, seed=seed)
    for parameter in network.head.parameters():
        parameter.data *= 50
    past, known, _ = batch(size=50)
    out = network(past * 10, known)
    assert (out.diff(dim=-1) >= 0).all()
    assert (out.diff(dim=-1) > 0).any()


def test_quantiles_are_the_lowest_plus_positive_steps():
    config = ModelConfig(quantiles=LEVELS)
    raw = torch.tensor([0.3, -1.0, 2.0])
    expected = [0.3, 0.3 + np.log1p(np.exp(-1)), 0.3 + np.log1p(np.exp(-1)) + np.log1p(np.exp(2))]
    np.testing.assert_allclose(outputs.constrain(raw, config).numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", ["gaussian", "student_t"])
@pytest.mark.parametrize("anchor", ["none", "standard"])
def test_spreads_are_positive_and_freedom_is_over_two(loss, anchor):
    network = network_of(loss=loss, anchor=anchor)
    for parameter in network.head.parameters():
        parameter.data *= 50
    past, known, _ = batch(size=50)
    out = network(past * 10, known)
    assert (out[..., 1] > 0).all()
    if loss == "student_t":
        assert (out[..., 2] >= 2).all()
        assert (out[..., 2] > 2).any()
    assert torch.isfinite(loss_of(out, actual_of(50), past[..., :2], loss=loss)[0])


@pytest.mark.parametrize("levels", [None, (0.05, 0.5, 0.8)])
def test_quantiles_of_a_likelihood_are_scipy_s(levels):
    out = np.random.default_rng(0).normal(size=(4, 3, 2, 3)).astype(np.float32)
    out[..., 1:] = np.exp(out[..., 1:])
    out[..., 2] += 2
    for loss, distribution in (
        ("gaussian", stats.norm(out[..., 0], out[..., 1])),
        ("student_t", stats.t(out[..., 2], out[..., 0], out[..., 1])),
    ):
        result = outputs.quantiles(out, ModelConfig(loss=loss, quantiles=levels))
        assert result.dtype == np.float32
        for column, level in enumerate(levels or LEVELS):
            np.testing.assert_allclose(distribution.cdf(result[..., column]), level, rtol=1e-4)


@pytest.mark.parametrize("changes", EVERY_LOSS[-3:], ids=["gaussian", "student_t", "pinball"])
def test_a_distribution_is_rescaled_as_its_quantiles_are(changes):
    config = ModelConfig(**changes)
    out = outputs.constrain(random_values(4, 3, 2, outputs.n_params(config)), config)
    base, scale = random_values(4, 3, 2, seed=1), random_values(4, 1, 2, seed=2).exp()
    moved = outputs.quantiles(outputs.rescale(out, base, scale, config).numpy(), config)
    expected = base[..., None].numpy() + scale[..., None].numpy() * outputs.quantiles(out.numpy(), config)
    np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)


@every_loss
def test_the_point_forecast_is_the_middle_of_the_distribution(changes):
    network = network_of(**changes)
    out = network(*batch()).detach()
    if len(network.config.levels) == 1:
        assert torch.equal(point_of(network, out), out[..., 0])
    else:
        middle = outputs.quantiles(out.numpy(), network.config)[..., network.config.levels.index(0.5)]
        np.testing.assert_allclose(point_of(network, out).numpy(), middle, atol=1e-6)


@pytest.mark.parametrize("loss", ["gaussian", "student_t"])
def test_a_likelihood_is_least_where_the_distribution_is_that_of_the_data(loss):
    random = np.random.default_rng(1)
    values = random.normal(2, 3, 4000) if loss == "gaussian" else 2 + 3 * random.standard_t(4, 4000)
    actual = torch.tensor(values, dtype=torch.float32).reshape(-1, 1, 1)

    def value(loc, scale, df=4.0):
        params = [loc, scale] if loss == "gaussian" else [loc, scale, df]
        total, count = loss_of(torch.tensor(params).expand(4000, 1, 1, -1), actual, loss=loss)
        return float(total / count)

    best = value(2.0, 3.0)
    assert best < min(value(1.5, 3.0), value(2.5, 3.0), value(2.0, 2.5), value(2.0, 3.6))
    if loss == "student_t":
        assert best < min(value(2.0, 3.0, 2.2), value(2.0, 3.0, 30.0))
