"""Training with too little GPU memory or losses that are not finite, and averaged weights."""

import numpy as np
import pytest
import torch

from lstm.data.windows import Windows
from lstm.errors import TrainingError
from lstm.networks.training import fit, forecast
from tests.support.network_variants import wave_network, wave_windows, weights


def limit_memory(network, most, times=None):
    """Let training batches over `most` windows run out of memory; return the sizes that fit.

    `times`: the calls, counted from 1, that run out; all by default.
    """
    forward, calls, sizes = network.forward, [], []

    def limited(past, *rest):
        if network.training:
            calls.append(len(past))
            if len(past) > most and (times is None or len(calls) in times):
                raise torch.cuda.OutOfMemoryError("CUDA out of memory.")
            sizes.append(len(past))
        return forward(past, *rest)

    network.forward = limited
    return sizes


@pytest.mark.parametrize(
    "changes", [{}, {"head": "recursive", "scheduled_sampling": 0.0}, {"gradient_accumulation": 3}]
)
def test_a_batch_that_does_not_fit_is_trained_in_parts_with_the_same_result(changes):
    windows = wave_windows(150, noise=0.1)
    same = {"dropout": 0.0, "batch_size": 30, "epochs": 2, **changes}
    whole = fit(wave_network(**same), windows, windows)
    network = wave_network(**same)
    sizes = limit_memory(network, most=10)
    parts = fit(network, windows, windows)
    assert max(sizes) <= 10
    assert sum(sizes) == 2 * len(windows)
    torch.testing.assert_close(weights(parts.network), weights(whole.network), atol=1e-5, rtol=0)
    assert parts.findings == ("a batch did not fit into the GPU's memory: trained in 4 parts",)
    assert whole.findings == ()


def test_the_gradient_of_parts_before_the_memory_ran_out_is_forgotten():
    windows = wave_windows(46, noise=0.1)
    same = {"dropout": 0.0, "batch_size": 8, "gradient_accumulation": 4, "epochs": 1, "scheduler": "none"}
    whole = fit(wave_network(**same), windows, windows)
    network = wave_network(**same)
    sizes = limit_memory(network, most=4, times={3})  # two of the four batches have had their backward pass
    parts = fit(network, windows, windows)
    assert sizes == [8, 8] + [4] * 8
    torch.testing.assert_close(weights(parts.network), weights(whole.network), atol=1e-5, rtol=0)


def test_a_chunk_of_forecasts_that_does_not_fit_is_made_of_smaller_ones():
    network, windows = wave_network().eval(), wave_windows()
    whole, forward, sizes = forecast(network, windows), network.forward, []

    def short(past, *others):
        sizes.append(len(past))
        if len(past) > 100:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return forward(past, *others)

    network.forward = short
    torch.testing.assert_close(forecast(network, windows), whole)
    assert max(sizes) > 100 >= max(sizes[4:])


def test_one_window_that_does_not_fit_is_an_error_that_says_what_to_lower():
    network = wave_network()
    sizes = limit_memory(network, most=0)
    with pytest.raises(TrainingError, match=r"one window alone does not fit .* Lower sequence_length or hidden_size"):
        fit(network, wave_windows(), wave_windows())
    assert sizes == []


def poison(network, epochs, batches):
    """Make the output NaN in the first batch of these epochs; return the weights at the start of each epoch."""
    forward, calls, starts = network.forward, [], []

    def broken(*inputs):
        out = forward(*inputs)
        if not network.training:
            return out
        calls.append(1)
        if len(calls) % batches == 1:
            starts.append(weights(network))
        return out * torch.nan if len(calls) in {(epoch - 1) * batches + 1 for epoch in epochs} else out

    network.forward = broken
    return starts


def test_a_loss_that_is_not_finite_goes_back_to_the_best_weights_with_three_tenths_of_the_rate():
    windows = wave_windows()
    network = wave_network(epochs=6, scheduler="none", learning_rate=0.01)
    batches = -(-len(windows) // 32)
    starts, after = poison(network, {3}, batches), []
    fitted = fit(network, windows, windows, lambda _: after.append(weights(network)))
    assert [record["epoch"] for record in fitted.history] == [1, 2, 3, 4, 5, 6]
    assert [record["learning_rate"] for record in fitted.history] == pytest.approx([0.01] * 2 + [0.003] * 4)
    losses = [record["val_loss"] for record in fitted.history]
    assert torch.equal(starts[3], after[int(np.argmin(losses[:2]))])
    (finding,) = fitted.findings
    assert "loss of epoch 3 was not finite" in finding and finding.endswith("learning rate 0.003")
    assert losses[-1] < losses[1]
    assert losses[fitted.best_epoch] == min(losses)
    assert torch.isfinite(weights(fitted.network)).all()
    out = forecast(fitted.network, windows)[..., 0]
    mse = float((out - windows.actual(torch.arange(len(windows)))).square().mean())
    assert mse == pytest.approx(min(losses), rel=1e-5)


def test_a_loss_that_is_not_finite_in_the_first_epoch_starts_anew_from_the_first_weights():
    windows = wave_windows()
    network = wave_network(epochs=3)
    starts = poison(network, {1}, -(-len(windows) // 32))
    fitted = fit(network, windows, windows)
    assert torch.equal(starts[0], starts[1])
    assert [record["epoch"] for record in fitted.history] == [1, 2, 3]


def test_the_fourth_rollback_ends_training_with_the_best_epoch_so_far():
    windows = wave_windows()
    network = wave_network(epochs=10)
    poison(network, {2, 4, 5, 6}, -(-len(windows) // 32))
    fitted = fit(network, windows, windows)
    assert [record["epoch"] for record in fitted.history] == [1, 2]
    assert len(fitted.findings) == 4
    assert "loss of epoch 3 was not finite" in fitted.findings[-1]
    assert torch.isfinite(weights(fitted.network)).all()


def test_a_loss_that_was_never_finite_is_an_error_that_names_the_learning_rate():
    windows = wave_windows()
    broken = Windows(windows.features * torch.inf, windows.targets, windows.origins, 12, 3)
    with pytest.raises(TrainingError, match="learning rate of 2.7e-05.* Lower learning_rate"):
        fit(wave_network(epochs=10), broken, windows)


def test_a_validation_loss_that_is_not_finite_counts_too():
    windows = wave_windows()
    broken = Windows(windows.features * torch.inf, windows.targets, windows.origins, 12, 3)
    with pytest.raises(TrainingError, match="not finite"):
        fit(wave_network(epochs=10), windows, broken)


def fit_averaged(epochs, **changes):
    """Return a training with averaged weights, and the plain weights and buffers after each epoch."""
    network, states = wave_network(epochs=epochs, weight_averaging=True, learning_rate=0.003, **changes), []

    def keep(_):
        states.append({name: value.clone() for name, value in network.state_dict().items()})

    return fit(network, wave_windows(), wave_windows(100), keep), states


@pytest.mark.parametrize("changes", [{}, {"batch_norm": True, "lags": (4,)}])
@pytest.mark.parametrize("foreach", [False, True], ids=["cpu", "as on cuda"])
def test_the_weights_are_the_mean_of_those_after_each_of_the_last_quarter_of_the_epochs(changes, foreach, monkeypatch):
    if foreach:  # how torch averages on CUDA
        monkeypatch.setattr("torch.optim.swa_utils._get_foreach_kernels_supported_devices", lambda: ["cpu"])
    fitted, states = fit_averaged(12, **changes)
    assert fitted.best_epoch == 11
    for name, value in fitted.network.state_dict().items():
        if value.is_floating_point():
            expected = torch.stack([state[name] for state in states[9:]]).mean(dim=0)
            torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
            assert not torch.allclose(value, states[11][name], atol=1e-6, rtol=1e-5)


def test_epochs_of_averaged_weights_are_validated_with_the_average():
    fitted, states = fit_averaged(12)
    windows = wave_windows(100)
    for last in (9, 10, 11):
        network = wave_network()
        network.load_state_dict(
            {name: torch.stack([state[name] for state in states[9 : last + 1]]).mean(dim=0) for name in states[0]}
        )
        out = forecast(network, windows)[..., 0]
        mse = float((out - windows.actual(torch.arange(len(windows)))).square().mean())
        assert fitted.history[last]["val_loss"] == pytest.approx(mse, rel=1e-4)
