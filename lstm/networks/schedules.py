"""Learning rate schedules, by step or by epoch."""

import math
from typing import Any

from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from lstm.config.model import ModelConfig

_WARMUP_STEPS = 100
_FINAL_SHARE = 0.01  # of the learning rate, at the end of a cosine


class Schedule:
    """A learning rate that changes after optimizer steps, or after epochs by their validation loss."""

    def __init__(self, scheduler: LRScheduler | None = None, by_step: bool = False) -> None:
        """Wrap a scheduler of torch; None keeps the learning rate constant."""
        self.scheduler, self.by_step = scheduler, by_step

    def after_step(self) -> None:
        """Advance after an optimizer step."""
        if self.scheduler is not None and self.by_step:
            self.scheduler.step()

    def after_epoch(self, val_loss: float) -> None:
        """Advance after an epoch."""
        if isinstance(self.scheduler, lr_scheduler.ReduceLROnPlateau):
            self.scheduler.step(val_loss)
        elif self.scheduler is not None and not self.by_step:
            self.scheduler.step()

    def state(self) -> dict[str, Any]:
        """Return the scheduler's state, JSON-ready."""
        state = {} if self.scheduler is None else self.scheduler.state_dict()
        return {key: value for key, value in state.items() if not isinstance(value, float) or math.isfinite(value)}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        if self.scheduler is not None:
            self.scheduler.load_state_dict(state)


def make_schedule(optimizer: Optimizer, config: ModelConfig, steps: int) -> Schedule:
    """Return the schedule of `config` over `epochs` epochs of `steps` steps.

    `cosine`: linear warm-up over the first 100 steps (or a tenth of all), then half a cosine down to 1 % (Loshchilov &
    Hutter 2017). `onecycle`: up over 30 % of the steps, then down (Smith & Topin 2018). `step`: a tenth after each
    third of the epochs. `plateau`: half at the fourth epoch in a row without a better validation loss.
    """
    if config.scheduler == "cosine":
        return Schedule(_warmup_cosine(optimizer, steps * config.epochs), by_step=True)
    if config.scheduler == "onecycle":
        return Schedule(_one_cycle(optimizer, steps * config.epochs), by_step=True)
    if config.scheduler == "plateau":
        return Schedule(lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3))
    if config.scheduler == "step":
        return Schedule(lr_scheduler.StepLR(optimizer, step_size=max(config.epochs // 3, 1), gamma=0.1))
    return Schedule()


def _warmup_cosine(optimizer: Optimizer, steps: int) -> lr_scheduler.LambdaLR:
    warmup = max(min(_WARMUP_STEPS, steps // 10), 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return _FINAL_SHARE + (1 - _FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * progress))

    return lr_scheduler.LambdaLR(optimizer, factor)


def _one_cycle(optimizer: Optimizer, steps: int) -> lr_scheduler.LambdaLR:
    rise = max(round(0.3 * steps), 1)

    def factor(step: int) -> float:
        if step < rise:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / rise))
        progress = min((step - rise) / max(steps - rise, 1), 1.0)
        return 1e-4 + (1 - 1e-4) * 0.5 * (1 + math.cos(math.pi * progress))

    return lr_scheduler.LambdaLR(optimizer, factor)
