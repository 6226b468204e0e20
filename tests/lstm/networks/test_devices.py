"""Devices and precisions: what a machine lacks is refused before any training."""

import pytest
import torch

from lstm import LSTMModel
from lstm.errors import ConfigError
from lstm.networks import devices
from lstm.networks.devices import autocast_dtype, check_precision, pick_device, supports
from lstm.networks.training import fit
from tests.support.network_variants import wave_network, wave_windows

CPU, CUDA, MPS = torch.device("cpu"), torch.device("cuda", 0), torch.device("mps")
BF16, FP16 = torch.bfloat16, torch.float16
LARGE, SMALL = 512 * 256, 16 * 32  # hidden_size x batch_size


def with_gpu(monkeypatch, *dtypes):
    """Pretend that the GPU computes in these half precisions alone."""
    monkeypatch.setattr(devices, "supports", lambda dtype, device: dtype in dtypes)


def test_a_device_that_is_not_there_is_refused():
    assert pick_device("cpu") == CPU
    with pytest.raises(ConfigError, match=r"device='warp' is not on this machine. Use auto"):
        pick_device("warp")


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_on_the_cpu_is_refused_before_the_first_epoch(precision):
    epochs = []
    with pytest.raises(
        ConfigError, match=f"precision='{precision}' needs a CUDA device.* cpu. Use auto or fp32"
    ) as caught:
        fit(wave_network(precision=precision), wave_windows(), wave_windows(), epochs.append)
    assert "\n" not in str(caught.value)
    assert epochs == []
    rows = torch.linspace(0, 9, 60).sin().numpy()
    with pytest.raises(ConfigError, match=f"precision='{precision}'"):
        LSTMModel({"device": "cpu", "precision": precision, "epochs": 1}).fit(rows, rows, verbose=False)


@pytest.mark.parametrize("device", [CPU, MPS])
def test_every_processor_trains_in_fp32(device, monkeypatch):
    monkeypatch.setattr(devices, "supports", lambda *_: pytest.fail("a processor is asked for half precision"))
    for precision in ("auto", "fp32"):
        assert autocast_dtype(precision, device, LARGE) is None


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", BF16), ("fp16", FP16)])
def test_a_gpu_without_the_precision_is_told_before_training(precision, dtype, monkeypatch):
    with_gpu(monkeypatch)
    with pytest.raises(ConfigError, match=f"precision='{precision}' needs a GPU .* cuda:0 can't. Use auto"):
        check_precision(precision, CUDA)
    with_gpu(monkeypatch, dtype)
    assert autocast_dtype(precision, CUDA, SMALL) == dtype


def test_auto_takes_the_half_precision_that_the_gpu_has_for_large_products(monkeypatch):
    for dtypes, expected in (((BF16, FP16), BF16), ((FP16,), FP16), ((), None)):
        with_gpu(monkeypatch, *dtypes)
        assert autocast_dtype("auto", CUDA, LARGE) == expected
        assert autocast_dtype("auto", CUDA, SMALL) is None


@pytest.mark.parametrize("dtype", [BF16, FP16])
def test_the_probe_answers_on_every_processor_and_leaves_the_random_numbers_alone(dtype):
    state = torch.random.get_rng_state()
    supports.cache_clear()
    supports(dtype, CPU)  # an answer on every processor, never an error
    assert torch.equal(torch.random.get_rng_state(), state)
    assert supports.cache_info().misses == 1


def test_the_probe_says_no_where_the_kernel_is_missing(monkeypatch):
    def refuse(*_):
        raise RuntimeError("could not create a primitive descriptor for the LSTM forward propagation primitive")

    supports.cache_clear()
    monkeypatch.setattr(torch.nn.LSTM, "forward", refuse)
    assert supports(BF16, CPU) is False
    supports.cache_clear()
