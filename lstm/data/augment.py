"""Augmentation of training windows. Validation and test windows are never augmented.

Shapes: B windows, L steps of lookback, H steps ahead, F inputs, O targets. The last inputs of F are known ahead
(calendar, holidays). They are facts of their dates, so only `mixup` changes them, in the past and ahead alike.
Random numbers are drawn on the CPU, separately for each window.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

_NOISE = 0.03  # standard deviation of the jitter
_FACTOR = 0.1  # standard deviation of factors; half of Um et al.'s, since targets are scaled too
_SPEED = 0.2  # standard deviation of the speed of time, as in Um et al.
_KNOTS = 6  # of a smooth curve: four as in Um et al., and the two ends
_SLICE = (0.8, 1.0)  # share of the lookback that is kept; Le Guennec et al. keep 0.9
_ALPHA = 0.2  # of mixup's Beta; Zhang et al. recommend 0.1 to 0.4


def augment(
    past: Tensor, known: Tensor, actual: Tensor, methods: Sequence[str], generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return augmented copies of normalized windows. The methods are applied one after the other.

    `jitter`, `time_warp`, `slicing` and `bootstrap` change the past only; all of them except `jitter` keep the newest
    step bit for bit. `scaling` and `magnitude_warp` also change the actual values, `mixup` changes all three.

    Args:
        past: (B, L, F); the last n_known inputs of F are known ahead.
        known: (B, H, n_known), the values of these inputs at the steps ahead.
        actual: (B, H, O), NaN where not measured, before and after.
        methods: names of `lstm.config.model.Method`. Without any, the inputs themselves are returned.
        generator: on the CPU, whatever the device of the windows. Its state determines the result.

    Returns:
        past, known and actual with the given shapes, types and devices.
    """
    for method in methods:
        if method == "mixup":
            past, known, actual = _mixup((past, known, actual), generator)
            continue
        values, known_past = past.split([past.shape[2] - known.shape[2], known.shape[2]], dim=2)
        if method in _FACTORS:
            values, actual = _multiply(values, actual, _FACTORS[method], generator)
        else:
            values = _PAST_METHODS[method](values, generator)
        past = torch.cat([values, known_past], dim=2)
    return past, known, actual


def _jitter(values: Tensor, generator: Generator) -> Tensor:
    """Add normal noise to each value of (B, L, columns) (Um et al. 2017)."""
    return values + _NOISE * torch.randn(values.shape, generator=generator).to(values)


def _time_warp(values: Tensor, generator: Generator) -> Tensor:
    """Speed time up and slow it down in (B, L, columns), both ends fixed (Um et al. 2017)."""
    batch, length, _ = values.shape
    speed = _curves(batch, length - 1, _KNOTS, _SPEED, generator)
    path = functional.pad(speed.cumsum(dim=1), (1, 0))  # (B, L), rising from 0
    total = path[:, -1:].clamp_min(torch.finfo(path.dtype).tiny)  # 0 where L = 1
    return _interpolate(values, path / total * (length - 1))


def _slicing(values: Tensor, generator: Generator) -> Tensor:
    """Stretch the newest part of (B, L, columns) over all L steps: window slicing (Le Guennec et al. 2016).

    The original crops anywhere. Here the slice ends at the newest step, which a forecast needs.
    """
    batch, length, _ = values.shape
    low, high = _SLICE
    share = low + (high - low) * torch.rand(batch, 1, generator=generator)
    age = torch.arange(length - 1, -1, -1)  # steps before the newest
    return _interpolate(values, length - 1 - share * age)


def _bootstrap(values: Tensor, generator: Generator) -> Tensor:
    """Resample the residuals of (B, L, columns) around a moving average in blocks (Bergmeir et al. 2016).

    The newest step keeps its residual. All columns use the same blocks, which keeps their dependence.
    """
    batch, length, _ = values.shape
    block = min(max(2, round(math.sqrt(length))), length)
    residual = values - _moving_average(values, block | 1)
    index = _moving_blocks(batch, length, block, generator)
    index[:, -1] = length - 1
    # Exact where a step keeps its residual, unlike average + residual.
    return values + (_gather_steps(residual, index.to(values.device)) - residual)


def _moving_blocks(batch: int, length: int, block: int, generator: Generator) -> Tensor:
    """Draw step indices, (B, L): blocks of `block` steps from random starts, the first block cut (Künsch 1989)."""
    starts = torch.randint(length - block + 1, (batch, length // block + 2), generator=generator)
    step = torch.arange(length) + torch.randint(block, (batch, 1), generator=generator)  # (B, L)
    return starts.gather(1, step // block) + step % block


def _moving_average(values: Tensor, width: int) -> Tensor:
    """Return the moving average of (B, L, columns) over `width` (odd) steps; the end steps are repeated."""
    length = values.shape[1]
    rows = torch.arange(-(width // 2), length + width // 2, device=values.device).clamp(0, length - 1)
    return values[:, rows].unfold(1, width, 1).mean(dim=-1)


def _scales(batch: int, steps: int, generator: Generator) -> Tensor:
    """Draw one factor for each window: `scaling` (Um et al. 2017), (B, steps)."""
    return _curves(batch, steps, 1, _FACTOR, generator)


def _magnitudes(batch: int, steps: int, generator: Generator) -> Tensor:
    """Draw a smooth curve of factors for each window: `magnitude_warp` (Um et al. 2017), (B, steps)."""
    return _curves(batch, steps, _KNOTS, _FACTOR, generator)


def _multiply(
    values: Tensor, actual: Tensor, factors: Callable[[int, int, Generator], Tensor], generator: Generator
) -> tuple[Tensor, Tensor]:
    """Multiply past (B, L, columns) and actual (B, H, O) by one curve over all L + H steps.

    Um et al. draw a curve for each column. Here all columns share one, since the past and the actual values of a
    target must be scaled alike, and the columns don't say which target they are.
    """
    lengths = [values.shape[1], actual.shape[1]]
    before, after = factors(len(values), sum(lengths), generator)[..., None].split(lengths, dim=1)
    return values * before.to(values), actual * after.to(actual)


def _mixup(windows: tuple[Tensor, Tensor, Tensor], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Mix each window with another of the batch, with a weight ~ Beta(α, α) (Zhang et al. 2018).

    NaN in either window is NaN in the mixture. A window that is drawn as its own partner stays unchanged.
    """
    past, known, actual = windows
    partner = torch.randperm(len(past), generator=generator).to(past.device)
    # torch's Beta draws from the global generator only.
    seed = int(torch.randint(2**62, (), generator=generator))
    share = torch.from_numpy(np.random.default_rng(seed).beta(_ALPHA, _ALPHA, (len(past), 1, 1))).to(past)
    return past[partner].lerp(past, share), known[partner].lerp(known, share), actual[partner].lerp(actual, share)


def _curves(batch: int, steps: int, knots: int, deviation: float, generator: Generator) -> Tensor:
    """Draw smooth positive curves around 1, (B, steps): normal at evenly spaced knots, half cosines between."""
    heights = (1 + deviation * torch.randn(batch, knots, generator=generator)).clamp_min(0.1)
    distance = (torch.linspace(0, knots - 1, steps) - torch.arange(knots)[:, None]).abs().clamp_max(1)
    return heights @ ((1 + torch.cos(math.pi * distance)) / 2)  # (B, knots) @ (knots, steps)


def _interpolate(values: Tensor, positions: Tensor) -> Tensor:
    """Return `values` (B, L, columns) at `positions` (B, L) in [0, L - 1], linear between steps."""
    low = positions.floor().long()
    share = (positions - low)[..., None].to(values)
    low = low.to(values.device)
    return _gather_steps(values, low).lerp(_gather_steps(values, (low + 1).clamp_max(values.shape[1] - 1)), share)


def _gather_steps(values: Tensor, index: Tensor) -> Tensor:
    """Return the steps `index` (B, L) of `values` (B, L, columns)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


_PAST_METHODS: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "jitter": _jitter,
    "time_warp": _time_warp,
    "slicing": _slicing,
    "bootstrap": _bootstrap,
}
_FACTORS: dict[str, Callable[[int, int, Generator], Tensor]] = {"scaling": _scales, "magnitude_warp": _magnitudes}
