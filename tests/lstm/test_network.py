import numpy as np
import pytest
import torch
from torch import nn

from lstm.config import ModelConfig
from lstm.networks.cells import Recurrent
from lstm.networks.losses import make_loss
from lstm.networks.network import ForecastNetwork

VARIANTS = [
    {"cell": cell, "anchor": anchor, "patch_length": patch}
    for cell, anchor, patch in [
        ("lstm", "none", 1),
        ("lstm", "last", 4),
        ("lstm", "seasonal", 2),
        ("lstm", "gate", 1),
        ("lstm", "mean", 3),
        ("lstm", "standard", 1),
        ("gru", "last", 1),
        ("bilstm", "last", 2),
        ("transformer", "last", 1),
        ("transformer", "none", 3),
    ]
] + [{"layer_norm": True}, {"batch_norm": True}, {"quantiles": (0.1, 0.5, 0.9)}, {"num_layers": 1}]


def network_of(**changes):
    values = {"hidden_size": 16, "sequence_length": 12, "horizon": 5, "season": 4, "input_size": 4, "output_size": 2}
    return ForecastNetwork(ModelConfig(**{**values, **changes}), [0, 1], n_known=1).eval()


def batch(size=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(size, 12, 4, generator=generator), torch.randn(size, 5, 1, generator=generator)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_lstm(x, layers):
    """Stacked LSTM from the gate equations, f, i, C̃, o, then C and h; float64, one sequence (steps, width)."""
    for w_input, w_hidden, bias in layers:
        size = w_hidden.shape[1]
        h, c, outputs = np.zeros(size), np.zeros(size), []
        for step in x:
            z = w_input @ step + w_hidden @ h + bias
            i, f, candidate, o = (z[gate * size : (gate + 1) * size] for gate in range(4))  # torch's order
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.array(outputs)
    return x[-1]


def test_the_cell_agrees_with_an_lstm_written_from_the_gate_equations():
    torch.manual_seed(3)
    cell = Recurrent("lstm", 5, ModelConfig(hidden_size=7, num_layers=3)).eval()
    x = torch.randn(4, 11, 5)
    layers = [
        (
            getattr(cell.stack, f"weight_ih_l{layer}").detach().double().numpy(),
            getattr(cell.stack, f"weight_hh_l{layer}").detach().double().numpy(),
            (getattr(cell.stack, f"bias_ih_l{layer}") + getattr(cell.stack, f"bias_hh_l{layer}"))
            .detach()
            .double()
            .numpy(),
        )
        for layer in range(3)
    ]
    expected = np.stack([numpy_lstm(one.double().numpy(), layers) for one in x])
    np.testing.assert_allclose(cell(x).detach().numpy(), expected, atol=1e-5)


def test_the_backward_half_of_a_bilstm_has_read_the_whole_look_back():
    torch.manual_seed(0)
    cell = Recurrent("bilstm", 3, ModelConfig(hidden_size=4, num_layers=1)).eval()
    x = torch.randn(2, 9, 3)
    for step in (0, 8):
        changed = x.clone()
        changed[:, step] += 1
        difference = (cell(changed) - cell(x)).abs()
        assert (difference[:, :4] > 0).all() and (difference[:, 4:] > 0).all()


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_newest_input_moves_the_first_step(changes):
    network, (past, known) = network_of(**changes), batch()
    before = network(past, known)
    past[:, -1, 3] += 1.0  # a covariate, so that no anchor does it alone
    assert ((network(past, known) - before)[:, 0].abs().amax(dim=(1, 2)) > 1e-6).all()


@pytest.mark.parametrize("changes", VARIANTS)
def test_shape_and_independence_of_the_rest_of_the_batch(changes):
    network, (past, known) = network_of(**changes), batch(size=4)
    out = network(past, known)
    assert out.shape == (4, 5, 2, 3 if "quantiles" in changes else 1)
    torch.testing.assert_close(network(past[1:2], known[1:2]), out[1:2], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("changes", VARIANTS)
def test_the_forward_pass_leaves_its_inputs_alone(changes):
    network, (past, known) = network_of(**changes), batch()
    copies = past.clone(), known.clone()
    network(past, known)
    assert torch.equal(past, copies[0]) and torch.equal(known, copies[1])


@pytest.mark.parametrize("changes", VARIANTS)
def test_one_batch_can_be_learnt_by_heart(changes):
    network, (past, known) = network_of(**{**changes, "dropout": 0.0}), batch(size=8)
    actual = torch.randn(8, 5, 2, generator=torch.Generator().manual_seed(9))
    loss = make_loss(network.config, torch.device("cpu"))
    optimizer = torch.optim.Adam(network.train().parameters(), 0.01)
    losses = []
    for _ in range(300):
        optimizer.zero_grad()
        total, count = loss(network(past, known), actual)
        (total / count).backward()
        optimizer.step()
        losses.append(float((total / count).detach()))
    assert losses[-1] < 0.1 * losses[0]


def test_known_values_reach_the_step_that_they_speak_of():
    network, (past, known) = network_of(), batch()
    before = network(past, known)
    known[:, 2] += 1.0
    moved = (network(past, known) - before).abs().amax(dim=(0, 2, 3))
    assert moved[2] > 0
    assert (moved[[0, 1, 3, 4]] == 0).all()


def test_quantiles_never_cross():
    out = network_of(quantiles=(0.1, 0.5, 0.9))(*batch(size=50))
    assert (out.diff(dim=-1) >= 0).all()


def silent(network):
    """Everything but the anchor says zero."""
    for name, parameter in network.named_parameters():
        if not name.startswith("anchor."):
            nn.init.zeros_(parameter)
    return network


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
def test_anchors_are_the_ones_worked_out_by_hand(anchor, expected):
    config = ModelConfig(
        hidden_size=4, sequence_length=8, horizon=5, season=4, anchor=anchor, input_size=1, output_size=1
    )
    network = silent(ForecastNetwork(config, [0]).eval())
    past = torch.arange(8.0).reshape(1, 8, 1)
    out = network(past, torch.zeros(1, 5, 0)).flatten()
    np.testing.assert_allclose(out.detach().numpy(), expected, atol=1e-6)


def test_an_anchored_forecast_moves_with_the_level_of_its_window():
    config = ModelConfig(hidden_size=8, sequence_length=8, horizon=3, anchor="last", input_size=1, output_size=1)
    network = ForecastNetwork(config, [0]).eval()
    past = torch.randn(2, 8, 1)
    out = network(past, torch.zeros(2, 3, 0))
    torch.testing.assert_close(network(past + 5, torch.zeros(2, 3, 0)), out + 5)


def test_equal_seeds_give_equal_weights_and_leave_the_global_generator_alone():
    state = torch.random.get_rng_state()
    first, second, other = network_of(seed=1), network_of(seed=1), network_of(seed=2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


@pytest.mark.parametrize("loss", ["mse", "mae", "huber"])
def test_a_loss_is_zero_for_a_perfect_forecast_and_ignores_what_was_not_measured(loss):
    compute = make_loss(ModelConfig(loss=loss), torch.device("cpu"))
    actual = torch.randn(4, 3, 2)
    assert float(compute(actual[..., None], actual)[0]) == 0
    forecast = actual[..., None] + 1
    actual[0, 0, 0] = float("nan")
    total, count = compute(forecast, actual)
    assert int(count) == 23
    assert float(total / count) == pytest.approx(0.5 if loss == "huber" else 1.0)


def test_pinball_of_a_hand_worked_case():
    compute = make_loss(ModelConfig(quantiles=(0.1, 0.5, 0.9)), torch.device("cpu"))
    total, count = compute(torch.tensor([[[[0.0, 1.0, 4.0]]]]), torch.tensor([[[2.0]]]))
    assert float(total / count) == pytest.approx((0.1 * 2 + 0.5 * 1 + 0.1 * 2) / 3)
