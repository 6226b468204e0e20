"""An interrupted training resumes from its checkpoint and ends at the same bits."""

import json

import pytest
import torch

from lstm.errors import CheckpointError
from lstm.networks.checkpoint import load_checkpoint
from lstm.networks.training import fit
from tests.support.network_variants import wave_network, wave_windows, weights

VARIANTS = {
    "plain": {},
    "cosine": {"scheduler": "cosine"},
    "one cycle": {"scheduler": "onecycle"},
    "plateau": {"scheduler": "plateau", "learning_rate": 0.05},
    "steps": {"scheduler": "step"},
    "averaged weights": {"weight_averaging": True, "epochs": 8},
    "augmented": {"augment": ("jitter", "scaling")},
    "scheduled sampling": {"head": "recursive"},
    "batch norm": {"batch_norm": True, "batch_size": 16},
    "batches added up": {"gradient_accumulation": 3},
    "epochs of a few steps": {"steps_per_epoch": 3, "batch_size": 16},
    "early stopping": {"patience": 2, "learning_rate": 0.05, "epochs": 12},
    "transformer": {"cell": "transformer"},
}


class KilledError(Exception):
    pass


def kill_after(epoch):
    def on_epoch(record):
        if record["epoch"] == epoch:
            raise KilledError

    return on_epoch


def without_seconds(history):
    return [{key: value for key, value in record.items() if key != "seconds"} for record in history]


@pytest.mark.slow
@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_resumed_training_ends_at_the_weights_of_an_undisturbed_one(changes, tmp_path):
    same = {"epochs": 6, "dropout": 0.3, "num_layers": 2, **changes}
    train, validation = wave_windows(noise=0.3), wave_windows(100, noise=0.3, seed=1)
    undisturbed = fit(wave_network(**same), train, validation)
    file = tmp_path / "progress.safetensors"
    for epoch in range(1, len(undisturbed.history)):
        with pytest.raises(KilledError):
            fit(wave_network(**same), train, validation, kill_after(epoch), file)
    resumed = fit(wave_network(**same), train, validation, checkpoint=file)
    assert torch.equal(weights(resumed.network), weights(undisturbed.network))
    assert without_seconds(resumed.history) == without_seconds(undisturbed.history)
    assert (resumed.best_epoch, resumed.findings) == (undisturbed.best_epoch, undisturbed.findings)


def test_a_checkpoint_does_not_change_the_result(tmp_path):
    windows = wave_windows(noise=0.3)
    without = fit(wave_network(), windows, windows)
    kept = fit(wave_network(), windows, windows, checkpoint=tmp_path / "progress.safetensors")
    assert torch.equal(weights(kept.network), weights(without.network))


def test_the_last_epoch_is_reported_again_and_may_end_the_training(tmp_path):
    windows, file, reported = wave_windows(), tmp_path / "progress.safetensors", []
    with pytest.raises(KilledError):
        fit(wave_network(epochs=5), windows, windows, kill_after(2), file)
    fitted = fit(
        wave_network(epochs=5), windows, windows, lambda record: reported.append(record["epoch"]) or True, file
    )
    assert reported == [2] and len(fitted.history) == 2


def test_a_finished_training_is_not_repeated(tmp_path):
    windows, file = wave_windows(), tmp_path / "progress.safetensors"
    whole = fit(wave_network(), windows, windows, checkpoint=file)
    reported = []
    again = fit(wave_network(), windows, windows, lambda record: reported.append(record["epoch"]), file)
    assert reported == [len(whole.history)]
    assert torch.equal(weights(again.network), weights(whole.network))


def test_a_rollback_before_the_interruption_is_remembered(tmp_path):
    windows, file = wave_windows(noise=0.1), tmp_path / "progress.safetensors"
    network = wave_network(epochs=4, scheduler="none")
    forward, calls = network.forward, []

    def broken_once(*inputs):
        out = forward(*inputs)
        calls.append(1)
        return out * torch.nan if network.training and len(calls) == 1 else out

    network.forward = broken_once
    with pytest.raises(KilledError):
        fit(network, windows, windows, kill_after(2), file)
    fitted = fit(wave_network(epochs=4, scheduler="none"), windows, windows, checkpoint=file)
    assert len(fitted.findings) == 1 and "learning rate 0.0003" in fitted.findings[0]
    assert [record["learning_rate"] for record in fitted.history] == pytest.approx([0.0003] * 4)


@pytest.mark.parametrize("changes", [{"hidden_size": 9}, {"seed": 5}, {"learning_rate": 0.5}])
def test_the_checkpoint_of_another_network_is_refused(changes, tmp_path):
    windows, file = wave_windows(), tmp_path / "progress.safetensors"
    fit(wave_network(), windows, windows, checkpoint=file)
    with pytest.raises(CheckpointError, match="is of another network or other windows. Remove it to start anew"):
        fit(wave_network(**changes), windows, windows, checkpoint=file)


def test_a_torn_checkpoint_is_refused(tmp_path):
    windows, file = wave_windows(), tmp_path / "progress.safetensors"
    fit(wave_network(), windows, windows, checkpoint=file)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="is damaged"):
        fit(wave_network(), windows, windows, checkpoint=file)


def test_a_checkpoint_holds_what_json_can_hold_and_no_pickle(tmp_path):
    windows, file = wave_windows(), tmp_path / "progress.safetensors"
    fit(wave_network(scheduler="plateau"), windows, windows, checkpoint=file)
    tensors, meta = load_checkpoint(file)
    assert json.loads(json.dumps(meta, allow_nan=False)) == meta
    assert {name.split(".")[0] for name in tensors} == {"network", "best", "epochs"}


def test_epochs_of_a_few_steps_see_every_window_once_a_pass():
    windows = wave_windows(12 + 2 + 96)  # 96 windows: 6 batches of 16
    whole = fit(wave_network(batch_size=16, epochs=2, dropout=0.0, scheduler="none"), windows, windows)
    parts = fit(
        wave_network(batch_size=16, epochs=4, steps_per_epoch=3, dropout=0.0, scheduler="none"), windows, windows
    )
    assert len(windows) == 96 and len(parts.history) == 4
    first, second = (record["train_loss"] for record in parts.history[:2])
    assert (first + second) / 2 == pytest.approx(whole.history[0]["train_loss"], rel=1e-5)
