"""The training loop: data resident on the device, batches by index, the best epoch's weights at the end."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import AdamW, lr_scheduler

from lstm.config import ModelConfig
from lstm.data.augment import augmented
from lstm.data.windows import Windows
from lstm.errors import ConfigError, TrainingError
from lstm.networks.losses import LossFunction, make_loss
from lstm.networks.network import ForecastNetwork

Epoch = dict[str, float]
OnEpoch = Callable[[Epoch], bool | None]  # true: enough
_WARMUP_STEPS = 100
_CHUNK = 1024  # windows a forward pass without gradients


@dataclass(frozen=True)
class Fitted:
    """A trained network, on the CPU, and the record of each epoch."""

    network: ForecastNetwork
    history: list[Epoch]
    best_epoch: int  # index into history of the epoch whose weights the network has


def fit(network: ForecastNetwork, train: Windows, validation: Windows, on_epoch: OnEpoch | None = None) -> Fitted:
    """Train with AdamW, clipping, a schedule and early stopping; keep the best epoch by validation loss.

    Args:
        network: its `config` says how.
        train: windows to learn from.
        validation: windows to stop and select by.
        on_epoch: called after each epoch with `{"epoch", "train_loss", "val_loss", "learning_rate",
            "gradient_norm", "seconds"}`. What it returns, if true, ends the training with the best epoch so far; an
            exception that it raises ends it and passes through.

    Raises:
        TrainingError: no window to train or validate on, or the loss was not finite in the first epoch.
            In a later epoch training ends there, with the best weights so far.
        ConfigError: the device is not there, or can't compute in the precision asked for.
    """
    for windows, name in ((train, "training"), (validation, "validation")):
        if not len(windows):
            raise TrainingError(
                f"there is no {name} window of sequence_length={windows.sequence_length} + horizon="
                f"{windows.horizon} rows. Shorten the windows, or bring more data."
            )
    device = pick_device(network.config.device)
    run = _Run(network.to(device), train.to(device), validation.to(device), device)
    history: list[Epoch] = []
    best, best_epoch, best_weights = math.inf, 0, _copy(network)
    for number in range(1, network.config.epochs + 1):
        record = run.epoch(number)
        if not math.isfinite(record["train_loss"] + record["val_loss"]):
            if math.isinf(best):
                raise TrainingError("the loss is not finite in the first epoch. Lower learning_rate, or normalise.")
            break
        history.append(record)
        if record["val_loss"] < best:
            best, best_epoch, best_weights = record["val_loss"], number - 1, _copy(network)
        if on_epoch is not None and on_epoch(record):
            break
        if network.config.patience and number - 1 - best_epoch >= network.config.patience:
            break
    network.load_state_dict(best_weights)
    return Fitted(network.cpu().eval(), history, best_epoch)


def forecast(network: ForecastNetwork, windows: Windows) -> Tensor:
    """Forecast all windows in chunks, without gradients: (windows, horizon, outputs, levels) float32 on the CPU."""
    network.eval()
    config = network.config
    empty = torch.zeros(0, config.horizon, network.outputs, network.levels)
    with torch.inference_mode():
        parts = [network(*windows.inputs(index)).float().cpu() for index in windows.chunks(_CHUNK)]
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


class _Run:
    """What an epoch needs, so that the loop above reads as the plan that it is."""

    def __init__(self, network: ForecastNetwork, train: Windows, validation: Windows, device: torch.device) -> None:
        config = network.config
        self.network, self.train, self.validation, self.device = network, train, validation, device
        self.loss: LossFunction = make_loss(config, device)
        self.optimizer = AdamW(
            network.parameters(), config.learning_rate, weight_decay=config.weight_decay, fused=device.type != "mps"
        )
        self.batches = math.ceil(len(train) / config.batch_size)
        self.per_step, self.per_epoch = _schedules(self.optimizer, config, self.batches)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.dtype = mixed_precision(config.precision, device)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)

    def epoch(self, number: int) -> Epoch:
        started = time.perf_counter()
        rate = self.optimizer.param_groups[0]["lr"]
        train_loss, norm = self._learn()
        val_loss = self._validate()
        if self.per_epoch is not None:
            self.per_epoch(val_loss)
        return {
            "epoch": number,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds": time.perf_counter() - started,
        }

    def _learn(self) -> tuple[float, float]:
        """One pass over the training windows. Sums stay on the device: the loop never waits for them."""
        config = self.network.config
        self.network.train()
        total, count, norms = (torch.zeros((), device=self.device) for _ in range(3))
        order = torch.randperm(len(self.train), generator=self.generator).to(self.device)
        with self._seeded_dropout():
            for index in _batches(order, config):
                past, known = self.train.inputs(index)
                if config.augment:
                    past = augmented(past, config.augment, self.generator)
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
                    out = self.network(past, known)
                loss, measured = self.loss(out, self.train.actual(index))
                norms += self._step(loss / measured.clamp_min(1))
                total += loss.detach()
                count += measured
        return float(total / count.clamp_min(1)), float(norms / self.batches)

    def _step(self, loss: Tensor) -> Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.network.config.gradient_clip or math.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.per_step is not None:
            self.per_step()
        return norm.detach()

    @contextmanager
    def _seeded_dropout(self) -> Iterator[None]:
        """Dropout draws from the global generator: seed it for this pass, and give it back as it was."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
            yield

    def _validate(self) -> float:
        self.network.eval()
        total, count = torch.zeros((), device=self.device), torch.zeros((), device=self.device)
        with torch.inference_mode():
            for index in self.validation.chunks(_CHUNK):
                loss, measured = self.loss(self.network(*self.validation.inputs(index)), self.validation.actual(index))
                total += loss
                count += measured
        return float(total / count.clamp_min(1))


def _batches(order: Tensor, config: ModelConfig) -> list[Tensor]:
    """Batches in order. A last window all alone joins the batch before: batch norm can't compare it with itself."""
    batches = list(order.split(config.batch_size))
    if config.batch_norm and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def mixed_precision(precision: str, device: torch.device) -> torch.dtype | None:
    """What autocast computes in; None: plain float32, the only one that CPU LSTMs bear (oneDNN's bf16 crashes)."""
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return None
    if device.type != "cuda":
        raise ConfigError(f"precision={precision!r} needs a CUDA device, but this is {device.type}. Use auto or fp32.")
    if precision == "auto":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    return torch.bfloat16 if precision == "bf16" else torch.float16


def _schedules(
    optimizer: AdamW, config: ModelConfig, batches: int
) -> tuple[Callable[[], None] | None, Callable[[float], None] | None]:
    """What to call after each step, and what to call with the validation loss after each epoch."""
    if config.scheduler == "cosine":
        return _warmup_cosine(optimizer, batches * config.epochs).step, None
    if config.scheduler == "plateau":
        return None, lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3).step
    if config.scheduler == "step":
        step = lr_scheduler.StepLR(optimizer, step_size=max(config.epochs // 3, 1), gamma=0.1)
        return None, lambda _: step.step()
    return None, None


def _warmup_cosine(optimizer: AdamW, steps: int) -> lr_scheduler.LambdaLR:
    """Rise over the first 100 steps (or a tenth of all), then half a cosine down to 1 %."""
    warmup = max(min(_WARMUP_STEPS, steps // 10), 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * progress))

    return lr_scheduler.LambdaLR(optimizer, factor)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
