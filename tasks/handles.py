"""What travels between tasks: paths, hashes and counts; never frames or tensors."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLEARLY_BETTER = 0.95  # of the validation RMSE


@dataclass(frozen=True)
class PanelHandle:
    """A normalised panel, as `PanelStore` loads it."""

    folder: Path
    key: str  # sha256 of what it was made from
    rows: int
    left_out: tuple[tuple[str, str], ...]  # series, and why


@dataclass(frozen=True)
class WindowsHandle:
    """The arrays of `train`, `validation` and `test` in a folder, and how many windows each has."""

    folder: Path
    train: int
    validation: int
    test: int
    n_known: int
    n_series: int
    too_short: tuple[str, ...]  # series without a window


@dataclass(frozen=True)
class RunHandle:
    """An MLflow run."""

    run_id: str
    experiment_id: str
    name: str


@dataclass(frozen=True)
class Trial:
    """A finished trial: its network and validation forecast in a folder."""

    number: int
    member: int | None  # of the ensemble, where it is one of its planned members
    run_id: str
    folder: Path
    changes: dict[str, Any]  # what it has of its own: a member's keys, and values of the search space
    val_rmse: float  # normalised
    best_epoch: int
    parameters: int
    latency_ms: float | None  # of one forecast, where the search weighs that
    seconds: float
    findings: str  # what went wrong on the way, and what was done about it

    @property
    def name(self) -> str:
        """Of its MLflow run."""
        return trial_name(self.number)


def trial_name(number: int) -> str:
    """Of a trial's MLflow run, and of its folder."""
    return f"trial-{number:03d}"


@dataclass(frozen=True)
class Search:
    """What became of the trials."""

    trials: tuple[Trial, ...]  # the finished ones, best first
    front: tuple[int, ...]  # numbers of those that no other beats in every objective, where there are several
    planned: int
    ended: int
    pruned: int
    failed: int
    answered: int  # by an earlier run of the same search
    same: int  # not trained, since another trial has the same network
    cut: int  # by the timeout: their best epoch so far counts
    lost: int  # known to the study, but their files are damaged or gone
    last_failure: str
    stopped: str  # why before the last planned trial
    cpu_seconds: float  # of all trials that were trained now, the pruned ones too

    @property
    def summary(self) -> str:
        """One line on how far the search came."""
        parts = [f"{self.ended} of {max(self.planned, self.ended)} trials", f"{self.pruned} of them pruned"]
        if self.answered:
            parts.append(f"{self.answered} known from an earlier run")
        if self.same:
            parts.append(f"{self.same} with the network of another")
        if self.cut:
            parts.append(f"{self.cut} cut short")
        if self.lost:
            parts.append(f"{self.lost} lost, since their files are damaged or gone (--fresh trains anew)")
        if self.failed:
            parts.append(f"{self.failed} failed (the last one: {self.last_failure})")
        if self.stopped:
            parts.append(f"then {self.stopped}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Candidate:
    """A saved Forecaster that may be registered, with its scores."""

    kind: str  # best-single | best-ensemble
    folder: Path
    run_id: str
    label: str
    scores: dict[str, float]


@dataclass(frozen=True)
class Evaluation:
    """The candidates, and every row of the leaderboard."""

    candidates: tuple[Candidate, ...]
    members: tuple[str, ...]  # names of the trials in the ensemble
    leaderboard: tuple[dict[str, Any], ...]
    folds: dict[str, tuple[float, ...]]  # test RMSE in each fold, by name of the row
    folder: Path  # scores.json, tables by group, findings, pictures; gone when the run ends
    findings: tuple[str, ...]  # what went wrong, with its remedy, a line each

    @property
    def proposed(self) -> Candidate:
        """The ensemble, unless the best single model is clearly better: validation ranks close ones by luck."""
        by_kind = {candidate.kind: candidate for candidate in self.candidates}
        single, ensemble = by_kind["best-single"], by_kind["best-ensemble"]
        clearly = single.scores["val_rmse"] < _CLEARLY_BETTER * ensemble.scores["val_rmse"]
        return single if clearly else ensemble


def key_of(*parts: Any) -> str:
    """sha256 over JSON-ready parts: equal parts, equal key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
