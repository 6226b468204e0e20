"""One pass over the training windows, and one over the validation windows: batches by index, sums on the device."""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from lstm.data.augment import augmented
from lstm.data.windows import Inputs, Windows
from lstm.errors import ConfigError, TrainingError
from lstm.networks import outputs
from lstm.networks.batches import Batches
from lstm.networks.flat import flattened
from lstm.networks.graphed import GraphedPass, graphs
from lstm.networks.heads import Recursive
from lstm.networks.losses import make_loss
from lstm.networks.network import ForecastNetwork
from lstm.networks.schedules import make_schedule

Epoch = dict[str, float]
T = TypeVar("T")
_TOO_LARGE = (
    "one window alone does not fit into the GPU's memory. Lower sequence_length or hidden_size, or raise patch_length."
)
_CHUNK = 1024  # windows a forward pass without gradients
_HALF_PAYS = 32_768  # hidden_size x batch_size, between the sizes on either side (benchmarks/gpu.py)


class Epochs:
    """What an epoch needs: data, optimiser, schedule and random numbers."""

    def __init__(
        self, network: ForecastNetwork, train: Windows, validation: Windows, device: torch.device, rate: float
    ) -> None:
        """Start from the network's weights, which are on `device`, with learning rate `rate`."""
        config = network.config
        self.network, self.train, self.validation, self.device = network, train, validation, device
        self.loss = make_loss(config, device)
        self.parameters = [flattened(network)] if device.type == "cpu" else list(network.parameters())
        self.optimizer = AdamW(self.parameters, rate, weight_decay=config.weight_decay, fused=device.type != "mps")
        self.generator = torch.Generator().manual_seed(config.seed)
        self.batches = Batches(len(train), config, self.generator, device)
        self.steps = config.steps_per_epoch or math.ceil(self.batches.in_a_pass / config.gradient_accumulation)
        self.schedule = make_schedule(self.optimizer, config, self.steps)
        self.dtype = mixed_precision(config.precision, device, config.hidden_size * config.batch_size)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        # Said, since the averaging that torch takes on CUDA fails on buffers of whole numbers.
        averaging = {"avg_fn": get_swa_avg_fn(), "use_buffers": True}
        self.average = AveragedModel(network, **averaging) if config.weight_averaging else None
        self.parts = 1  # that a batch is cut into, where the memory does not hold it whole
        graphed = graphs(config, device, self.dtype)
        self.graphed = GraphedPass(self._gradients, network, config.batch_size, device) if graphed else None

    def run(self, number: int) -> Epoch:
        """Train for one epoch, the `number`-th from 1, and validate."""
        started, config = time.perf_counter(), self.network.config
        if isinstance(self.network.head, Recursive):
            self.network.head.sampling = config.scheduled_sampling * (number - 1) / max(config.epochs - 1, 1)
        rate = self.optimizer.param_groups[0]["lr"]
        train_loss, norm = self._learn()
        if self.average is not None and number > 0.75 * config.epochs:
            self.average.update_parameters(self.network)
        val_loss, val_rmse = self._validate()
        self.schedule.after_epoch(val_loss)
        return {
            "epoch": number,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_rmse": val_rmse,
            "learning_rate": rate,
            "gradient_norm": norm,
            "seconds": time.perf_counter() - started,
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Everything but the network's weights that the next epoch depends on: tensors, and what JSON can hold."""
        tensors = {
            f"optimizer.{number}.{key}": tensor
            for number, state in self.optimizer.state_dict()["state"].items()
            for key, tensor in state.items()
        }
        if self.average is not None:
            tensors |= {f"average.{name}": tensor for name, tensor in self.average.state_dict().items()}
        tensors |= {"generator": self.generator.get_state(), "batches": self.batches.drawn_from}
        return tensors, {
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": self.schedule.state(),
            "scaler": self.scaler.state_dict(),
            "taken": self.batches.taken,
            "parts": self.parts,
        }

    def restore(self, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
        """Stand where `state` was taken."""
        kept = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                kept["state"].setdefault(int(number), {})[key] = tensor
        for group, rate in zip(kept["param_groups"], rest["learning_rates"], strict=True):
            group["lr"] = rate
        self.optimizer.load_state_dict(kept)
        if self.average is not None:
            self.average.load_state_dict(below("average", tensors))
        self.generator.set_state(tensors["generator"])
        self.batches.restore(tensors["batches"], rest["taken"])
        self.schedule.restore(rest["schedule"])
        self.scaler.load_state_dict(rest["scaler"])
        self.parts = rest["parts"]

    @property
    def current(self) -> ForecastNetwork:
        """The network that was validated last: the average, once there is one."""
        if self.average is None or not self.average.n_averaged:
            return self.network
        return cast(ForecastNetwork, self.average.module)

    def _learn(self) -> tuple[float, float]:
        """Mean loss and gradient norm. Sums stay on the device: the loop never waits for them."""
        self.network.train()
        total, count, norms = (torch.zeros((), device=self.device) for _ in range(3))
        self.batches.shuffle()
        with self._seeded_dropout():
            for _ in range(self.steps):
                loss, measured, norm = self._fitting(self._of_a_step())
                total, count, norms = total + loss, count + measured, norms + norm
        return float(total / count.clamp_min(1)), float(norms / self.steps)

    def _of_a_step(self) -> list[Tensor]:
        """The batches of one step of the optimiser; fewer at the end of an epoch that is a whole pass."""
        count, whole = self.network.config.gradient_accumulation, self.network.config.steps_per_epoch is None
        left = self.batches.in_a_pass - self.batches.taken
        return [self.batches.next() for _ in range(min(count, left) if whole else count)]

    def _fitting(self, batches: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """One step of the optimiser, in smaller parts once the memory of the GPU ran out."""
        while True:
            try:
                return self._step([part for batch in batches for part in batch.chunk(self.parts)])
            except torch.cuda.OutOfMemoryError:
                if self.parts >= max(len(batch) for batch in batches):
                    raise TrainingError(_TOO_LARGE) from None
                self.parts *= 2
            self.graphed = None
            self._forget_gradients()
            torch.cuda.empty_cache()

    def _forget_gradients(self) -> None:
        """Where the parameters are one, or a graph writes them, the gradients have a place and can't be None."""
        placed = len(self.parameters) == 1 or (self.graphed is not None and self.graphed.recorded)
        self.optimizer.zero_grad(set_to_none=not placed)

    def _step(self, parts: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        if self.graphed is not None and [len(part) for part in parts] == [self.network.config.batch_size]:
            total, count = self.graphed(parts[0])
        else:
            self._forget_gradients()
            total, count = (torch.zeros((), device=self.device) for _ in range(2))
            share = 1 / sum(len(part) for part in parts)
            for part in parts:
                loss, measured = self._gradients(part, len(part) * share)
                total, count = total + loss, count + measured
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.network.config.gradient_clip or math.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.after_step()
        return total, count, norm.detach()

    def _gradients(self, index: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Loss and number of values of some windows, which are this share of the step: their gradients are added."""
        loss, measured = self._loss(index)
        # Each part counts by its windows, so that parts of a batch make the batch's gradient.
        self.scaler.scale(loss / measured.clamp_min(1) * share).backward()
        return loss.detach(), measured

    def _loss(self, index: Tensor) -> tuple[Tensor, Tensor]:
        (past, known, series), actual = self.train.inputs(index), self.train.actual(index)
        if self.network.config.augment:
            past, known, actual = augmented(past, known, actual, self.network.config.augment, self.generator)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            out = self.network(past, known, series, actual)
        return self.loss(out, actual, self.network.targets_of(past))

    @contextmanager
    def _seeded_dropout(self) -> Iterator[None]:
        """Dropout draws from the global generator: seed it for this pass, and give it back as it was."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
            yield

    def _validate(self) -> tuple[float, float]:
        """Mean loss, and RMSE of the point forecast, in the targets' normalised units."""
        network, windows = self.current.eval(), self.validation
        total, squares, count = (torch.zeros((), device=self.device) for _ in range(3))
        place = outputs.point(network.config)
        with torch.inference_mode():
            for inputs, actual, out in in_chunks(windows, lambda index: _answered(network, windows, index)):
                loss, measured = self.loss(out, actual, network.targets_of(inputs.past))
                squares += torch.nan_to_num(actual - out[..., place]).square().sum()
                total, count = total + loss, count + measured
        return float(total / count.clamp_min(1)), float((squares / count.clamp_min(1)).sqrt())


def in_chunks(windows: Windows, work: Callable[[Tensor], T]) -> Iterator[T]:
    """What `work` makes of the indices of all windows in order, some at a time: fewer once the GPU's memory ran out."""
    size, start = _CHUNK, 0
    while start < len(windows):
        index = torch.arange(start, min(start + size, len(windows)), device=windows.origins.device)
        try:
            done = work(index)
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise TrainingError(_TOO_LARGE) from None
            size //= 2
            torch.cuda.empty_cache()
            continue
        yield done
        start += len(index)


def below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names start with `prefix` and a dot, without these."""
    return {name.removeprefix(f"{prefix}."): one for name, one in tensors.items() if name.startswith(f"{prefix}.")}


def _answered(network: ForecastNetwork, windows: Windows, index: Tensor) -> tuple[Inputs, Tensor, Tensor]:
    inputs = windows.inputs(index)
    return inputs, windows.actual(index), network(*inputs)


def mixed_precision(precision: str, device: torch.device, size: int = _HALF_PAYS) -> torch.dtype | None:
    """What autocast computes in; None: plain float32, the only one that CPU LSTMs bear (oneDNN's bf16 crashes).

    `auto` takes half precision on CUDA where products of this size (hidden_size x batch_size) pay for its conversions.

    Raises:
        ConfigError: the device can't compute in the precision asked for.
    """
    half = torch.bfloat16
    if precision == "fp32" or (precision == "auto" and device.type != "cuda"):
        return None
    if device.type != "cuda":
        raise ConfigError(f"precision={precision!r} needs a CUDA device, but this is {device.type}. Use auto or fp32.")
    if precision == "auto":
        if size < _HALF_PAYS:
            return None
        return half if torch.cuda.is_bf16_supported() else torch.float16
    return half if precision == "bf16" else torch.float16
