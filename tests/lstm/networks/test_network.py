"""The assembled network: anchors, lagged targets, channels and series."""

import numpy as np
import pytest
import torch
from torch import nn

from lstm.config.model import ModelConfig
from lstm.errors import ConfigError
from lstm.networks.anchors import lagged_rows
from lstm.networks.network import ForecastNetwork
from tests.support.network_variants import batch, network_of


def zero_weights(network, *kept):
    """Set all parameters to zero but those whose names start with `kept`."""
    for name, parameter in network.named_parameters():
        if not name.startswith(kept):
            nn.init.zeros_(parameter)
    return network


@pytest.mark.parametrize("lags", [(1,), (4,), (3, 7), (12,)])
def test_a_lag_is_the_newest_value_a_multiple_of_it_before_the_step(lags):
    rows = lagged_rows(ModelConfig(sequence_length=12, horizon=9), lags)
    for step in range(9):
        for place, lag in enumerate(lags):
            whole = next(12 + step - n * lag for n in range(1, 100) if step - n * lag < 0)
            assert int(rows[step, place]) == whole


@pytest.mark.parametrize("channel_independent", [False, True])
@pytest.mark.parametrize("head", ["direct", "parallel"])
def test_a_step_sees_the_lagged_targets_and_no_other_past(head, channel_independent):
    network = network_of(head=head, lags=(4, 7), channel_independent=channel_independent, num_layers=1)
    for module in (network.embed, *network.cell.layers) if network.embed else network.cell.layers:
        for name, parameter in module.named_parameters():
            if head == "direct" or not name.startswith(("weight_ih", "bias")):
                nn.init.zeros_(parameter)
    past, known, _ = batch()
    past.requires_grad_()
    for step in range(5):
        (gradient,) = torch.autograd.grad(network(past, known)[:, step, 0].sum(), past)
        seen = {(int(row), int(column)) for _, row, column in gradient.nonzero()}
        rows = {12 + step - 4 * (step // 4 + 1), 12 + step - 7}
        assert seen == {(row, column) for row in rows for column in ([0] if channel_independent else [0, 1])}


def test_a_channel_is_forecast_without_the_other_channels():
    network, (past, known, _) = network_of(channel_independent=True, head="parallel", anchor="seasonal"), batch()
    before = network(past, known)
    past[..., 1] = torch.randn(3, 12)
    after = network(past, known)
    assert torch.equal(after[:, :, 0], before[:, :, 0])
    assert (after[:, :, 1] != before[:, :, 1]).all()


def test_channels_share_all_weights_but_their_embedding():
    network, (past, known, _) = network_of(channel_independent=True), batch()
    nn.init.zeros_(network.channel)
    swapped = past[..., [1, 0, 2, 3]]
    torch.testing.assert_close(network(swapped, known), network(past, known).flip(2))
    nn.init.normal_(network.channel)
    assert not torch.allclose(network(swapped, known), network(past, known).flip(2))


def test_unseen_series_share_an_embedding_of_their_own():
    network, (past, known, series) = network_of(series_embedding=True), batch()
    unknown = network(past, known, torch.zeros_like(series))
    assert torch.equal(network(past, known), unknown)
    assert (network(past, known, series) != unknown).flatten(1).any(dim=1).all()


@pytest.mark.parametrize(
    ("anchor", "expected"),
    [
        ("none", [0, 0, 0, 0, 0]),
        ("last", [7, 7, 7, 7, 7]),
        ("mean", [3.5] * 5),
        ("standard", [3.5] * 5),
        # half way between last (7) and the last season (4 5 6 7, then 4 again)
        ("gate", [5.5, 6, 6.5, 7, 5.5]),
        # last + 0.35 (newest season - last) + 0.05 (the one before - last); the second season has its own weights
        ("seasonal", [7 - 0.35 * 3 - 0.05 * 7, 7 - 0.35 * 2 - 0.05 * 6, 7 - 0.35 - 0.05 * 5, 7 - 0.05 * 4, 5.6]),
    ],
)
@pytest.mark.parametrize("head", ["direct", "recursive"])
def test_anchors_equal_values_worked_out_by_hand(anchor, expected, head):
    sizes = {"hidden_size": 4, "sequence_length": 8, "horizon": 5, "season": 4, "input_size": 1, "output_size": 1}
    network = zero_weights(ForecastNetwork(ModelConfig(anchor=anchor, head=head, **sizes), [0]).eval(), "anchor.")
    out = network(torch.arange(8.0).reshape(1, 8, 1), torch.zeros(1, 5, 0)).flatten()
    np.testing.assert_allclose(out.detach().numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(("slope", "expected"), [(1.0, 3.5 + 5.25**0.5), (0.0, 0.001)])
def test_an_output_of_1_is_one_standard_deviation_above_the_mean_of_the_window(slope, expected):
    sizes = {"hidden_size": 4, "sequence_length": 8, "horizon": 2, "input_size": 1, "output_size": 1}
    network = zero_weights(ForecastNetwork(ModelConfig(anchor="standard", **sizes), [0]).eval())
    nn.init.ones_(network.head.out.bias)
    out = network(slope * torch.arange(8.0).reshape(1, 8, 1), torch.zeros(1, 2, 0)).flatten()
    np.testing.assert_allclose(out.detach().numpy(), [expected] * 2, rtol=1e-6)


def test_a_gate_with_lags_blends_them_and_the_last_value():
    sizes = {"hidden_size": 4, "sequence_length": 8, "horizon": 3, "season": 4, "input_size": 1, "output_size": 1}
    network = zero_weights(ForecastNetwork(ModelConfig(anchor="gate", lags=(2, 5), **sizes), [0]).eval(), "anchor.")
    out = network(torch.arange(8.0).reshape(1, 8, 1), torch.zeros(1, 3, 0)).flatten()
    # a third each of the last value (7), of two steps before (6, 7, 6) and of five before (3, 4, 5)
    np.testing.assert_allclose(out.detach().numpy(), [16 / 3, 18 / 3, 18 / 3], atol=1e-5)


@pytest.mark.parametrize("anchor", ["last", "seasonal", "gate", "mean", "standard"])
@pytest.mark.parametrize("head", ["direct", "parallel", "bidirectional", "recursive"])
def test_an_anchored_forecast_moves_with_the_level_of_its_window(anchor, head):
    network, (past, known, _) = network_of(anchor=anchor, head=head, lags=(4,)), batch()
    before = network(past, known)
    past[..., :2] += 5
    torch.testing.assert_close(network(past, known), before + 5, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("loss", ["mse", "gaussian"])
def test_a_standardised_forecast_stretches_with_its_window(loss):
    network, (past, known, _) = network_of(anchor="standard", loss=loss), batch()
    before = network(past, known)
    past[..., :2] *= 3
    torch.testing.assert_close(network(past, known), before * 3, atol=1e-4, rtol=1e-4)


def test_series_embedding_without_series_is_an_error():
    with pytest.raises(ConfigError, match="series_embedding needs series"):
        ForecastNetwork(ModelConfig(series_embedding=True, input_size=1, output_size=1))
