"""How the learning rate changes: by step, or by epoch."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from torch.optim import Optimizer, lr_scheduler

from lstm.config import ModelConfig

_WARMUP_STEPS = 100
_LOWEST = 0.01  # share of the rate that a cosine ends at


@dataclass(frozen=True)
class Schedule:
    """What to call after each step of the optimiser, and after each epoch with its validation loss."""

    after_step: Callable[[], None] = lambda: None
    after_epoch: Callable[[float], None] = lambda _: None


def make_schedule(optimizer: Optimizer, config: ModelConfig, steps: int) -> Schedule:
    """The schedule of `config` over `epochs` epochs of `steps` steps.

    `cosine`: up over the first 100 steps (or a tenth of all), then half a cosine down to 1 % (Loshchilov & Hutter
    2017). `onecycle`: up to the rate over 30 % of the steps, and down again (Smith & Topin 2018). `step`: a tenth
    after each third of the epochs. `plateau`: half at the fourth epoch in a row without gain.
    """
    if config.scheduler == "cosine":
        return Schedule(after_step=_warmup_cosine(optimizer, steps * config.epochs).step)
    if config.scheduler == "onecycle":
        return Schedule(after_step=_one_cycle(optimizer, steps * config.epochs).step)
    if config.scheduler == "plateau":
        return Schedule(after_epoch=lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=3).step)
    if config.scheduler == "step":
        decay = lr_scheduler.StepLR(optimizer, step_size=max(config.epochs // 3, 1), gamma=0.1)
        return Schedule(after_epoch=lambda _: decay.step())
    return Schedule()


def _warmup_cosine(optimizer: Optimizer, steps: int) -> lr_scheduler.LambdaLR:
    warmup = max(min(_WARMUP_STEPS, steps // 10), 1)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return _LOWEST + (1 - _LOWEST) * 0.5 * (1 + math.cos(math.pi * progress))

    return lr_scheduler.LambdaLR(optimizer, factor)


def _one_cycle(optimizer: Optimizer, steps: int) -> lr_scheduler.LambdaLR:
    rise = max(round(0.3 * steps), 1)

    def factor(step: int) -> float:
        if step < rise:
            return 0.04 + 0.96 * 0.5 * (1 - math.cos(math.pi * step / rise))
        progress = min((step - rise) / max(steps - rise, 1), 1.0)
        return 1e-4 + (1 - 1e-4) * 0.5 * (1 + math.cos(math.pi * progress))

    return lr_scheduler.LambdaLR(optimizer, factor)
