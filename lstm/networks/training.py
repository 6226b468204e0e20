"""The training loop: epochs until early stopping; the best epoch's weights are kept."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstm.data.windows import Windows
from lstm.errors import CheckpointError, TrainingError
from lstm.networks import outputs
from lstm.networks.checkpoint import add_prefix, load_checkpoint, save_checkpoint, strip_prefix
from lstm.networks.devices import deterministic_algorithms, pick_device
from lstm.networks.network import ForecastNetwork
from lstm.networks.trainer import EpochRecord, Trainer, map_chunks

OnEpoch = Callable[[EpochRecord], bool | None]  # a true result ends the training
_MAX_ROLLBACKS = 3
_ROLLBACK_FACTOR = 0.3  # of the learning rate, after a loss that was not finite


@dataclass(frozen=True)
class TrainingResult:
    """A trained network, on the CPU, and the record of each epoch."""

    network: ForecastNetwork
    history: list[EpochRecord]
    best_epoch: int  # index into `history` of the epoch whose weights the network has
    findings: tuple[str, ...] = ()  # problems during training and what was done about them


def fit(
    network: ForecastNetwork,
    train: Windows,
    validation: Windows,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> TrainingResult:
    """Train with AdamW, gradient clipping, a schedule and early stopping; keep the best epoch by validation loss.

    If the loss is not finite, training returns to the best weights so far and continues with 0.3 of the learning rate,
    three times at most. If a GPU runs out of memory, batches are cut into chunks whose gradients are added up.

    Args:
        network: its `config` sets device, epochs, optimizer and schedule.
        train: windows to learn from.
        validation: windows that stop the training and select the epoch.
        on_epoch: called after each epoch with `{"epoch", "train_loss", "val_loss", "val_rmse", "learning_rate",
            "gradient_norm", "seconds"}`, errors in normalized units. A true result ends the training with the best
            epoch so far; an exception that it raises ends it and is passed on.
        checkpoint: a file that holds the state of the training after each epoch. If it exists, training resumes from
            it, to the same bits on the same machine with the same number of threads, and `on_epoch` is called with the
            last epoch again. The caller removes the file.

    Raises:
        CheckpointError: `checkpoint` is damaged, or of another network or other windows.
        TrainingError: no window to train or validate on, or the loss was never finite.
        ConfigError: this machine lacks the device, or the device the precision.
    """
    for windows, name in ((train, "training"), (validation, "validation")):
        if not len(windows):
            raise TrainingError(
                f"there is no {name} window of sequence_length={windows.sequence_length} + horizon="
                f"{windows.horizon} rows. Shorten the windows, or bring more data."
            )
    device = pick_device(network.config.device)
    with deterministic_algorithms(network.config.deterministic):
        loop = _TrainingLoop(network.to(device), train.to(device), validation.to(device), device, checkpoint)
        return loop.run(on_epoch)


class _TrainingLoop:
    """Epochs of a `Trainer`, with the best weights so far, rollbacks and the checkpoint."""

    def __init__(
        self,
        network: ForecastNetwork,
        train: Windows,
        validation: Windows,
        device: torch.device,
        checkpoint: Path | None,
    ) -> None:
        self.network, self.windows, self.device, self.checkpoint = network, (train, validation), device, checkpoint
        self.learning_rate = network.config.learning_rate
        self.history: list[EpochRecord] = []
        self.best_loss, self.best_epoch, self.best_weights = math.inf, 0, _copy_weights(network)
        self.findings: list[str] = []
        self.n_reported = 0  # epochs that on_epoch was called with

    def run(self, on_epoch: OnEpoch | None) -> TrainingResult:
        trainer = self._resume() or self._new_trainer()
        while not self._should_stop(on_epoch) and len(self.history) < self.network.config.epochs:
            epoch = len(self.history) + 1
            record = trainer.train_epoch(epoch)
            if not math.isfinite(record["train_loss"] + record["val_loss"] + record["val_rmse"]):
                if len(self.findings) == _MAX_ROLLBACKS:
                    self.findings.append(f"the loss of epoch {epoch} was not finite again: training ended")
                    break
                trainer = self._roll_back(epoch)
                continue
            self._keep(record, trainer)
        if trainer.n_chunks > 1:
            self.findings.append(f"a batch did not fit into the GPU's memory: trained in {trainer.n_chunks} parts")
        return self._result()

    def _new_trainer(self) -> Trainer:
        return Trainer(self.network, *self.windows, self.device, self.learning_rate)

    def _should_stop(self, on_epoch: OnEpoch | None) -> bool:
        """Report the last epoch; whether the caller ends the training, or patience is over."""
        if not self.history or self.n_reported == len(self.history):
            return False
        self.n_reported = len(self.history)
        if on_epoch is not None and on_epoch(self.history[-1]):
            return True
        patience = self.network.config.patience
        return bool(patience) and len(self.history) - 1 - self.best_epoch >= (patience or 0)

    def _keep(self, record: EpochRecord, trainer: Trainer) -> None:
        """Add an epoch to the history, keep its weights if they are the best, and write the checkpoint."""
        self.history.append(record)
        if record["val_loss"] < self.best_loss:
            self.best_loss, self.best_epoch = record["val_loss"], len(self.history) - 1
            self.best_weights = _copy_weights(trainer.validated_network)
        if self.checkpoint is not None:
            self._save(self.checkpoint, trainer)

    def _save(self, checkpoint: Path, trainer: Trainer) -> None:
        trainer_tensors, trainer_values = trainer.state()
        tensors = {
            **add_prefix("network", self.network.state_dict()),
            **add_prefix("best", self.best_weights),
            **add_prefix("epochs", trainer_tensors),
        }
        meta = {
            "of": self._identity(),
            "rate": self.learning_rate,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "findings": self.findings,
            "epochs": trainer_values,
        }
        # Not flushed: that would take longer than a short epoch. A file torn by a power cut is detected on loading.
        save_checkpoint(checkpoint, tensors, meta, durable=False)

    def _resume(self) -> Trainer | None:
        """Restore the state in the checkpoint; None: there is no checkpoint."""
        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        tensors, meta = load_checkpoint(self.checkpoint)
        if meta.get("of") != self._identity():
            raise CheckpointError(
                f"{self.checkpoint}: is of another network or other windows. Remove it to start anew."
            )
        self.learning_rate, self.history, self.findings = meta["rate"], meta["history"], meta["findings"]
        self.best_epoch, self.best_weights = meta["best_epoch"], strip_prefix("best", tensors)
        self.best_loss = self.history[self.best_epoch]["val_loss"]
        self.network.load_state_dict(strip_prefix("network", tensors))
        trainer = self._new_trainer()
        trainer.restore(strip_prefix("epochs", tensors), meta["epochs"])
        return trainer

    def _identity(self) -> dict[str, Any]:
        return {
            "config": self.network.config.model_dump(mode="json"),
            "windows": [len(windows) for windows in self.windows],
        }

    def _roll_back(self, epoch: int) -> Trainer:
        """Return to the best weights with a lower learning rate."""
        self.learning_rate *= _ROLLBACK_FACTOR
        self.findings.append(
            f"the loss of epoch {epoch} was not finite: training went back to the best weights before it, with "
            f"learning rate {self.learning_rate:.3g}"
        )
        self.network.load_state_dict(self.best_weights)
        return self._new_trainer()

    def _result(self) -> TrainingResult:
        if not self.history:
            raise TrainingError(
                f"the loss is not finite, not even with a learning rate of {self.learning_rate:.3g}. Lower "
                "learning_rate, set gradient_clip, or normalize the inputs."
            )
        self.network.load_state_dict(self.best_weights)
        self.network.zero_grad(set_to_none=True)
        network = self.network.cpu().eval()
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # aligned as after loading: CPU kernels round by alignment
        return TrainingResult(network, self.history, self.best_epoch, tuple(self.findings))


def forecast(network: ForecastNetwork, windows: Windows) -> Tensor:
    """Return the forecasts of all windows, (windows, horizon, targets, n_params) float32 on the CPU."""
    network.eval()
    config = network.config
    empty = torch.zeros(0, config.horizon, network.n_targets, outputs.n_params(config))
    with torch.inference_mode():
        chunks = list(map_chunks(lambda index: network(*windows.inputs(index)).float().cpu(), windows))
    return torch.cat([empty, *chunks])


def _copy_weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
