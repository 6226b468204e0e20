"""What a reproduction found, and whether it counts as one. Pure functions: nothing is read or trained here."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from tasks.registry.provenance import TrainingData

EXACT = 1e-6  # relative, of every metric, in the same environment
TOLERANCE = 0.02  # relative, of RMSE and MAE, in another one
_TOLERATED = ("val_rmse", "val_mae", "test_rmse", "test_mae")
_SCORES = ("val_", "test_", "backtest_")
_NOTHING = 1e-9  # figures this close to each other are equal, however small they are
_PARTS = {
    "cpu": "processor",
    "gpu": "GPU",
    "torch": "torch",
    "threads": "threads",
    "code_sha256": "library code",
    "lock_sha256": "requirements.lock",
}

Change = Literal["none", "appended", "changed"]


@dataclass(frozen=True)
class Figure:
    """A metric then and now."""

    name: str
    then: float
    now: float

    @property
    def relative(self) -> float:
        """Their distance as a share of the larger one; infinite where one of them is no number."""
        distance = abs(self.now - self.then)
        if not math.isfinite(distance):
            return math.inf
        return 0.0 if distance <= _NOTHING else distance / max(abs(self.now), abs(self.then))


@dataclass(frozen=True)
class Member:
    """One network of the version, trained again."""

    trial: str
    seed: int
    epochs_then: int | None  # None: not recorded
    epochs_now: int
    same_bits: bool  # of all weights
    difference: float  # the largest of any weight


@dataclass(frozen=True)
class Comparison:
    """All that is held against each other."""

    change: Change  # of the data
    then: TrainingData
    now: TrainingData
    differences: tuple[str, ...]  # of the environment, see `differences`
    figures: tuple[Figure, ...]  # none where the data have changed: nothing was trained then
    members: tuple[Member, ...]

    @property
    def worst(self) -> float:
        """The largest relative difference of a metric."""
        return max((one.relative for one in self.figures), default=math.inf)

    @property
    def tolerance(self) -> float:
        """What was asked: `EXACT`, unless the environment is another one and the figures are not that close."""
        return TOLERANCE if self.differences and self.worst > EXACT else EXACT

    @property
    def outside(self) -> tuple[Figure, ...]:
        """The figures that are too far apart; of another environment only errors are judged."""
        judged = [one for one in self.figures if self.tolerance == EXACT or one.name in _TOLERATED]
        return tuple(one for one in judged if one.relative > self.tolerance)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why this is no reproduction; none: it is one."""
        return tuple(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.change != "none":
            yield _changed(self.change, self.then, self.now)
        if self.change != "changed" and not self.figures:
            yield "its run has logged no metric to compare with"
        where = "in another environment" if self.differences else "in the same environment"
        for one in self.outside:
            yield (
                f"{one.name} was {one.then:.7g} and is {one.now:.7g}: {one.relative:.2g} apart, where {where} "
                f"{self.tolerance:g} must hold"
            )

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.change == "changed":
            return "not reproduced: the data have changed, so that nothing was trained"
        worst = max(self.figures, key=lambda one: one.relative, default=None)
        if worst is None:
            return "not reproduced: there is nothing to compare with"
        apart = (
            f"the largest difference is {worst.relative:.2g}, of {worst.name}" if worst.relative else "no difference"
        )
        found = f"{len(self.figures)} metrics compared, {apart}; {self._weights()}"
        if self.outside:
            return f"not reproduced: {found}"
        within = f"reproduced to {self.tolerance:g}"
        if self.tolerance == TOLERANCE:
            within += " of RMSE and MAE, since the environment is another one"
        if self.change == "appended":
            return f"not reproduced from the data of today, which hold newer rows; from those of then {within}: {found}"
        return f"{within}: {found}"

    def _weights(self) -> str:
        if all(one.same_bits for one in self.members):
            return "all weights are the same bits"
        return f"weights differ by up to {max(one.difference for one in self.members):.2g}"


def differences(then: Mapping[str, Any], now: Mapping[str, str], devices: tuple[str, str]) -> Iterator[str]:
    """In what the environment is not the same, or can't be known to be.

    Args:
        then: lineage of the version.
        now: the same of this process.
        devices: on which the networks were trained then, and now.
    """
    if not any(key in then for key in _PARTS if key != "lock_sha256"):
        yield "not recorded then"
        return
    for key, name in _PARTS.items():
        if key == "gpu" and devices[0] == "cpu":
            continue
        old, new = then.get(key), now.get(key)
        if old != new:
            yield f"{name}: {_shown(key, old)} then, {_shown(key, new)} now"
    if devices[0] != devices[1]:
        yield f"device: {devices[0]} then, {devices[1]} now"


def _shown(key: str, value: Any) -> str:
    if value is None:
        return "not recorded"
    return str(value)[:8] if key.endswith("sha256") else str(value)


def _changed(change: Change, then: TrainingData, now: TrainingData) -> str:
    text = f"the data have changed: {_described(then)} then, {_described(now)} now"
    if change == "changed":
        return text
    assert now.rows is not None and then.rows is not None
    return f"{text}. The rows of then are unchanged, {now.rows - then.rows} newer ones have come after {then.last}"


def _described(data: TrainingData) -> str:
    span = "" if data.rows is None else f" ({data.rows} rows, {data.first} to {data.last})"
    return f"sha256 {data.sha256[:8]}{span}"


def figures(then: Mapping[str, float], now: Mapping[str, float]) -> tuple[tuple[Figure, ...], tuple[str, ...]]:
    """The scores of validation, test and folds that are known of both; and the names of those known of one alone."""
    scores = sorted(name for name in {*then, *now} if name.startswith(_SCORES))
    both = [name for name in scores if name in then and name in now]
    logged = {name for name in scores if name in then or math.isfinite(now[name])}
    found = tuple(Figure(name, then[name], now[name]) for name in both)
    return found, tuple(sorted(logged - set(both)))


def largest_difference(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> float:
    """Of any number in two sets of tensors of the same names and shapes."""
    apart: Sequence[float] = [
        float((one.double() - now[name].double()).abs().max()) for name, one in then.items() if one.numel()
    ]
    return max(apart, default=0.0)


def same_bits(then: Mapping[str, Tensor], now: Mapping[str, Tensor]) -> bool:
    """Whether two sets of tensors on the CPU hold the same bits under the same names."""
    return then.keys() == now.keys() and all(
        one.numpy().tobytes() == now[name].numpy().tobytes() for name, one in then.items()
    )
