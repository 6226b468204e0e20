"""The training loop: learning, stopping, reproducibility."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from lstm.data.windows import Windows
from lstm.errors import TrainingError
from lstm.networks.devices import supports
from lstm.networks.graphed import can_capture
from lstm.networks.trainer import Trainer
from lstm.networks.training import fit, forecast
from tests.support.network_variants import VARIANTS, mixed_windows, network_of, wave_network, wave_windows, weights
from tests.support.paths import ROOT


@pytest.mark.parametrize("scheduler", ["cosine", "onecycle", "plateau", "step", "none"])
def test_training_learns(scheduler):
    fitted = fit(wave_network(scheduler=scheduler, epochs=15, learning_rate=0.01), wave_windows(), wave_windows(100))
    assert fitted.history[-1]["val_loss"] < 0.3 * fitted.history[0]["val_loss"]
    assert fitted.findings == ()


def test_an_epoch_s_record_has_its_number_losses_rate_gradient_and_time():
    history = fit(wave_network(scheduler="none"), wave_windows(), wave_windows(100)).history
    keys = {"epoch", "train_loss", "val_loss", "val_rmse", "learning_rate", "gradient_norm", "seconds"}
    assert all(set(record) == keys for record in history)
    assert [record["epoch"] for record in history] == [1, 2, 3]
    assert {record["learning_rate"] for record in history} == {0.001}
    assert all(record["gradient_norm"] > 0 and record["seconds"] > 0 for record in history)


@pytest.mark.parametrize("changes", [{}, {"quantiles": (0.1, 0.5, 0.9)}, {"loss": "student_t"}])
def test_val_rmse_is_that_of_the_point_forecast_where_something_was_measured(changes):
    windows = wave_windows(100, noise=0.2)
    targets = windows.targets.clone()
    targets[20:40] = torch.nan
    gappy = Windows(windows.features, targets, windows.origins, 12, 3)
    fitted = fit(wave_network(**changes), windows, gappy)
    out = forecast(fitted.network, gappy)[..., 1 if "quantiles" in changes else 0].numpy()
    errors = (out - gappy.actual(torch.arange(len(gappy))).numpy()).ravel()
    expected = np.sqrt(np.mean(errors[~np.isnan(errors)] ** 2))
    assert fitted.history[fitted.best_epoch]["val_rmse"] == pytest.approx(expected, rel=1e-5)


def test_same_seed_same_bits_and_the_global_generator_is_left_alone():
    windows = wave_windows(noise=0.1)
    torch.manual_seed(1)
    first = weights(fit(wave_network(augment=("jitter", "scaling")), windows, windows).network)
    torch.manual_seed(2)
    state = torch.random.get_rng_state()
    second = weights(fit(wave_network(augment=("jitter", "scaling")), windows, windows).network)
    assert torch.equal(first, second)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(first, weights(fit(wave_network(seed=5), windows, windows).network))


@pytest.mark.slow
def test_another_process_gets_the_same_result():
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from lstm.networks.training import fit\n"
        "from tests.support.network_variants import wave_network, wave_windows, weights\n"
        "w = wave_windows(noise=0.1)\n"
        "print(float(weights(fit(wave_network(head='recursive'), w, w).network).double().sum()).hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    windows = wave_windows(noise=0.1)
    here = weights(fit(wave_network(head="recursive"), windows, windows).network)
    assert float(here.double().sum()).hex() == done.stdout.strip()


def test_the_best_epoch_is_kept_and_training_stops_when_nothing_is_gained():
    train, other = wave_windows(60, noise=1.0), wave_windows(60, noise=1.0, seed=1)
    fitted = fit(wave_network(epochs=60, patience=4, learning_rate=0.02, dropout=0.0), train, other)
    losses = [epoch["val_loss"] for epoch in fitted.history]
    assert len(losses) == fitted.best_epoch + 1 + 4 < 60
    assert losses[fitted.best_epoch] == min(losses)
    out = forecast(fitted.network, other)[..., 0]
    mse = float((out - other.actual(torch.arange(len(other)))).square().mean())
    assert mse == pytest.approx(min(losses), rel=1e-5)


@pytest.mark.parametrize("changes", [{}, {"head": "recursive"}, {"loss": "mase"}, {"loss": "student_t"}])
def test_unmeasured_targets_are_not_trained_on(changes):
    windows = wave_windows()
    targets = windows.targets.clone()
    targets[150:] = torch.nan
    cut = Windows(windows.features, targets, windows.origins[windows.origins < 150], 12, 3)
    fitted = fit(wave_network(**changes), cut, cut)
    assert np.isfinite([epoch["train_loss"] for epoch in fitted.history]).all()
    assert fitted.findings == ()


@pytest.mark.parametrize("changes", [{}, {"head": "parallel", "loss": "mae"}])
def test_accumulated_batches_equal_one_large_batch(changes):
    windows = wave_windows(200, noise=0.1)
    same = {"dropout": 0.0, "epochs": 2, "scheduler": "onecycle", **changes}
    whole = fit(wave_network(batch_size=32, **same), windows, windows)
    parts = fit(wave_network(batch_size=8, gradient_accumulation=4, **same), windows, windows)
    torch.testing.assert_close(weights(parts.network), weights(whole.network), atol=1e-6, rtol=0)
    for record, expected in zip(parts.history, whole.history, strict=True):
        for key in ("train_loss", "val_loss", "learning_rate", "gradient_norm"):
            assert record[key] == pytest.approx(expected[key], rel=1e-4)
    alone = fit(wave_network(batch_size=8, **same), windows, windows)
    assert not torch.allclose(weights(alone.network), weights(whole.network), atol=1e-3)


@pytest.mark.parametrize("head", ["direct", "recursive"])
def test_batch_norm_works_with_a_single_window_left_over(head):
    windows = wave_windows(12 + 2 + 33)  # 33 windows: two batches of 16 and one window
    fitted = fit(wave_network(batch_norm=True, batch_size=16, head=head), windows, windows)
    assert len(windows) == 33 and len(fitted.history) == 3


@pytest.mark.parametrize("name", ["channels", "channels-series-recursive", "strong", "quantiles"])
def test_a_trained_network_forecasts_the_same_bits_as_after_loading(name):
    windows = mixed_windows()
    trained = fit(network_of(**VARIANTS[name], device="cpu", epochs=1), windows, windows).network
    loaded = network_of(**VARIANTS[name], device="cpu", epochs=1)
    loaded.load_state_dict(trained.state_dict())
    assert torch.equal(forecast(trained, windows), forecast(loaded, windows))
    # CPU kernels round by the alignment of the weights, which must not be that of the optimizer's flat parameter.
    assert all(p.untyped_storage().nbytes() == p.nbytes for p in trained.parameters())


def test_what_the_callback_raises_ends_the_training():
    class EnoughError(Exception):
        pass

    def stop(epoch):
        raise EnoughError

    with pytest.raises(EnoughError):
        fit(wave_network(), wave_windows(), wave_windows(), stop)


def test_no_windows_is_an_error():
    windows = wave_windows()
    none = Windows(windows.features, windows.targets, windows.origins[:0], 12, 3)
    with pytest.raises(TrainingError, match="no validation window of sequence_length=12"):
        fit(wave_network(), windows, none)
    assert forecast(wave_network(), none).shape == (0, 3, 1, 1)


def test_a_callback_can_end_the_training_with_the_best_epoch_so_far():
    whole = fit(wave_network(epochs=5, scheduler="none"), wave_windows(), wave_windows(100))
    cut = fit(
        wave_network(epochs=5, scheduler="none"), wave_windows(), wave_windows(100), lambda record: record["epoch"] == 2
    )
    assert len(cut.history) == 2
    assert [record["val_loss"] for record in cut.history] == [record["val_loss"] for record in whole.history[:2]]
    assert cut.best_epoch < 2


def global_flags():
    """Return the global flags of torch and its libraries that make results reproducible."""
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.benchmark,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )


@pytest.mark.parametrize("before", [(False, False), (True, False), (True, True)], ids=str)
def test_deterministic_training_asks_torch_for_it_and_leaves_its_flags_as_they_were(before, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    flags = []
    torch.use_deterministic_algorithms(before[0], warn_only=before[1])
    torch.backends.cudnn.benchmark = True
    try:
        for wanted in (True, False):
            fit(
                wave_network(deterministic=wanted, epochs=1),
                wave_windows(),
                wave_windows(),
                lambda _: flags.append(global_flags()),
            )
            assert global_flags() == (*before, True, None)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.benchmark = False
    assert flags == [(True, False, False, ":4096:8"), (*before, True, None)]


needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_learns_like_the_cpu(precision):
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(precision)
    if dtype is not None and not supports(dtype, torch.device("cuda")):
        pytest.skip(f"this GPU has no {precision}")
    windows = wave_windows()
    changes = {"epochs": 15, "learning_rate": 0.01}
    cpu = fit(wave_network(**changes), windows, windows).history[-1]["val_loss"]
    cuda = fit(wave_network(**changes, device="cuda", precision=precision), windows, windows).history[-1]["val_loss"]
    assert cuda < 2 * cpu + 0.01


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_two_epochs_on_cuda_agree_with_those_on_the_cpu(changes):
    same = {**changes, "dropout": 0.0, "epochs": 2, "scheduled_sampling": 0.0}
    windows = mixed_windows()
    cpu, cuda = (fit(network_of(**same, device=device), windows, windows) for device in ("cpu", "cuda"))
    assert np.isfinite([list(record.values()) for record in cuda.history]).all()
    for record, expected in zip(cuda.history, cpu.history, strict=True):
        assert record["val_rmse"] == pytest.approx(expected["val_rmse"], rel=0.05)
    torch.testing.assert_close(forecast(cuda.network, windows), forecast(cpu.network, windows), atol=0.2, rtol=0.2)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("name", ["quantiles", "strong", "transformer-recursive-patches", "gate-lags", "series"])
def test_deterministic_training_on_cuda_gives_the_same_bits(name):
    config = {**VARIANTS[name], "deterministic": True, "device": "cuda", "epochs": 2, "weight_averaging": True}
    windows = mixed_windows()
    first, second = (weights(fit(network_of(**config), windows, windows).network) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.gpu
@needs_cuda
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_a_replayed_step_gives_the_same_bits_as_an_eager_one(changes, monkeypatch):
    config = {**changes, "deterministic": True, "device": "cuda", "epochs": 3, "batch_size": 8, "dropout": 0.2}
    windows = mixed_windows()
    played = fit(network_of(**config), windows, windows)
    monkeypatch.setenv("LSTM_CUDA_GRAPHS", "0")
    launched = fit(network_of(**config), windows, windows)
    assert torch.equal(weights(played.network), weights(launched.network))
    assert [record["val_loss"] for record in played.history] == [record["val_loss"] for record in launched.history]


@pytest.mark.gpu
@needs_cuda
def test_steps_are_captured_on_cuda():
    network, windows = network_of(device="cuda", batch_size=8).to("cuda"), mixed_windows().to(torch.device("cuda"))
    epochs = Trainer(network, windows, windows, torch.device("cuda"), 1e-3)
    assert epochs.graphed is not None and not epochs.graphed.captured
    epochs.train_epoch(1)
    assert epochs.graphed.captured


@pytest.mark.parametrize(
    "changes", [{"augment": ("jitter",)}, {"scheduled_sampling": 0.5}, {"gradient_accumulation": 2}]
)
def test_steps_with_random_numbers_from_the_cpu_are_not_captured(changes):
    cuda = torch.device("cuda")
    assert can_capture(network_of().config, cuda, None)
    assert not can_capture(network_of().config, torch.device("cpu"), None)
    assert not can_capture(network_of(head="recursive", **changes).config, cuda, None)
