"""One epoch: a pass over the training windows, and one over the validation windows."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.swa_utils import AveragedModel, get_swa_avg_fn

from lstm.data.augment import augment
from lstm.data.windows import Inputs, Windows
from lstm.errors import TrainingError
from lstm.networks import outputs
from lstm.networks.batches import Batches
from lstm.networks.checkpoint import add_prefix, strip_prefix
from lstm.networks.devices import autocast_dtype
from lstm.networks.flat import flatten_parameters
from lstm.networks.graphed import GraphedPass, can_capture
from lstm.networks.heads import Recursive
from lstm.networks.losses import make_loss
from lstm.networks.network import ForecastNetwork
from lstm.networks.schedules import make_schedule

EpochRecord = dict[str, float]
T = TypeVar("T")
_OUT_OF_MEMORY = (
    "one window alone does not fit into the GPU's memory. Lower sequence_length or hidden_size, or raise patch_length."
)
_CHUNK = 1024  # windows in a forward pass without gradients


class Trainer:
    """A network with all that the next epoch depends on: windows, optimizer, schedule, random numbers."""

    def __init__(
        self,
        network: ForecastNetwork,
        train: Windows,
        validation: Windows,
        device: torch.device,
        learning_rate: float,
    ) -> None:
        """Start from the network's weights. Network and windows are on `device`."""
        config = network.config
        self.network, self.train, self.validation, self.device = network, train, validation, device
        self.loss = make_loss(config, device)
        self.parameters = [flatten_parameters(network)] if device.type == "cpu" else list(network.parameters())
        fused = device.type != "mps"
        self.optimizer = AdamW(self.parameters, learning_rate, weight_decay=config.weight_decay, fused=fused)
        self.generator = torch.Generator().manual_seed(config.seed)
        self.batches = Batches(len(train), config, self.generator, device)
        self.steps = config.steps_per_epoch or math.ceil(self.batches.per_pass / config.gradient_accumulation)
        self.schedule = make_schedule(self.optimizer, config, self.steps)
        self.dtype = autocast_dtype(config.precision, device, config.hidden_size * config.batch_size)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self.dtype == torch.float16)
        # avg_fn is given because torch's default on CUDA fails on integer buffers.
        averaging = {"avg_fn": get_swa_avg_fn(), "use_buffers": True}
        self.average = AveragedModel(network, **averaging) if config.weight_averaging else None
        self.n_chunks = 1  # that each batch is cut into; doubled when the GPU runs out of memory
        capture = can_capture(config, device, self.dtype)
        self.graphed = GraphedPass(self._backward, network, config.batch_size, device) if capture else None

    def train_epoch(self, epoch: int) -> EpochRecord:
        """Train for one epoch (counted from 1), validate, and return its record."""
        started, config = time.perf_counter(), self.network.config
        if isinstance(self.network.head, Recursive):
            self.network.head.sampling = config.scheduled_sampling * (epoch - 1) / max(config.epochs - 1, 1)
        learning_rate = self.optimizer.param_groups[0]["lr"]
        train_loss, norm = self._train()
        if self.average is not None and epoch > 0.75 * config.epochs:
            self.average.update_parameters(self.network)
        val_loss, val_rmse = self._validate()
        self.schedule.after_epoch(val_loss)
        return {
            "epoch": epoch,
            "train_loss": train_loss,
            "val_loss": val_loss,
            "val_rmse": val_rmse,
            "learning_rate": learning_rate,
            "gradient_norm": norm,
            "seconds": time.perf_counter() - started,
        }

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Return all that the next epoch depends on but the network's weights: tensors, and JSON-ready values."""
        tensors = {
            f"optimizer.{number}.{key}": tensor
            for number, state in self.optimizer.state_dict()["state"].items()
            for key, tensor in state.items()
        }
        if self.average is not None:
            tensors |= add_prefix("average", self.average.state_dict())
        tensors |= {"generator": self.generator.get_state(), "batches": self.batches.generator_state}
        return tensors, {
            "learning_rates": [group["lr"] for group in self.optimizer.param_groups],
            "schedule": self.schedule.state(),
            "scaler": self.scaler.state_dict(),
            "taken": self.batches.position,
            "parts": self.n_chunks,
        }

    def restore(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        optimizer_state = self.optimizer.state_dict()
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, key = name.split(".")
                optimizer_state["state"].setdefault(int(number), {})[key] = tensor
        for group, learning_rate in zip(optimizer_state["param_groups"], values["learning_rates"], strict=True):
            group["lr"] = learning_rate
        self.optimizer.load_state_dict(optimizer_state)
        if self.average is not None:
            self.average.load_state_dict(strip_prefix("average", tensors))
        self.generator.set_state(tensors["generator"])
        self.batches.restore(tensors["batches"], values["taken"])
        self.schedule.restore(values["schedule"])
        self.scaler.load_state_dict(values["scaler"])
        self.n_chunks = values["parts"]

    @property
    def validated_network(self) -> ForecastNetwork:
        """The network that was validated last: the averaged one, once there is one."""
        if self.average is None or not self.average.n_averaged:
            return self.network
        return cast(ForecastNetwork, self.average.module)

    def _train(self) -> tuple[float, float]:
        """Return mean loss and mean gradient norm. Sums stay on the device, so that no step waits for them."""
        self.network.train()
        total, count, norms = (torch.zeros((), device=self.device) for _ in range(3))
        self.batches.shuffle()
        with self._seeded_dropout():
            for _ in range(self.steps):
                loss, measured, norm = self._step_with_oom_retry(self._next_batches())
                total, count, norms = total + loss, count + measured, norms + norm
        return float(total / count.clamp_min(1)), float(norms / self.steps)

    def _next_batches(self) -> list[Tensor]:
        """Return the batches of one optimizer step; fewer at the end of a pass if an epoch is a whole pass."""
        count, whole_pass = self.network.config.gradient_accumulation, self.network.config.steps_per_epoch is None
        left = self.batches.per_pass - self.batches.position
        return [self.batches.next() for _ in range(min(count, left) if whole_pass else count)]

    def _step_with_oom_retry(self, batches: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Take one optimizer step; repeat it in smaller chunks if the GPU runs out of memory."""
        while True:
            try:
                return self._step([chunk for batch in batches for chunk in batch.chunk(self.n_chunks)])
            except torch.cuda.OutOfMemoryError:
                if self.n_chunks >= max(len(batch) for batch in batches):
                    raise TrainingError(_OUT_OF_MEMORY) from None
                self.n_chunks *= 2
            self.graphed = None
            self._zero_gradients()
            torch.cuda.empty_cache()

    def _zero_gradients(self) -> None:
        """Clear the gradients; those with a fixed address (flat parameter, captured graph) are kept and set to 0."""
        fixed = len(self.parameters) == 1 or (self.graphed is not None and self.graphed.captured)
        self.optimizer.zero_grad(set_to_none=not fixed)

    def _step(self, chunks: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        if self.graphed is not None and [len(chunk) for chunk in chunks] == [self.network.config.batch_size]:
            total, count = self.graphed(chunks[0])
        else:
            self._zero_gradients()
            total, count = (torch.zeros((), device=self.device) for _ in range(2))
            share = 1 / sum(len(chunk) for chunk in chunks)
            for chunk in chunks:
                loss, measured = self._backward(chunk, len(chunk) * share)
                total, count = total + loss, count + measured
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.parameters, self.network.config.gradient_clip or math.inf)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.schedule.after_step()
        return total, count, norm.detach()

    def _backward(self, index: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
        """Add the gradients of these windows, `share` of the step's; return summed loss and number of values."""
        loss, measured = self._loss(index)
        # Weighted by windows, so that the chunks of a batch add up to the batch's gradient.
        self.scaler.scale(loss / measured.clamp_min(1) * share).backward()
        return loss.detach(), measured

    def _loss(self, index: Tensor) -> tuple[Tensor, Tensor]:
        (past, known, series), actual = self.train.inputs(index), self.train.actual(index)
        if self.network.config.augment:
            past, known, actual = augment(past, known, actual, self.network.config.augment, self.generator)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not None):
            out = self.network(past, known, series, actual)
        return self.loss(out, actual, self.network.targets_of(past))

    @contextmanager
    def _seeded_dropout(self) -> Iterator[None]:
        """Seed the global generator, which dropout draws from, for this pass; restore it afterwards."""
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            torch.manual_seed(int(torch.randint(2**62, (), generator=self.generator)))
            yield

    def _validate(self) -> tuple[float, float]:
        """Return mean loss, and RMSE of the point forecast in normalized units."""
        network, windows = self.validated_network.eval(), self.validation
        total, squares, count = (torch.zeros((), device=self.device) for _ in range(3))
        point = outputs.point_index(network.config)
        with torch.inference_mode():
            for inputs, actual, out in map_chunks(lambda index: _predict(network, windows, index), windows):
                loss, measured = self.loss(out, actual, network.targets_of(inputs.past))
                squares += torch.nan_to_num(actual - out[..., point]).square().sum()
                total, count = total + loss, count + measured
        return float(total / count.clamp_min(1)), float((squares / count.clamp_min(1)).sqrt())


def map_chunks(function: Callable[[Tensor], T], windows: Windows) -> Iterator[T]:
    """Yield `function` of the indices of all windows in order, in chunks that are halved when the GPU's memory ends."""
    size, start = _CHUNK, 0
    while start < len(windows):
        index = torch.arange(start, min(start + size, len(windows)), device=windows.origins.device)
        try:
            result = function(index)
        except torch.cuda.OutOfMemoryError:
            if size == 1:
                raise TrainingError(_OUT_OF_MEMORY) from None
            size //= 2
            torch.cuda.empty_cache()
            continue
        yield result
        start += len(index)


def _predict(network: ForecastNetwork, windows: Windows, index: Tensor) -> tuple[Inputs, Tensor, Tensor]:
    inputs = windows.inputs(index)
    return inputs, windows.actual(index), network(*inputs)
