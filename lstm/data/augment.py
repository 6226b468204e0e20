"""Changed copies of training windows, so that few of them go further. Validation and test windows stay as they are.

Shapes throughout: B windows, L steps of look-back, H steps ahead, F inputs, O targets. The last inputs, known
ahead (calendar, holidays), are facts of their dates: only `mixup` touches them, and then the future's too.
What is drawn, is drawn on the CPU, for each window on its own.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn import functional

_NOISE = 0.03  # standard deviation of the jitter
_FACTOR = 0.1  # standard deviation of factors: half of Um's for `magnitude_warp`, as the actual values go with it
_SPEED = 0.2  # standard deviation of the speed of time, as in Um et al.
_KNOTS = 6  # of a smooth curve: Um's four and the two ends
_SLICE = (0.8, 1.0)  # share of the look-back kept; Le Guennec et al. keep 0.9
_ALPHA = 0.2  # of mixup's Beta; Zhang et al. recommend 0.1 to 0.4


def augment(
    past: Tensor, known: Tensor, actual: Tensor, methods: Sequence[str], generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Changed copies of normalised windows: each method in turn, on what the one before made.

    `jitter`, `time_warp`, `slicing` and `bootstrap` change the past alone; but for `jitter` they keep its newest
    step to the bit. `scaling` and `magnitude_warp` change actual values too, `mixup` all three.

    Args:
        past: (B, L, F), the last n_known of F being known ahead.
        known: (B, H, n_known), the same inputs' values at the steps ahead.
        actual: (B, H, O), NaN where nothing was measured; that stays so.
        methods: names of `lstm.config.model.Method`. Without any the inputs themselves come back.
        generator: on the CPU, wherever the windows are. Its state decides the result.

    Returns:
        past, known and actual: shapes, types and devices as given.
    """
    for method in methods:
        if method == "mixup":
            past, known, actual = _mixup((past, known, actual), generator)
            continue
        own, ahead = past.split([past.shape[2] - known.shape[2], known.shape[2]], dim=2)
        if method in _FACTORS:
            own, actual = _multiplied(own, actual, _FACTORS[method], generator)
        else:
            own = _OF_THE_PAST[method](own, generator)
        past = torch.cat([own, ahead], dim=2)
    return past, known, actual


def _jitter(own: Tensor, generator: Generator) -> Tensor:
    """Normal noise on each value of (B, L, columns) (Um et al. 2017)."""
    return own + _NOISE * torch.randn(own.shape, generator=generator).to(own)


def _time_warp(own: Tensor, generator: Generator) -> Tensor:
    """Time in (B, L, columns) runs now faster, now slower (Um et al. 2017); both ends stay where they are."""
    batch, length, _ = own.shape
    speed = _curves(batch, length - 1, _KNOTS, _SPEED, generator)
    path = functional.pad(speed.cumsum(dim=1), (1, 0))  # (B, L), rising from 0
    whole = path[:, -1:].clamp_min(torch.finfo(path.dtype).tiny)  # 0 where L = 1
    return _at(own, path / whole * (length - 1))


def _slicing(own: Tensor, generator: Generator) -> Tensor:
    """The newest part of (B, L, columns), stretched over all L steps.

    Window slicing of Le Guennec et al. 2016, who crop anywhere: a forecast needs the newest step at the end.
    """
    batch, length, _ = own.shape
    least, most = _SLICE
    share = least + (most - least) * torch.rand(batch, 1, generator=generator)
    age = torch.arange(length - 1, -1, -1)  # steps before the newest
    return _at(own, length - 1 - share * age)


def _bootstrap(own: Tensor, generator: Generator) -> Tensor:
    """Residuals of (B, L, columns) around their moving average, drawn anew in blocks (Bergmeir et al. 2016).

    The newest step keeps its own residual. All columns take the same blocks, so that they still go together.
    """
    batch, length, _ = own.shape
    block = min(max(2, round(math.sqrt(length))), length)
    residual = own - _moving_average(own, block | 1)
    index = _moving_blocks(batch, length, block, generator)
    index[:, -1] = length - 1
    # Not average + residual: where a step keeps its residual, this one is exact.
    return own + (_steps(residual, index.to(own.device)) - residual)


def _moving_blocks(batch: int, length: int, block: int, generator: Generator) -> Tensor:
    """(B, L) indices of steps: runs of `block`, each from anywhere, the first one cut at random (Künsch 1989)."""
    starts = torch.randint(length - block + 1, (batch, length // block + 2), generator=generator)
    step = torch.arange(length) + torch.randint(block, (batch, 1), generator=generator)  # (B, L)
    return starts.gather(1, step // block) + step % block


def _moving_average(values: Tensor, width: int) -> Tensor:
    """Of (B, L, columns), over an odd number of steps around each; beyond the ends the last step repeats."""
    length = values.shape[1]
    rows = torch.arange(-(width // 2), length + width // 2, device=values.device).clamp(0, length - 1)
    return values[:, rows].unfold(1, width, 1).mean(dim=-1)


def _scales(batch: int, steps: int, generator: Generator) -> Tensor:
    """`scaling` (Um et al. 2017): one factor a window, (B, steps)."""
    return _curves(batch, steps, 1, _FACTOR, generator)


def _magnitudes(batch: int, steps: int, generator: Generator) -> Tensor:
    """`magnitude_warp` (Um et al. 2017): one smooth curve of factors a window, (B, steps)."""
    return _curves(batch, steps, _KNOTS, _FACTOR, generator)


def _multiplied(
    own: Tensor, actual: Tensor, factors: Callable[[int, int, Generator], Tensor], generator: Generator
) -> tuple[Tensor, Tensor]:
    """Past (B, L, columns) and actual (B, H, O) times one curve over all L + H steps.

    Um et al. draw one for each column. Here every column takes the same one: a target's past and its actual values
    must share it, and which column is which target isn't told.
    """
    lengths = [own.shape[1], actual.shape[1]]
    before, after = factors(len(own), sum(lengths), generator)[..., None].split(lengths, dim=1)
    return own * before.to(own), actual * after.to(actual)


def _mixup(windows: tuple[Tensor, Tensor, Tensor], generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Each window mixed with another of the batch, at a share ~ Beta(α, α) (Zhang et al. 2018).

    NaN in either is NaN in the mixture. Who meets itself stays as it is: so does a window all alone.
    """
    past, known, actual = windows
    partner = torch.randperm(len(past), generator=generator).to(past.device)
    # torch's Beta draws from the global generator alone.
    seed = int(torch.randint(2**62, (), generator=generator))
    share = torch.from_numpy(np.random.default_rng(seed).beta(_ALPHA, _ALPHA, (len(past), 1, 1))).to(past)
    return past[partner].lerp(past, share), known[partner].lerp(known, share), actual[partner].lerp(actual, share)


def _curves(batch: int, steps: int, knots: int, deviation: float, generator: Generator) -> Tensor:
    """Smooth curves around 1, (B, steps): normal at even knots, half a cosine from knot to knot; above 0."""
    heights = (1 + deviation * torch.randn(batch, knots, generator=generator)).clamp_min(0.1)
    distance = (torch.linspace(0, knots - 1, steps) - torch.arange(knots)[:, None]).abs().clamp_max(1)
    return heights @ ((1 + torch.cos(math.pi * distance)) / 2)  # (B, knots) @ (knots, steps)


def _at(values: Tensor, positions: Tensor) -> Tensor:
    """`values` (B, L, columns) at `positions` (B, L) within 0 … L - 1, linear between steps."""
    low = positions.floor().long()
    share = (positions - low)[..., None].to(values)
    low = low.to(values.device)
    return _steps(values, low).lerp(_steps(values, (low + 1).clamp_max(values.shape[1] - 1)), share)


def _steps(values: Tensor, index: Tensor) -> Tensor:
    """The steps `index` (B, L) of `values` (B, L, columns), each window its own."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


_OF_THE_PAST: dict[str, Callable[[Tensor, Generator], Tensor]] = {
    "jitter": _jitter,
    "time_warp": _time_warp,
    "slicing": _slicing,
    "bootstrap": _bootstrap,
}
_FACTORS: dict[str, Callable[[int, int, Generator], Tensor]] = {"scaling": _scales, "magnitude_warp": _magnitudes}
