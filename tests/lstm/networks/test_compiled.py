"""The compiled layer against nn.LSTM, against the gate equations, and where it cannot be built."""

import copy
import itertools
import logging
import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from torch import nn

from lstm.config.model import ModelConfig
from lstm.networks import compiled
from lstm.networks.cells import Recurrent


@pytest.fixture(scope="module", autouse=True)
def kernel():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LSTM_COMPILED", "1")
        if not compiled.build():
            pytest.skip("no C++ compiler here")
        yield


def layer_of(inputs, size, dtype=torch.float32):
    with torch.random.fork_rng():
        torch.manual_seed(inputs + size)
        return nn.LSTM(inputs, size, batch_first=True, dtype=dtype)


def numbers(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def memory_of(batch, size, dtype=torch.float32):
    return tuple(numbers(1, batch, size, dtype=dtype, seed=seed).requires_grad_() for seed in (1, 2))


def both_ways(run, layer, x, memory, only_last=False):
    """Outputs, and gradients of everything for a loss that asks for all outputs."""
    x = x.clone().requires_grad_()
    out, (h, c) = run(x, memory)
    seen = out[:, -1] if only_last else out
    loss = sum((part * numbers(*part.shape, dtype=part.dtype, seed=9)).sum() for part in (seen, h, c))
    return [out, h, c, *torch.autograd.grad(loss, [x, *layer.parameters(), *(memory or ())])]


def kernel_of(layer):
    return lambda x, memory: compiled.run_layer(layer, x, memory)


def assert_agree(ours, theirs, tolerance=1e-5):
    for one, other in zip(ours, theirs, strict=True):
        assert one.shape == other.shape
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance * (1 + float(other.detach().abs().max())))


@pytest.mark.parametrize("size", [5, 7, 33, 64, 100])
@pytest.mark.parametrize("inputs", [1, 5, 64])
def test_outputs_and_gradients_are_those_of_nn_lstm(inputs, size):
    layer = layer_of(inputs, size)
    for batch, steps, started in itertools.product((1, 3, 32, 257), (1, 2, 24), (False, True)):
        x, memory = numbers(batch, steps, inputs), memory_of(batch, size) if started else None
        assert_agree(both_ways(kernel_of(layer), layer, x, memory), both_ways(layer, layer, x, memory))


def test_in_float64_it_agrees_to_rounding():
    layer, x = layer_of(3, 21, torch.float64), numbers(19, 40, 3, dtype=torch.float64)
    memory = memory_of(19, 21, torch.float64)
    assert_agree(both_ways(kernel_of(layer), layer, x, memory), both_ways(layer, layer, x, memory), 1e-13)


def test_the_gradients_are_those_of_finite_differences():
    layer, x = layer_of(2, 3, torch.float64), numbers(2, 4, 2, dtype=torch.float64).requires_grad_()
    weights, memory = [one.detach().requires_grad_() for one in layer.parameters()], memory_of(2, 3, torch.float64)

    def run(x, h, c, *weights):
        out, (h, c) = compiled._Sequence.apply(x, *weights, h[0], c[0])[0], (h, c)
        return out

    assert torch.autograd.gradcheck(run, (x, *memory, *weights))


def test_the_equations_written_out_in_numpy_give_the_same():
    layer, x = layer_of(4, 18), numbers(5, 30, 4)
    w_input, w_hidden, b_input, b_hidden = (one.detach().double().numpy() for one in layer.parameters())
    h = c = np.zeros((5, 18))
    for step in x.double().numpy().swapaxes(0, 1):
        i, f, candidate, o = np.split(step @ w_input.T + b_input + h @ w_hidden.T + b_hidden, 4, axis=1)
        c = c / (1 + np.exp(-f)) + np.tanh(candidate) / (1 + np.exp(-i))
        h = np.tanh(c) / (1 + np.exp(-o))
    out, (last, cell) = compiled.run_layer(layer, x, None)
    for ours, expected in ((out[:, -1], h), (last[0], h), (cell[0], c)):
        np.testing.assert_allclose(ours.detach().numpy(), expected, atol=1e-6)


def test_saturated_gates_stay_finite_and_nan_stays_nan():
    layer = layer_of(1, 16)
    for value in (1e4, -1e4, 1e30):
        out, _ = compiled.run_layer(layer, torch.full((2, 3, 1), value), None)
        torch.testing.assert_close(out, layer(torch.full((2, 3, 1), value))[0], rtol=1e-5, atol=1e-6)
    assert compiled.run_layer(layer, torch.full((2, 3, 1), torch.nan), None)[0].isnan().all()


def test_a_gradient_for_the_last_step_alone_is_right():
    layer, x = layer_of(5, 40), numbers(33, 20, 5)
    assert_agree(both_ways(kernel_of(layer), layer, x, None, True), both_ways(layer, layer, x, None, True))


@pytest.mark.parametrize("turned", [lambda x: x.transpose(0, 1), lambda x: x.mT.contiguous().mT, lambda x: x[..., ::2]])
def test_an_input_may_lie_in_memory_as_it_likes(turned):
    x = turned(numbers(6, 6, 12))
    layer = layer_of(x.shape[2], 9)
    assert_agree(both_ways(kernel_of(layer), layer, x, None), both_ways(layer, layer, x.contiguous(), None))


def test_only_what_needs_a_gradient_gets_one():
    layer, x = layer_of(5, 9), numbers(4, 6, 5)
    compiled.run_layer(layer, x, None)[0].sum().backward()
    assert x.grad is None and all(one.grad is not None for one in layer.parameters())
    layer.zero_grad()
    layer.requires_grad_(False)
    compiled.run_layer(layer, x.requires_grad_(), None)[0].sum().backward()
    assert x.grad is not None and all(one.grad is None for one in layer.parameters())


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_nothing_is_kept(mode, monkeypatch):
    layer, x = layer_of(5, 9), numbers(4, 6, 5)
    expected = layer(x)[0].detach()
    monkeypatch.setattr(compiled._Library, "kept", lambda *given: pytest.fail("memory for a way back"))
    with mode():
        out, (h, c) = compiled.run_layer(layer, x, None)
    torch.testing.assert_close(torch.Tensor(out.numpy()), expected, rtol=1e-5, atol=1e-6)
    assert not (out.requires_grad or h.requires_grad or c.requires_grad)


def test_the_second_way_back_gives_the_same_as_the_first():
    layer, x = layer_of(5, 9), numbers(4, 6, 5)
    loss = compiled.run_layer(layer, x, None)[0].square().sum()
    first, second = (torch.autograd.grad(loss, list(layer.parameters()), retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.parametrize("batch", [32, 257])
def test_the_bits_depend_neither_on_the_call_nor_on_the_threads(batch):
    layer, x, before = layer_of(8, 64), numbers(batch, 24, 8), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 1, 2):
            torch.set_num_threads(threads)
            found.append(both_ways(kernel_of(layer), layer, x, None))
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for again in found[1:] for one, other in zip(found[0], again, strict=True))


def test_threads_of_python_may_call_it_at_once():
    layer, x = layer_of(8, 32), numbers(64, 12, 8)
    expected, found = both_ways(kernel_of(layer), layer, x, None), []
    threads = [
        threading.Thread(target=lambda: found.append(both_ways(kernel_of(layer), layer, x, None))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(torch.equal(one, other) for each in found for one, other in zip(expected, each, strict=True))


def test_a_stack_with_dropout_draws_the_same_masks(monkeypatch):
    cell = Recurrent("lstm", 5, ModelConfig(hidden_size=24, num_layers=3, dropout=0.4, residual=True)).train()
    for one in (cell, copy.deepcopy(cell)):
        found = {}
        for switch in "01":
            monkeypatch.setenv("LSTM_COMPILED", switch)
            with torch.random.fork_rng():
                torch.manual_seed(4)
                state, _ = one(numbers(16, 10, 5))
            found[switch] = [state, *torch.autograd.grad(state.square().sum(), list(one.parameters()))]
        assert_agree(found["1"], found["0"])


@pytest.mark.parametrize("kind", ["gru", "float16", "two layers", "hooked", "autocast"])
def test_what_the_kernel_does_not_know_goes_to_the_layer_itself(kind, monkeypatch):
    layer, x = layer_of(5, 9), numbers(4, 6, 5)
    if kind == "gru":
        layer = nn.GRU(5, 9, batch_first=True)
    elif kind == "two layers":
        layer = nn.LSTM(5, 9, 2, batch_first=True)
    elif kind == "float16":
        layer, x = layer.to(torch.bfloat16), x.to(torch.bfloat16)
    elif kind == "hooked":
        layer.register_forward_hook(lambda *given: None)
    monkeypatch.setattr(compiled, "_forward", lambda *given: pytest.fail("the kernel was asked"))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=kind == "autocast"):
        assert torch.equal(compiled.run_layer(layer, x, None)[0], layer(x)[0])


@pytest.fixture
def nothing_built(monkeypatch, tmp_path):
    """As in a process that starts with an empty cache, and a compiler that is quick: it notes and copies."""
    built, compiler = compiled._path(), tmp_path / "quick"
    script = ["#!/bin/bash", f'echo built >> "{tmp_path}/log"', "sleep 0.5", f'cp "{built}" "${{@: -1}}"']
    compiler.write_text("\n".join(script))
    compiler.chmod(0o755)
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("CXX", str(compiler))
    caches = (compiled._path, compiled._library)
    for one in caches:
        one.cache_clear()
    yield tmp_path
    for one in caches:
        one.cache_clear()


def test_without_a_compiler_nn_lstm_runs_and_that_is_logged_once(nothing_built, monkeypatch, caplog):
    monkeypatch.setenv("CXX", str(nothing_built / "no-compiler"))
    layer, x = layer_of(5, 9), numbers(4, 6, 5)
    with caplog.at_level(logging.INFO, compiled.__name__):
        for _ in range(3):
            assert torch.equal(compiled.run_layer(layer, x, None)[0], layer(x)[0])
    assert [record.message.startswith("No compiled LSTM kernel") for record in caplog.records] == [True]
    assert not (compiled.available() or compiled.build())


def test_a_damaged_library_is_built_anew_and_a_look_builds_nothing(nothing_built):
    assert not compiled.available() and not (nothing_built / "cache").exists()
    compiled._path().parent.mkdir(parents=True)
    compiled._path().write_bytes(b"half a library")
    assert not compiled.available()
    assert compiled.build() and compiled.available()
    compiled._library.cache_clear()
    whole = compiled._path().read_bytes()
    beside = compiled._path().with_name("cut")  # another file: this process has the first one open
    beside.write_bytes(whole[: len(whole) // 2])
    beside.replace(compiled._path())
    assert not compiled.available()  # and the process is still there
    assert compiled.build() and compiled.available()


@pytest.mark.parametrize("name, value", [("CXX", 'g++ "'), ("TORCH_EXTENSIONS_DIR", "~nobody-at-all/x")])
def test_an_environment_that_cannot_be_read_leaves_nn_lstm(nothing_built, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not (compiled.available() or compiled.build())
    layer, x = layer_of(5, 9), numbers(4, 6, 5)
    assert torch.equal(compiled.run_layer(layer, x, None)[0], layer(x)[0])


def test_of_two_processes_at_once_one_builds_and_both_have_it(nothing_built):
    code = "from lstm.networks import compiled; assert compiled.build() and compiled.available()"
    both = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [one.wait(300) for one in both] == [0, 0]
    assert (nothing_built / "log").read_text() == "built\n"
    assert len(list(nothing_built.rglob("*.so"))) == 1
