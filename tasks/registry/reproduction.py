"""Compare a reproduction with the original version: data, environment, metrics, weights. Pure functions."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

from tasks.registry.provenance import TrainingData

EXACT = 1e-6  # relative tolerance for every metric in the same environment
TOLERANCE = 0.02  # relative tolerance for RMSE and MAE in another environment
_TOLERATED = ("val_rmse", "val_mae", "test_rmse", "test_mae")
_SCORES = ("val_", "test_", "backtest_")
_ABSOLUTE = 1e-9  # values closer than this are equal, however small they are
_PARTS = {
    "cpu": "processor",
    "gpu": "GPU",
    "torch": "torch",
    "threads": "threads",
    "kernel": "LSTM kernel",
    "code_sha256": "library code",
    "lock_sha256": "requirements.lock",
}

DataChange = Literal["none", "appended", "changed"]


@dataclass(frozen=True)
class MetricPair:
    """A metric of the version and of its reproduction."""

    name: str
    expected: float
    actual: float

    @property
    def relative(self) -> float:
        """Their difference relative to the larger one; infinite if one of them is not finite."""
        distance = abs(self.actual - self.expected)
        if not math.isfinite(distance):
            return math.inf
        return 0.0 if distance <= _ABSOLUTE else distance / max(abs(self.actual), abs(self.expected))


@dataclass(frozen=True)
class MemberComparison:
    """One network of the version and its reproduction, as in `reproduction.json`."""

    trial: str
    seed: int
    epochs_then: int | None  # of the version; None: not recorded
    epochs_now: int
    same_bits: bool  # of all weights
    difference: float  # largest absolute difference of a weight


@dataclass(frozen=True)
class ReproductionCheck:
    """All that is compared, and what follows from it."""

    change: DataChange
    expected_data: TrainingData
    actual_data: TrainingData
    differences: tuple[str, ...]  # of the environment, see `environment_differences`
    metrics: tuple[MetricPair, ...]  # empty if the data have changed and nothing was trained
    members: tuple[MemberComparison, ...]

    @property
    def worst(self) -> float:
        """The largest relative difference of a metric."""
        return max((pair.relative for pair in self.metrics), default=math.inf)

    @property
    def tolerance(self) -> float:
        """`EXACT` if the environment is the same or the metrics agree that closely; else `TOLERANCE`."""
        return TOLERANCE if self.differences and self.worst > EXACT else EXACT

    @property
    def outside(self) -> tuple[MetricPair, ...]:
        """The metrics beyond the tolerance; only RMSE and MAE count in another environment."""
        judged = [pair for pair in self.metrics if self.tolerance == EXACT or pair.name in _TOLERATED]
        return tuple(pair for pair in judged if pair.relative > self.tolerance)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the version counts as not reproduced; empty if it is reproduced."""
        return tuple(self._reasons())

    def _reasons(self) -> Iterator[str]:
        if self.change != "none":
            yield _describe_change(self.change, self.expected_data, self.actual_data)
        if self.change != "changed" and not self.metrics:
            yield "its run has logged no metric to compare with"
        where = "in another environment" if self.differences else "in the same environment"
        for pair in self.outside:
            yield (
                f"{pair.name} was {pair.expected:.7g} and is {pair.actual:.7g}: {pair.relative:.2g} apart, where "
                f"{where} {self.tolerance:g} must hold"
            )

    @property
    def verdict(self) -> str:
        """The result in one sentence."""
        if self.change == "changed":
            return "not reproduced: the data have changed, so that nothing was trained"
        worst = max(self.metrics, key=lambda pair: pair.relative, default=None)
        if worst is None:
            return "not reproduced: there is nothing to compare with"
        difference = (
            f"the largest difference is {worst.relative:.2g}, of {worst.name}" if worst.relative else "no difference"
        )
        details = f"{len(self.metrics)} metrics compared, {difference}; {self._describe_weights()}"
        if self.outside:
            return f"not reproduced: {details}"
        within = f"reproduced to {self.tolerance:g}"
        if self.tolerance == TOLERANCE:
            within += " of RMSE and MAE, since the environment is another one"
        if self.change == "appended":
            return f"not reproduced from today's data, which have newer rows; from the rows of then {within}: {details}"
        return f"{within}: {details}"

    def _describe_weights(self) -> str:
        if all(member.same_bits for member in self.members):
            return "all weights are the same bits"
        return f"weights differ by up to {max(member.difference for member in self.members):.2g}"


def environment_differences(
    expected: Mapping[str, Any], actual: Mapping[str, str], devices: tuple[str, str]
) -> Iterator[str]:
    """Yield a line for each part of the environment that differs or was not recorded.

    Args:
        expected: lineage of the version.
        actual: lineage of this process.
        devices: on which the networks were trained originally, and now.
    """
    if not any(key in expected for key in _PARTS if key != "lock_sha256"):
        yield "not recorded then"
        return
    for key, name in _PARTS.items():
        if key == "gpu" and devices[0] == "cpu":
            continue
        old, new = expected.get(key), actual.get(key)
        if old != new:
            yield f"{name}: {_format(key, old)} then, {_format(key, new)} now"
    if devices[0] != devices[1]:
        yield f"device: {devices[0]} then, {devices[1]} now"


def _format(key: str, value: Any) -> str:
    if value is None:
        return "not recorded"
    return str(value)[:8] if key.endswith("sha256") else str(value)


def _describe_change(change: DataChange, expected: TrainingData, actual: TrainingData) -> str:
    text = f"the data have changed: {_describe(expected)} then, {_describe(actual)} now"
    if change == "changed":
        return text
    assert actual.rows is not None and expected.rows is not None
    newer = actual.rows - expected.rows
    return f"{text}. The rows of then are unchanged, {newer} newer ones have come after {expected.last}"


def _describe(data: TrainingData) -> str:
    span = "" if data.rows is None else f" ({data.rows} rows, {data.first} to {data.last})"
    return f"sha256 {data.sha256[:8]}{span}"


def pair_metrics(
    expected: Mapping[str, float], actual: Mapping[str, float]
) -> tuple[tuple[MetricPair, ...], tuple[str, ...]]:
    """Pair the scores of validation, test and folds.

    Returns:
        The pairs, and the names of the scores that only one side has.
    """
    names = sorted(name for name in {*expected, *actual} if name.startswith(_SCORES))
    both = [name for name in names if name in expected and name in actual]
    logged = {name for name in names if name in expected or math.isfinite(actual[name])}
    pairs = tuple(MetricPair(name, expected[name], actual[name]) for name in both)
    return pairs, tuple(sorted(logged - set(both)))


def largest_difference(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> float:
    """Return the largest absolute difference between two sets of tensors with the same names and shapes."""
    differences = [
        float((tensor.double() - actual[name].double()).abs().max())
        for name, tensor in expected.items()
        if tensor.numel()
    ]
    return max(differences, default=0.0)


def same_bits(expected: Mapping[str, Tensor], actual: Mapping[str, Tensor]) -> bool:
    """Return whether two sets of CPU tensors have the same names and the same bits."""
    return expected.keys() == actual.keys() and all(
        tensor.numpy().tobytes() == actual[name].numpy().tobytes() for name, tensor in expected.items()
    )
