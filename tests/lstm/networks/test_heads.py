"""Heads: patches, decoding, and scheduled sampling."""

import math

import pytest
import torch

from lstm.config.model import ModelConfig
from lstm.data.windows import Windows
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import fit
from tests.support.network_variants import VARIANTS, actual_of, batch, network_of, point_of

RECURSIVE = {name: changes for name, changes in VARIANTS.items() if changes.get("head") == "recursive"}
every_recursive = pytest.mark.parametrize("changes", RECURSIVE.values(), ids=RECURSIVE)


@pytest.mark.parametrize("head", ["parallel", "recursive"])
@pytest.mark.parametrize("cell", ["lstm", "transformer"])
def test_a_horizon_that_ends_within_a_patch_is_the_start_of_one_that_ends_with_it(head, cell):
    short = network_of(head=head, cell=cell, patch_length=3, horizon=5)
    whole = network_of(head=head, cell=cell, patch_length=3, horizon=6)
    whole.load_state_dict(short.state_dict())
    past, known, _ = batch()
    filled = torch.cat([known, known[:, -1:]], dim=1)
    torch.testing.assert_close(short(past, known), whole(past, filled)[:, :5])


@pytest.mark.parametrize("patch", [1, 3])
def test_a_parallel_head_decodes_each_patch_once(patch):
    network, (past, known, _) = network_of(head="parallel", patch_length=patch), batch()
    shapes = []
    decode = network.cell.decode
    network.cell.decode = lambda queries, state: shapes.append(queries.shape) or decode(queries, state)
    network(past, known)
    assert shapes == [(3, math.ceil(5 / patch), 16)]


def test_a_direct_head_without_known_inputs_is_one_linear_map_of_the_encoding():
    config = ModelConfig(hidden_size=8, sequence_length=6, horizon=5, input_size=2, output_size=2)
    network = ForecastNetwork(config).eval()
    past = torch.randn(3, 6, 2)
    encoding = network.cell(past)[0]
    expected = (encoding @ network.head.out.weight.T + network.head.out.bias).reshape(3, 5, 2, 1)
    torch.testing.assert_close(network(past, torch.zeros(3, 5, 0)), expected)


def test_a_bidirectional_head_is_torch_s_lstm_started_from_the_encoding():
    network, (past, known, _) = network_of(head="bidirectional"), batch()
    head = network.head
    encoding, _ = network.cell(network.embed(past))
    queries = head.queries.position + head.queries.known(known)
    start = torch.tanh(head.start(encoding))
    hidden = torch.stack([start[:, :16], start[:, 16:]])
    steps, _ = head.stack(queries, (hidden, torch.zeros_like(hidden)))
    torch.testing.assert_close(network(past, known), head.out(steps).reshape(3, 5, 2, 1))


@every_recursive
def test_training_fed_with_forecasts_equals_the_forward_pass_in_use(changes):
    network, inputs = network_of(**{**changes, "dropout": 0.0}), batch()
    expected = network(*inputs)
    network.train().head.sampling = 1.0
    torch.testing.assert_close(network(*inputs, actual_of()), expected)


@every_recursive
def test_actual_values_equal_to_the_forecast_change_nothing(changes):
    # Actual values and forecasts must be fed on the same scale.
    network, inputs = network_of(**changes), batch()
    expected = network(*inputs)
    torch.testing.assert_close(network(*inputs, point_of(network, expected)), expected, atol=1e-5, rtol=1e-5)


@every_recursive
def test_unmeasured_values_are_fed_from_the_forecast(changes):
    network, inputs = network_of(**changes), batch()
    unknown = torch.full_like(actual_of(), torch.nan)
    torch.testing.assert_close(network(*inputs, unknown), network(*inputs))


def test_half_of_the_patches_are_fed_from_the_forecast_at_a_sampling_of_a_half():
    network, (past, known, _) = network_of(head="recursive", horizon=2), batch(size=1)
    network.head.sampling = 0.5
    past, known, actual = past.repeat(1000, 1, 1), known[:, :2].repeat(1000, 1, 1), torch.ones(1000, 2, 2)
    torch.manual_seed(0)
    second = network(past, known, None, actual)[:, 1, 0, 0]
    itself = network(past, known)[:, 1, 0, 0]
    assert 430 < int(torch.isclose(second, itself, atol=1e-7).sum()) < 570


def test_sampling_rises_from_zero_to_scheduled_sampling():
    config = ModelConfig(
        head="recursive", scheduled_sampling=0.8, epochs=5, hidden_size=4, sequence_length=6, horizon=2, device="cpu"
    )
    network = ForecastNetwork(config.replace(input_size=1, output_size=1, patience=None), [0])
    rows = torch.randn(40, 1)
    windows = Windows(rows, rows, torch.arange(6, 38), 6, 2)
    shares = []
    fit(network, windows, windows, lambda _: shares.append(network.head.sampling))
    assert shares == pytest.approx([0.0, 0.2, 0.4, 0.6, 0.8])
