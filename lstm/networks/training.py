"""The training loop: epochs until it is enough, the best epoch's weights at the end."""

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lstm.data.windows import Windows
from lstm.errors import ConfigError, TrainingError
from lstm.networks import outputs
from lstm.networks.epochs import Epoch, Epochs, in_chunks
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


def fit(network: ForecastNetwork, train: Windows, validation: Windows, on_epoch: OnEpoch | None = None) -> Fitted:
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

    Raises:
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
        training = _Training(network.to(device), train.to(device), validation.to(device), device)
        return training.through(on_epoch)


class _Training:
    """The best epoch so far, and what is done about a loss that is not finite."""

    def __init__(self, network: ForecastNetwork, train: Windows, validation: Windows, device: torch.device) -> None:
        self.network, self.windows, self.device = network, (train, validation), device
        self.rate = network.config.learning_rate
        self.history: list[Epoch] = []
        self.best, self.best_epoch, self.best_weights = math.inf, 0, _copy(network)
        self.findings: list[str] = []

    def through(self, on_epoch: OnEpoch | None) -> Fitted:
        config = self.network.config
        epochs = Epochs(self.network, *self.windows, self.device, self.rate)
        while len(self.history) < config.epochs:
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
            if on_epoch is not None and on_epoch(record):
                break
            if config.patience and len(self.history) - 1 - self.best_epoch >= config.patience:
                break
        if epochs.parts > 1:
            self.findings.append(f"a batch did not fit into the GPU's memory: worked off in {epochs.parts} parts")
        return self._ended()

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


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
