"""What tasks pass on to each other: paths, hashes and counts, never data frames or tensors."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_CLEARLY_BETTER_RATIO = 0.95  # of validation RMSEs; smaller differences are chance


@dataclass(frozen=True)
class PanelHandle:
    """A normalized panel on disk; `PanelStore` loads it."""

    folder: Path
    key: str  # sha256 of what it was made from
    rows: int
    left_out: tuple[tuple[str, str], ...]  # pairs of series and reason


@dataclass(frozen=True)
class WindowsHandle:
    """The folder with the arrays of `train`, `validation` and `test`, and the number of windows in each."""

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
class TrialMetrics:
    """Scores of the network of a trial, at its best epoch."""

    val_rmse_normalized: float
    best_epoch: int  # counted from 1
    parameters: int  # trainable weights
    latency_ms: float | None  # of one forecast; None unless the search has the objective `latency`
    seconds: float  # of training
    findings: str  # problems during training and what was done about them; empty: none


@dataclass(frozen=True)
class Trial(TrialMetrics):
    """A finished trial, whose network and validation forecast lie in a folder."""

    number: int
    member: int | None  # position among the planned members of the ensemble; None: suggested by the sampler
    run_id: str
    folder: Path
    params: dict[str, Any]  # differences from the `model` section: a planned trial's keys and the suggested values

    @property
    def name(self) -> str:
        """The name of its MLflow run and of its folder."""
        return trial_name(self.number)


def trial_name(number: int) -> str:
    """Return the name of a trial's MLflow run and of its folder."""
    return f"trial-{number:03d}"


@dataclass(frozen=True)
class Search:
    """A search that has ended: its finished trials, and how many had which outcome."""

    trials: tuple[Trial, ...]  # finished, the lowest validation error first
    pareto_front: tuple[int, ...]  # numbers of the trials on it; empty with one objective
    n_planned: int
    n_ended: int
    n_pruned: int
    n_failed: int
    n_cached: int  # finished by an earlier run of this search
    n_duplicates: int  # not trained: another trial has the same network
    n_interrupted: int  # by search.timeout; their best epoch so far counts
    n_missing: int  # finished in the study, but their files are damaged or missing
    last_failure: str  # error of the last trial that has no network
    stop_reason: str  # why the search stopped before the last planned trial
    cpu_seconds: float  # of the workers in this run, pruned trials included

    @property
    def summary(self) -> str:
        """One line with the number of trials by outcome."""
        parts = [f"{self.n_ended} of {max(self.n_planned, self.n_ended)} trials", f"{self.n_pruned} of them pruned"]
        if self.n_cached:
            parts.append(f"{self.n_cached} known from an earlier run")
        if self.n_duplicates:
            parts.append(f"{self.n_duplicates} with the network of another trial")
        if self.n_interrupted:
            parts.append(f"{self.n_interrupted} interrupted by search.timeout")
        if self.n_missing:
            parts.append(f"{self.n_missing} with damaged or missing files (train them again with --fresh)")
        if self.n_failed:
            parts.append(f"{self.n_failed} failed (the last error: {self.last_failure})")
        if self.stop_reason:
            parts.append(f"stopped early: {self.stop_reason}")
        return ", ".join(parts)


@dataclass(frozen=True)
class Candidate:
    """A forecaster that this run may propose as champion, saved in a folder, and its scores."""

    kind: str  # best-single | best-ensemble
    folder: Path
    run_id: str
    label: str  # its name on the leaderboard
    scores: dict[str, float]  # metrics as in MLflow: val_*, test_*, backtest_*


@dataclass(frozen=True)
class Evaluation:
    """The candidates of a run, and the leaderboard."""

    candidates: tuple[Candidate, ...]
    members: tuple[str, ...]  # names of the trials in the ensemble
    leaderboard: tuple[dict[str, Any], ...]
    folds: dict[str, tuple[float, ...]]  # test RMSE of each fold, by name on the leaderboard
    folder: Path  # of scores.json, tables by group, findings and plots; deleted at the end of the run
    findings: tuple[str, ...]  # of the diagnosis: evidence and remedy, one line each

    @property
    def proposed(self) -> Candidate:
        """Return the ensemble, or the best single model if its validation RMSE is clearly lower (below 95 %)."""
        by_kind = {candidate.kind: candidate for candidate in self.candidates}
        single, ensemble = by_kind["best-single"], by_kind["best-ensemble"]
        clearly = single.scores["val_rmse"] < _CLEARLY_BETTER_RATIO * ensemble.scores["val_rmse"]
        return single if clearly else ensemble


def content_key(*parts: Any) -> str:
    """Return the sha256 of JSON-serializable parts: equal parts give the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()
