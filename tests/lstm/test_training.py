import subprocess
import sys

import numpy as np
import pytest
import torch

from lstm.config import ModelConfig
from lstm.data.origins import window_origins
from lstm.data.windows import Windows
from lstm.errors import ConfigError, TrainingError
from lstm.networks.network import ForecastNetwork
from lstm.networks.training import fit, forecast, pick_device

from ..conftest import ROOT


def wave_windows(rows=300, noise=0.0, seed=0):
    t = np.arange(rows)
    values = np.sin(t / 4) + np.random.default_rng(seed).normal(0, noise, rows) if noise else np.sin(t / 4)
    features = torch.tensor(values, dtype=torch.float32)[:, None]
    return Windows(features, features, torch.from_numpy(window_origins(np.zeros(rows, int), 12, 3)), 12, 3)


def network_of(**changes):
    values = {"hidden_size": 12, "sequence_length": 12, "horizon": 3, "input_size": 1, "output_size": 1, "epochs": 3}
    return ForecastNetwork(ModelConfig(**{"device": "cpu", **values, **changes}), [0])


def weights(network):
    return torch.cat([parameter.detach().flatten() for parameter in network.parameters()])


@pytest.mark.parametrize("scheduler", ["cosine", "plateau", "step", "none"])
def test_training_learns(scheduler):
    fitted = fit(network_of(scheduler=scheduler, epochs=15, learning_rate=0.01), wave_windows(), wave_windows(100))
    assert fitted.history[-1]["val_loss"] < 0.3 * fitted.history[0]["val_loss"]
    assert set(fitted.history[0]) == {"epoch", "train_loss", "val_loss", "learning_rate", "gradient_norm", "seconds"}


def test_same_seed_same_bits_and_the_global_generator_is_left_alone():
    windows = wave_windows(noise=0.1)
    torch.manual_seed(1)
    first = weights(fit(network_of(augment=("jitter", "scaling")), windows, windows).network)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = weights(fit(network_of(augment=("jitter", "scaling")), windows, windows).network)
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(first, weights(fit(network_of(seed=5), windows, windows).network))


def test_another_process_gets_the_same_result():
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from tests.lstm.test_training import *\n"
        "w = wave_windows(noise=0.1)\n"
        "print(float(weights(fit(network_of(), w, w).network).double().sum()).hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    windows = wave_windows(noise=0.1)
    assert float(weights(fit(network_of(), windows, windows).network).double().sum()).hex() == done.stdout.strip()


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_is_gained():
    train, other = wave_windows(60, noise=1.0), wave_windows(60, noise=1.0, seed=1)
    fitted = fit(network_of(epochs=60, patience=4, learning_rate=0.02, dropout=0.0), train, other)
    losses = [epoch["val_loss"] for epoch in fitted.history]
    assert len(losses) == fitted.best_epoch + 1 + 4 < 60
    assert losses[fitted.best_epoch] == min(losses)
    out = forecast(fitted.network, other)[..., 0]
    mse = float((out - other.actual(torch.arange(len(other)))).square().mean())
    assert mse == pytest.approx(min(losses), rel=1e-5)


def test_not_measured_targets_teach_nothing():
    windows = wave_windows()
    targets = windows.targets.clone()
    targets[150:] = torch.nan
    cut = Windows(windows.features, targets, windows.origins[windows.origins < 150], 12, 3)
    fitted = fit(network_of(), cut, cut)
    assert np.isfinite([epoch["train_loss"] for epoch in fitted.history]).all()


def test_a_loss_that_is_not_finite_is_told_in_the_first_epoch():
    windows = wave_windows()
    broken = Windows(windows.features * torch.inf, windows.targets, windows.origins, 12, 3)
    with pytest.raises(TrainingError, match="not finite in the first epoch"):
        fit(network_of(), broken, windows)


def test_a_loss_that_explodes_later_ends_training_with_the_best_weights():
    windows = wave_windows()
    network = network_of(epochs=10, scheduler="none")

    def poison(epoch):
        if epoch["epoch"] == 2:
            with torch.no_grad():
                network.head.weight.fill_(torch.nan)

    fitted = fit(network, windows, windows, poison)
    assert len(fitted.history) == 2
    assert torch.isfinite(weights(fitted.network)).all()


def test_a_last_window_alone_does_not_stop_batch_norm():
    windows = wave_windows(12 + 2 + 33)  # 33 windows: two batches of 16 and one window
    fitted = fit(network_of(batch_norm=True, batch_size=16), windows, windows)
    assert len(windows) == 33 and len(fitted.history) == 3


def test_what_the_callback_raises_ends_the_training():
    class EnoughError(Exception):
        pass

    def stop(epoch):
        raise EnoughError

    with pytest.raises(EnoughError):
        fit(network_of(), wave_windows(), wave_windows(), stop)


def test_no_windows_is_an_error():
    windows = wave_windows()
    none = Windows(windows.features, windows.targets, windows.origins[:0], 12, 3)
    with pytest.raises(TrainingError, match="no validation window of sequence_length=12"):
        fit(network_of(), windows, none)
    assert forecast(network_of(), none).shape == (0, 3, 1, 1)


def test_devices_and_precisions_that_are_not_there_are_told():
    assert pick_device("cpu").type == "cpu"
    with pytest.raises(ConfigError, match="device='warp' is not on this machine"):
        pick_device("warp")
    with pytest.raises(ConfigError, match="precision='bf16' needs a CUDA device"):
        fit(network_of(precision="bf16"), wave_windows(), wave_windows())


def test_a_caller_that_has_enough_gets_the_best_epoch_so_far():
    whole = fit(network_of(epochs=5, scheduler="none"), wave_windows(), wave_windows(100))
    cut = fit(network_of(epochs=5, scheduler="none"), wave_windows(), wave_windows(100), lambda one: one["epoch"] == 2)
    assert len(cut.history) == 2
    assert [one["val_loss"] for one in cut.history] == [one["val_loss"] for one in whole.history[:2]]
    assert cut.best_epoch < 2


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_learns_like_the_cpu(precision):
    if not torch.cuda.is_available():
        pytest.skip("needs CUDA")
    windows = wave_windows()
    changes = {"epochs": 15, "learning_rate": 0.01}
    cpu = fit(network_of(**changes), windows, windows).history[-1]["val_loss"]
    cuda = fit(network_of(**changes, device="cuda", precision=precision), windows, windows).history[-1]["val_loss"]
    assert cuda < 2 * cpu + 0.01
