"""Diagnosis of a run: not learning, overfitting, exploding gradients, and a poor test with its causes.

Pure functions of records, scores and arrays: each trouble comes as a `Finding` with its evidence and its remedy, and a
healthy run has none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.findings import Finding
from lstm.diagnostics.scale_checks import diagnose_scaling
from lstm.diagnostics.shift import diagnose_shift
from lstm.diagnostics.spans import Span, Spans
from lstm.diagnostics.training_checks import TrainingHistory, diagnose_training
from lstm.metrics.metrics import skill

__all__ = [
    "Finding",
    "Span",
    "Spans",
    "LeaderboardRow",
    "TrainingRecord",
    "diagnose",
    "diagnose_spans",
    "diagnose_test",
    "diagnose_training",
]

REFERENCE = "seasonal_naive"
NAIVE = ("persistence", "seasonal_naive", "drift")
WORSE = 1.25  # × the validation error: a poor test
HARDER = 1.15  # more than the reference's own change: what the test span's difficulty does not explain
TWICE = 2.0  # × the validation error: told, however much harder the test span is
_GOOD = 0.05  # skill on validation that a test without any is held against


@dataclass(frozen=True)
class TrainingRecord:
    """One trained network: its name, the record of each epoch, its configuration, and what training itself said."""

    name: str
    history: TrainingHistory
    config: ModelConfig
    findings: str | Sequence[str] = ()


@dataclass(frozen=True)
class LeaderboardRow:
    """A row of the leaderboard, as `scores.json` has it."""

    name: str
    kind: str  # best-single | best-ensemble | baseline
    metrics: Mapping[str, float]  # val_rmse, test_rmse, …
    low: Mapping[str, float] = field(default_factory=dict)  # of the bootstrap interval of each metric, where known
    high: Mapping[str, float] = field(default_factory=dict)


def diagnose(
    config: PipelineConfig, trainings: Sequence[TrainingRecord], standings: Sequence[LeaderboardRow], spans: Spans
) -> tuple[Finding, ...]:
    """Every trouble of a run: those of trainings first, then those of the test and of the data.

    Shifts are told where the test is poor, as its causes: the data move all the time, and where the forecasts don't
    suffer that is no trouble.

    Args:
        config: with every default written out.
        trainings: of the finished trials.
        standings: candidates and baselines; naive ones by their names, with `val_rmse_normalized`.
        spans: `Spans.of` the panel.
    """
    naive = {
        one.name: one.metrics["val_rmse_normalized"]
        for one in standings
        if one.name in NAIVE and "val_rmse_normalized" in one.metrics
    }
    found = [
        finding
        for one in trainings
        for finding in diagnose_training(one.name, one.history, one.config, one.findings, naive)
    ]
    scaling = diagnose_scaling(spans, config)
    moved = diagnose_shift(spans, config) if diagnose_test(standings) else ()
    return (*found, *diagnose_test(standings, (*moved, *scaling)), *moved, *scaling)


def diagnose_spans(spans: Spans, config: PipelineConfig) -> tuple[Finding, ...]:
    """Shifts of distribution and inconsistent normalisation, whether the forecasts suffer or not."""
    return (*diagnose_shift(spans, config), *diagnose_scaling(spans, config))


def diagnose_test(standings: Sequence[LeaderboardRow], causes: Sequence[Finding] = ()) -> tuple[Finding, ...]:
    """`poor_test` for each candidate that is good on validation and not on the test; `causes` go into its remedy."""
    return tuple(
        Finding("poor_test", f"{one.name}: {'; '.join(reasons)}", _to_hold(causes), "test span")
        for one in _candidates(standings)
        if (reasons := list(_reasons(one, standings)))
    )


def _candidates(standings: Sequence[LeaderboardRow]) -> list[LeaderboardRow]:
    return [one for one in standings if one.kind != "baseline"]


def _reasons(one: LeaderboardRow, standings: Sequence[LeaderboardRow]) -> Iterator[str]:
    """In what its test is poor, beyond what noise and the difficulty of the test span explain."""
    reference = next((row for row in standings if row.name == REFERENCE), None)
    validation, test = one.metrics["val_rmse"], one.metrics["test_rmse"]
    ratio, usual = _ratio(one), 1.0 if reference is None else _ratio(reference)
    surely = one.low.get("test_rmse", test) > one.high.get("val_rmse", validation)
    if surely and ratio >= WORSE and (ratio >= HARDER * usual or ratio >= TWICE):
        beside = f"; that of {REFERENCE} changed {usual:.2f} times" if reference else ""
        yield (
            f"test RMSE {test:.4g}{_interval(one)} is {ratio:.2f} times the validation RMSE {validation:.4g} "
            f"(threshold {WORSE:g}){beside}"
        )
    if reference is None:
        return
    before, now = (skill(one.metrics[key], reference.metrics[key]) for key in ("val_rmse", "test_rmse"))
    if before >= _GOOD and now <= 0 and one.high.get("test_rmse_skill", now) < before:
        yield f"skill against {REFERENCE} fell from {before:.1%} on validation to {now:.1%} on the test"


def _ratio(one: LeaderboardRow) -> float:
    validation = one.metrics["val_rmse"]
    return one.metrics["test_rmse"] / validation if validation > 0 else 1.0


def _interval(one: LeaderboardRow) -> str:
    if "test_rmse" not in one.low or "test_rmse" not in one.high:
        return ""
    return f" (95 % of block bootstraps: {one.low['test_rmse']:.4g} to {one.high['test_rmse']:.4g})"


def _to_hold(causes: Sequence[Finding]) -> str:
    if causes:
        places = list(dict.fromkeys(f"{one.trouble} of {one.where}" for one in causes))
        return f"See to its causes: {', '.join(places[:5])}"
    return (
        "No column lies farther off than stretches of the training span do, so the choice by validation did not hold: "
        "lengthen split.validation, search fewer trials "
        "(search.trials), or combine more networks (ensemble.size)"
    )
