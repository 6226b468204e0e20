"""The training loop: epochs until it is enough, the best epoch's weights at the end."""

import math
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lstm.data.windows import Windows
from lstm.errors import CheckpointError, ConfigError, TrainingError
from lstm.networks import outputs
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint
from lstm.networks.epochs import Epoch, Epochs, below, in_chunks
from lstm.networks.network import ForecastNetwork

OnEpoch = Callable[[Epoch], bool | None]  # true: enough
_MOST_ROLLBACKS = 3
_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # read once, by the first product on CUDA; torch refuses to go on without
_LOWER = 0.3  # what the learning rate is multiplied by after a loss that was not finite


@dataclass(frozen=True)
class Fitted:
    """A trained network, on the CPU, and the record of each epoch."""

    network: ForecastNetwork
    history: list[Epoch]
    best_epoch: int  # index into history of the epoch whose weights the network has
    findings: tuple[str, ...] = ()  # what went wrong on the way, and what was done about it


def fit(
    network: ForecastNetwork,
    train: Windows,
    validation: Windows,
    on_epoch: OnEpoch | None = None,
    checkpoint: Path | None = None,
) -> Fitted:
    """Train with AdamW, clipping, a schedule and early stopping; keep the best epoch by validation loss.

    Where the loss is not finite, training goes back to the best weights so far and on from there with 0.3 of the
    learning rate, three times at most. Where the memory of a GPU does not hold a batch, it is worked off in parts.

    Args:
        network: its `config` says how.
        train: windows to learn from.
        validation: windows to stop and select by.
        on_epoch: called after each epoch with `{"epoch", "train_loss", "val_loss", "val_rmse", "learning_rate",
            "gradient_norm", "seconds"}`. What it returns, if true, ends the training with the best epoch so far; an
            exception that it raises ends it and passes through.
        checkpoint: a file that holds, after each epoch, where the training stands. Where it is there, training goes on
            from it, to the same bits on the same machine and threads; `on_epoch` is told its last epoch once more. The
            caller removes it.

    Raises:
        CheckpointError: `checkpoint` is damaged, or of another network or other windows.
        TrainingError: no window to train or validate on, or the loss was never finite.
        ConfigError: the device is not there, or can't compute in the precision asked for.
    """
    for windows, name in ((train, "training"), (validation, "validation")):
        if not len(windows):
            raise TrainingError(
                f"there is no {name} window of sequence_length={windows.sequence_length} + horizon="
                f"{windows.horizon} rows. Shorten the windows, or bring more data."
            )
    device = pick_device(network.config.device)
    with _determinism(network.config.deterministic):
        training = _Training(network.to(device), train.to(device), validation.to(device), device, checkpoint)
        return training.through(on_epoch)


class _Training:
    """The best epoch so far, and what is done about a loss that is not finite."""

    def __init__(
        self, network: ForecastNetwork, train: Windows, validation: Windows, device: torch.device, file: Path | None
    ) -> None:
        self.network, self.windows, self.device, self.file = network, (train, validation), device, file
        self.rate = network.config.learning_rate
        self.history: list[Epoch] = []
        self.best, self.best_epoch, self.best_weights = math.inf, 0, _copy(network)
        self.findings: list[str] = []
        self.told = 0  # epochs that on_epoch knows of

    def through(self, on_epoch: OnEpoch | None) -> Fitted:
        config = self.network.config
        epochs = self._resumed() or Epochs(self.network, *self.windows, self.device, self.rate)
        while not self._enough(on_epoch) and len(self.history) < config.epochs:
            number = len(self.history) + 1
            record = epochs.run(number)
            if not math.isfinite(record["train_loss"] + record["val_loss"] + record["val_rmse"]):
                if len(self.findings) == _MOST_ROLLBACKS:
                    self.findings.append(f"the loss of epoch {number} was not finite once more: training ended")
                    break
                epochs = self._rolled_back(number)
                continue
            self.history.append(record)
            if record["val_loss"] < self.best:
                self.best, self.best_epoch = record["val_loss"], len(self.history) - 1
                self.best_weights = _copy(epochs.current)
            if self.file is not None:
                self._save(self.file, epochs)
        if epochs.parts > 1:
            self.findings.append(f"a batch did not fit into the GPU's memory: worked off in {epochs.parts} parts")
        return self._ended()

    def _enough(self, on_epoch: OnEpoch | None) -> bool:
        """Whether the last epoch was the last: the caller says so, or nothing has been gained for long."""
        if not self.history or self.told == len(self.history):
            return False
        self.told = len(self.history)
        if on_epoch is not None and on_epoch(self.history[-1]):
            return True
        patience = self.network.config.patience
        return bool(patience) and len(self.history) - 1 - self.best_epoch >= (patience or 0)

    def _save(self, file: Path, epochs: Epochs) -> None:
        own, rest = epochs.state()
        tensors = {
            **_named("network", self.network.state_dict()),
            **_named("best", self.best_weights),
            **_named("epochs", own),
        }
        meta = {
            "of": self._identity(),
            "rate": self.rate,
            "history": self.history,
            "best_epoch": self.best_epoch,
            "findings": self.findings,
            "epochs": rest,
        }
        # Not flushed to the disk, which would cost more than short epochs do: what a power cut tears is seen as damage.
        save_checkpoint(file, tensors, meta, durable=False)

    def _resumed(self) -> Epochs | None:
        """Where the file says that training stood; None: there is none."""
        if self.file is None or not self.file.exists():
            return None
        tensors, meta = load_checkpoint(self.file)
        if meta.get("of") != self._identity():
            raise CheckpointError(f"{self.file}: is of another network or other windows. Remove it to start anew.")
        self.rate, self.history, self.findings = meta["rate"], meta["history"], meta["findings"]
        self.best_epoch, self.best_weights = meta["best_epoch"], below("best", tensors)
        self.best = self.history[self.best_epoch]["val_loss"]
        self.network.load_state_dict(below("network", tensors))
        epochs = Epochs(self.network, *self.windows, self.device, self.rate)
        epochs.restore(below("epochs", tensors), meta["epochs"])
        return epochs

    def _identity(self) -> dict[str, Any]:
        return {
            "config": self.network.config.model_dump(mode="json"),
            "windows": [len(one) for one in self.windows],
        }

    def _rolled_back(self, number: int) -> Epochs:
        self.rate *= _LOWER
        self.findings.append(
            f"the loss of epoch {number} was not finite: went on from the best weights before it with learning rate "
            f"{self.rate:.3g}"
        )
        self.network.load_state_dict(self.best_weights)
        return Epochs(self.network, *self.windows, self.device, self.rate)

    def _ended(self) -> Fitted:
        if not self.history:
            raise TrainingError(
                f"the loss is not finite, and was not with a learning rate of {self.rate:.3g} either. Lower "
                "learning_rate, set gradient_clip, or normalise the inputs."
            )
        self.network.load_state_dict(self.best_weights)
        self.network.zero_grad(set_to_none=True)
        return Fitted(self.network.cpu().eval(), self.history, self.best_epoch, tuple(self.findings))


def forecast(network: ForecastNetwork, windows: Windows) -> Tensor:
    """Forecast all windows in chunks, without gradients: (windows, horizon, outputs, numbers) float32 on the CPU."""
    network.eval()
    config = network.config
    empty = torch.zeros(0, config.horizon, network.outputs, outputs.count(config))
    with torch.inference_mode():
        parts = list(in_chunks(windows, lambda index: network(*windows.inputs(index)).float().cpu()))
    return torch.cat([empty, *parts])


def pick_device(name: str) -> torch.device:
    """The device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: no such device on this machine.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        raise ConfigError(f"device={name!r} is not on this machine. Use auto, or cpu.") from None
    return device


@contextmanager
def _determinism(wanted: bool) -> Iterator[None]:
    """Deterministic algorithms of torch and cuDNN, and afterwards what was before."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_WORKSPACE)
    if wanted:
        os.environ.setdefault(_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=False)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=warned)
        torch.backends.cudnn.benchmark = before[1]
        if workspace is None:
            os.environ.pop(_WORKSPACE, None)


def _named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
