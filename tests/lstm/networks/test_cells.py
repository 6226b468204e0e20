"""The cells against independent references, and the agreement of reading, decoding and stepping."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from lstm.config.model import ModelConfig
from lstm.networks.cells import make_cell

CELLS = ["lstm", "gru", "bilstm", "transformer"]


def make_small_cell(name, width=6, **changes):
    config = ModelConfig(**{"hidden_size": 6, "sequence_length": 9, "cell": name, "head": "recursive", **changes})
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make_cell(width, config).eval()


def random_input(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gates(layer):
    return [getattr(layer, f"{name}_l0").detach().double().numpy() for name in ("weight_ih", "weight_hh")] + [
        getattr(layer, f"{name}_l0").detach().double().numpy() for name in ("bias_ih", "bias_hh")
    ]


def numpy_lstm(x, layers):
    """Stacked LSTM from the gate equations, f, i, C̃, o, then C and h; float64, one sequence (steps, width)."""
    for w_input, w_hidden, bias_input, bias_hidden in layers:
        size = w_hidden.shape[1]
        h, c, outputs = np.zeros(size), np.zeros(size), []
        for step in x:
            z = w_input @ step + bias_input + w_hidden @ h + bias_hidden
            i, f, candidate, o = np.split(z, 4)  # torch's order
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(candidate)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        x = np.array(outputs)
    return x[-1]


def numpy_gru(x, layers):
    """Stacked GRU (Cho et al. 2014) in the variant of cuDNN: the reset gate acts on W h + b."""
    for w_input, w_hidden, bias_input, bias_hidden in layers:
        h, outputs = np.zeros(w_hidden.shape[1]), []
        for step in x:
            r_x, z_x, n_x = np.split(w_input @ step + bias_input, 3)
            r_h, z_h, n_h = np.split(w_hidden @ h + bias_hidden, 3)
            z = sigmoid(z_x + z_h)
            h = (1 - z) * np.tanh(n_x + sigmoid(r_x + r_h) * n_h) + z * h
            outputs.append(h)
        x = np.array(outputs)
    return x[-1]


@pytest.mark.parametrize(("name", "oracle"), [("lstm", numpy_lstm), ("gru", numpy_gru)])
def test_the_cell_agrees_with_one_written_from_the_gate_equations(name, oracle):
    cell, x = make_small_cell(name, width=5, num_layers=3, hidden_size=7), random_input(4, 11, 5)
    layers = [gates(layer) for layer in cell.layers]
    expected = np.stack([oracle(sequence.double().numpy(), layers) for sequence in x])
    np.testing.assert_allclose(cell(x)[0].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(("name", "build"), [("lstm", nn.LSTM), ("gru", nn.GRU), ("bilstm", nn.LSTM)])
def test_single_layers_in_a_row_equal_a_stack_of_torch(name, build):
    cell, x = make_small_cell(name, num_layers=3), random_input(4, 11, 6)
    stack = build(6, 6, num_layers=3, batch_first=True, bidirectional=name == "bilstm")
    for number, layer in enumerate(cell.layers):
        for weight, value in layer.named_parameters():
            getattr(stack, weight.replace("_l0", f"_l{number}")).data = value.data
    out, ends = stack(x)
    if name == "bilstm":  # each direction ends where it has read everything
        torch.testing.assert_close(cell(x)[0], torch.cat([out[:, -1, :6], out[:, 0, 6:]], dim=1))
    else:
        encoding, state = cell(x)
        torch.testing.assert_close(encoding, out[:, -1])
        last = state[-1] if name == "gru" else state[-1][0]
        torch.testing.assert_close(last[0], ends[-1] if name == "gru" else ends[0][-1])


def test_the_backward_half_of_a_bilstm_has_read_the_whole_lookback():
    cell, x = make_small_cell("bilstm", num_layers=1), random_input(2, 9, 6)
    for step in (0, 8):
        changed = x.clone()
        changed[:, step] += 1
        assert ((cell(changed)[0] - cell(x)[0]).abs() > 0).all()


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("changes", [{}, {"layer_norm": True}, {"residual": True}])
def test_a_step_from_the_state_is_one_more_step_of_the_lookback(name, changes):
    cell, x, more = make_small_cell(name, num_layers=3, **changes), random_input(4, 9, 6), random_input(4, 3, 6, seed=1)
    _, state = cell(x)
    for step in range(3):
        encoding, state = cell.step(more[:, step], state)
        torch.testing.assert_close(encoding, cell(torch.cat([x, more[:, : step + 1]], dim=1))[0])


@pytest.mark.parametrize("name", ["lstm", "gru"])
@pytest.mark.parametrize("norm", [None, "layer_norm"])
def test_a_residual_layer_gives_its_input_plus_its_output(name, norm):
    cell = make_small_cell(name, width=5, num_layers=3, residual=True, **({norm: True} if norm else {}))
    x = random_input(4, 9, 5)
    normed = [nn.functional.layer_norm] if norm else []

    def through(number, x):
        out = cell.layers[number](x)[0]
        return normed[0](out, (6,)) if normed else out  # a new layer norm scales by 1 and shifts by 0

    first = through(0, x)
    second = first + through(1, first)
    third = second + through(2, second)
    torch.testing.assert_close(cell(x)[0], third[:, -1])


def test_a_residual_bilstm_adds_up_each_direction():
    cell, x = make_small_cell("bilstm", num_layers=2, residual=True), random_input(4, 9, 6)
    first = cell.layers[0](x)[0]
    second = first + cell.layers[1](first)[0]
    torch.testing.assert_close(cell(x)[0], torch.cat([second[:, -1, :6], second[:, 0, 6:]], dim=1))


@pytest.mark.parametrize("name", ["lstm", "bilstm"])
def test_dropout_spares_what_a_residual_layer_adds(name):
    cell, x = make_small_cell(name, num_layers=2, residual=True, dropout=0.5).train(), random_input(4, 9, 6)
    for parameter in cell.layers[1].parameters():
        nn.init.zeros_(parameter)  # this layer puts out nothing
    first = cell.layers[0](x)[0]
    expected = torch.cat([first[:, -1, :6], first[:, 0, 6:]], dim=1) if name == "bilstm" else first[:, -1]
    torch.testing.assert_close(cell(x)[0], expected)


def test_batch_norm_in_a_cell_centres_over_all_steps_of_all_windows():
    cell, x = make_small_cell("lstm", num_layers=1, batch_norm=True).train(), random_input(4, 9, 6)
    out = cell.layers[0](x)[0]
    mean, std = out.mean(dim=(0, 1)), out.var(dim=(0, 1), correction=0).add(1e-5).sqrt()
    torch.testing.assert_close(cell(x)[0], ((out - mean) / std)[:, -1])


@pytest.mark.parametrize("name", ["lstm", "bilstm"])
def test_variational_dropout_drops_the_same_cells_at_all_steps_and_plain_dropout_does_not(name):
    for variational in (True, False):
        cell = make_small_cell(name, dropout=0.5, variational_dropout=variational).train()
        torch.manual_seed(0)
        mask = cell.dropout(torch.ones(5, 9, 6))
        assert set(mask.flatten().tolist()) == {0.0, 2.0}
        assert bool((mask == mask[:, :1]).all()) == variational
        assert (mask[0] != mask[1]).any()  # each window has its own
        assert torch.equal(cell.eval().dropout(torch.ones(5, 9, 6)), torch.ones(5, 9, 6))


@pytest.mark.parametrize("variational", [True, False])
def test_dropout_acts_between_the_layers_and_not_before_the_first(variational):
    x = random_input(4, 9, 6)
    for layers, acts in ((1, False), (2, True)):
        cell = make_small_cell("lstm", num_layers=layers, dropout=0.5, variational_dropout=variational)
        assert torch.equal(cell.train()(x)[0], cell.eval()(x)[0]) != acts


@pytest.mark.parametrize("name", CELLS)
def test_each_query_is_decoded_as_if_it_were_alone(name):
    cell, queries = make_small_cell(name), random_input(4, 5, 6, seed=1)
    _, state = cell(random_input(4, 9, 6))
    decoded = cell.decode(queries, state)
    assert decoded.shape == (4, 5, cell.encoding_size)
    for number in range(5):
        torch.testing.assert_close(cell.decode(queries[:, number : number + 1], state)[:, 0], decoded[:, number])
        torch.testing.assert_close(cell.step(queries[:, number], state)[0], decoded[:, number])


@pytest.mark.parametrize("name", CELLS)
def test_no_query_moves_the_result_of_another(name):
    cell, queries = make_small_cell(name), random_input(4, 5, 6, seed=1)
    _, state = cell(random_input(4, 9, 6))
    before = cell.decode(queries, state)
    queries[:, 2] += 1
    moved = (cell.decode(queries, state) != before).any(dim=2).any(dim=0)
    assert moved.tolist() == [False, False, True, False, False]


@pytest.mark.parametrize("name", CELLS)
def test_steps_depend_on_the_whole_lookback(name):
    cell, x, query = make_small_cell(name), random_input(4, 9, 6), random_input(4, 6, seed=1)
    before = cell.step(query, cell(x)[1])[0]
    for step in (0, 8):
        changed = x.clone()
        changed[:, step] += 1
        assert (cell.step(query, cell(changed)[1])[0] != before).any(dim=1).all()


def run_steps(cell, state, x):
    parts = []
    for number in range(x.shape[1]):
        out, state = cell.step(x[:, number], state)
        parts.append(out)
    return torch.stack(parts, dim=1)


def test_steps_of_a_transformer_are_one_causal_decode():
    cell, x = make_small_cell("transformer"), random_input(4, 5, 6, seed=1)
    _, state = cell(random_input(4, 9, 6))
    causal = torch.ones(5, 5).triu(1).bool()
    expected = cell.decoder(cell.embed(x), state[0], tgt_mask=causal)
    torch.testing.assert_close(run_steps(cell, state, x), expected)


def test_steps_of_a_bilstm_are_one_pass_of_its_decoder_from_the_end_of_the_lookback():
    cell, x = make_small_cell("bilstm"), random_input(4, 5, 6, seed=1)
    encoding, state = cell(random_input(4, 9, 6))
    hidden = torch.tanh(cell.bridge(encoding))[None]
    expected = cell.out(cell.decoder.layers[0](x, (hidden, torch.zeros_like(hidden)))[0])
    torch.testing.assert_close(run_steps(cell, state, x), expected)


@pytest.mark.parametrize("name", CELLS)
def test_a_later_step_moves_no_earlier_one_and_is_moved_by_it(name):
    cell, x = make_small_cell(name), random_input(4, 5, 6, seed=1)
    _, state = cell(random_input(4, 9, 6))
    before = run_steps(cell, state, x)
    x[:, 2] += 1
    moved = (run_steps(cell, state, x) != before).any(dim=2).any(dim=0)
    assert moved.tolist() == [False, False, True, True, True]


@pytest.mark.parametrize("size", [6, 7])
def test_the_positions_of_a_transformer_are_those_of_vaswani(size):
    position = make_small_cell("transformer", hidden_size=size).position
    for step in range(9):
        for place in range(size):
            angle = step / 10000 ** (place // 2 * 2 / size)
            expected = math.cos(angle) if place % 2 else math.sin(angle)
            assert float(position[step, place]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("name", ["bilstm", "transformer"])
def test_a_decoder_that_no_head_uses_is_not_built(name):
    sizes = {
        head: sum(p.numel() for p in make_small_cell(name, head=head).parameters()) for head in ("direct", "parallel")
    }
    assert sizes["direct"] < sizes["parallel"]
