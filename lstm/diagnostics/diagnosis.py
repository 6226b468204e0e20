"""Diagnosis of a run: training that fails, a poor test and its causes.

Pure functions of records, scores and arrays. Each trouble is a `Finding` with evidence and remedy; a healthy run has
none.
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
from lstm.metrics.skill import skill

__all__ = [
    "Finding",
    "LeaderboardRow",
    "Span",
    "Spans",
    "TrainingRecord",
    "diagnose",
    "diagnose_spans",
    "diagnose_test",
    "diagnose_training",
]

REFERENCE = "seasonal_naive"
NAIVE_BASELINES = ("persistence", "seasonal_naive", "drift")
POOR_RATIO = 1.25  # × the validation error: a poor test
UNEXPLAINED_RATIO = 1.15  # × the reference's own ratio: the difficulty of the test span explains less
ALWAYS_POOR_RATIO = 2.0  # × the validation error: poor, however difficult the test span is
_GOOD_SKILL = 0.05  # validation skill from which on a test without skill is poor


@dataclass(frozen=True)
class TrainingRecord:
    """The training of one network."""

    name: str
    history: TrainingHistory
    config: ModelConfig
    findings: str | Sequence[str] = ()  # remarks of the trainer


@dataclass(frozen=True)
class LeaderboardRow:
    """Metrics of one candidate or baseline, as in `scores.json`."""

    name: str
    kind: str  # best-single | best-ensemble | baseline
    metrics: Mapping[str, float]  # val_rmse, test_rmse, …
    low: Mapping[str, float] = field(default_factory=dict)  # lower end of a metric's bootstrap interval, if computed
    high: Mapping[str, float] = field(default_factory=dict)


def diagnose(
    config: PipelineConfig, trainings: Sequence[TrainingRecord], leaderboard: Sequence[LeaderboardRow], spans: Spans
) -> tuple[Finding, ...]:
    """Return all findings of a run: first those of trainings, then those of the test and the data.

    Shifts are reported only as causes of a poor test. Data shift all the time, which is no trouble while the forecasts
    stay good.

    Args:
        config: with all defaults filled in.
        trainings: of the finished trials.
        leaderboard: candidates and baselines; naive baselines with `val_rmse_normalized`.
        spans: `Spans.of` the panel.
    """
    naive = {
        row.name: row.metrics["val_rmse_normalized"]
        for row in leaderboard
        if row.name in NAIVE_BASELINES and "val_rmse_normalized" in row.metrics
    }
    training_findings = [
        finding
        for training in trainings
        for finding in diagnose_training(training.name, training.history, training.config, training.findings, naive)
    ]
    scaling = diagnose_scaling(spans, config)
    shifts = diagnose_shift(spans, config) if diagnose_test(leaderboard) else ()
    return (*training_findings, *diagnose_test(leaderboard, (*shifts, *scaling)), *shifts, *scaling)


def diagnose_spans(spans: Spans, config: PipelineConfig) -> tuple[Finding, ...]:
    """Return shifts of distribution and inconsistent normalisation, whether the test is poor or not."""
    return (*diagnose_shift(spans, config), *diagnose_scaling(spans, config))


def diagnose_test(leaderboard: Sequence[LeaderboardRow], causes: Sequence[Finding] = ()) -> tuple[Finding, ...]:
    """Return `poor_test` for each candidate that is good on validation but not on the test.

    Args:
        leaderboard: candidates and baselines.
        causes: findings that the remedy refers to.
    """
    return tuple(
        Finding("poor_test", f"{row.name}: {'; '.join(reasons)}", _poor_test_remedy(causes), "test span")
        for row in leaderboard
        if row.kind != "baseline" and (reasons := list(_poor_test_reasons(row, leaderboard)))
    )


def _poor_test_reasons(candidate: LeaderboardRow, leaderboard: Sequence[LeaderboardRow]) -> Iterator[str]:
    """Yield why the test is poor, beyond what noise and the difficulty of the test span explain."""
    reference = next((row for row in leaderboard if row.name == REFERENCE), None)
    validation, test = candidate.metrics["val_rmse"], candidate.metrics["test_rmse"]
    ratio, usual_ratio = _test_ratio(candidate), 1.0 if reference is None else _test_ratio(reference)
    significant = candidate.low.get("test_rmse", test) > candidate.high.get("val_rmse", validation)
    if significant and ratio >= POOR_RATIO and (ratio >= UNEXPLAINED_RATIO * usual_ratio or ratio >= ALWAYS_POOR_RATIO):
        comparison = f"; that of {REFERENCE} changed {usual_ratio:.2f} times" if reference else ""
        yield (
            f"test RMSE {test:.4g}{_format_interval(candidate)} is {ratio:.2f} times the validation RMSE "
            f"{validation:.4g} (threshold {POOR_RATIO:g}){comparison}"
        )
    if reference is None:
        return
    before, now = (skill(candidate.metrics[key], reference.metrics[key]) for key in ("val_rmse", "test_rmse"))
    if before >= _GOOD_SKILL and now <= 0 and candidate.high.get("test_rmse_skill", now) < before:
        yield f"skill against {REFERENCE} fell from {before:.1%} on validation to {now:.1%} on the test"


def _test_ratio(row: LeaderboardRow) -> float:
    validation = row.metrics["val_rmse"]
    return row.metrics["test_rmse"] / validation if validation > 0 else 1.0


def _format_interval(row: LeaderboardRow) -> str:
    if "test_rmse" not in row.low or "test_rmse" not in row.high:
        return ""
    return f" (95 % of block bootstraps: {row.low['test_rmse']:.4g} to {row.high['test_rmse']:.4g})"


def _poor_test_remedy(causes: Sequence[Finding]) -> str:
    if causes:
        places = list(dict.fromkeys(f"{cause.trouble} of {cause.where}" for cause in causes))
        return f"Resolve its causes: {', '.join(places[:5])}"
    return (
        "No column has shifted farther than stretches of the training span do, so the choice by validation did not "
        "hold: lengthen split.validation, search fewer trials (search.trials), or combine more networks (ensemble.size)"
    )
