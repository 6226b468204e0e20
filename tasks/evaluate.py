"""Build candidates from the best trials and score them: validation selects, the test span is scored once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.diagnosis import Finding, LeaderboardRow, Spans, TrainingRecord, diagnose
from lstm.diagnostics.leakage import Audit, audit_leakage
from lstm.errors import DataError, TrainingError
from lstm.evaluation.bands import split_bands
from lstm.evaluation.scoring import ErrorSums, ScoredWindows
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import ensemble_weights, select_members
from lstm.forecasting.forecaster import Forecaster
from lstm.forecasting.prediction import Prediction
from tasks.handles import Candidate, Evaluation, RunHandle, Trial
from tasks.run_context import PreparedData, RunContext
from tasks.scoring.artifacts import FOLDER, EvaluationResults, log_evaluation
from tasks.scoring.candidates import (
    REFERENCE,
    ModelForecasts,
    ModelScores,
    baseline_forecasts,
    build_forecaster,
    candidate_forecasts,
    headline_metrics,
    model_scores,
    predict_baselines,
    validation_forecasts,
)
from tasks.search.trial_folder import history_of
from tasks.settings import run_folder
from tasks.tracking import runs


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluate(context: RunContext, trials: Sequence[Trial]) -> Evaluation:
    """Build the best single model and the ensemble; score, log and save them beside the baselines.

    Raises:
        DataError: a column of `data.known` copies the target.
        TrainingError: the leakage audit found another leak, so that scores would mean nothing.
    """
    config, run, data = context.config, context.run, context.open()
    members, weights = select_ensemble(config, trials, data.splits["validation"])
    forecasters = {
        "best-single": build_forecaster(data, trials[:1], run, (1.0,)),
        "best-ensemble": build_forecaster(data, members, run, weights),
    }
    child_runs = {
        "best-single": RunHandle(trials[0].run_id, run.experiment_id, trials[0].name),
        "best-ensemble": _start_run(run, f"ensemble-{config.ensemble.method}-{len(members)}", "ensemble"),
    }
    runs.tag(child_runs["best-ensemble"], members=", ".join(trial.name for trial in members))
    audit_result = _audit(forecasters["best-ensemble"][0], data)
    candidates = [_timed_forecasts(kind, *forecasters[kind], child_runs[kind], data) for kind in forecasters]
    models = [*candidates, *_baselines(data, run)]
    sums = {model.name: model.error_sums(data.splits, config) for model in models}
    scores = {model.name: _scores(model, sums) for model in models}
    _log_scores(models, scores)
    _log_other_trials(trials[1:], data, sums[REFERENCE]["validation"], run)
    saved = [_save(model, forecasters[model.kind][0], scores[model.name], data, run) for model in candidates]
    findings = _diagnose(data, trials, models, scores)
    folder = run_folder(run.run_id) / FOLDER
    results = EvaluationResults(data.splits, models, sums, scores, members, findings, audit_result)
    log_evaluation(folder, config, results, run)
    unused = {trial.name for trial in trials[1:]} - {trial.name for trial in members}  # in no candidate
    evaluation = Evaluation(
        tuple(saved),
        tuple(trial.name for trial in members),
        _leaderboard(models, scores),
        {name: model.folds for name, model in scores.items()},
        folder,
        tuple(str(finding) for finding in findings if finding.where not in unused),
    )
    runs.log(run, scores[evaluation.proposed.label].logged)
    runs.tag(run, diagnosis=",".join(sorted({finding.trouble for finding in findings})) or "none")
    return evaluation


def select_ensemble(
    config: PipelineConfig, trials: Sequence[Trial], validation: ScoredWindows
) -> tuple[Sequence[Trial], tuple[float, ...]]:
    """Return the trials to combine, best first, and their weights. `greedy` selects among all trials."""
    method, size = config.ensemble.method, config.ensemble.size
    if method != "greedy":
        planned = [trial.member is not None for trial in trials]
        best = [
            trials[number] for number in select_members([trial.val_rmse_normalized for trial in trials], planned, size)
        ]
        return best, ensemble_weights(method, validation_forecasts(best), validation.actual)
    best = list(trials)
    for limit in (size, len(trials)):  # keep the heaviest, then compute the weights of these alone
        weights = ensemble_weights(method, validation_forecasts(best), validation.actual)
        heaviest = sorted(np.argsort(weights, kind="stable")[::-1][:limit])
        best, weights = [best[n] for n in heaviest if weights[n]], tuple(weights[n] for n in heaviest if weights[n])
        if len(best) == len(trials) or sum(weights) > 1 - 1e-9:
            break
    return best, weights


def _audit(forecaster: Forecaster, data: PreparedData) -> Audit:
    result = audit_leakage(forecaster, data.table, data.panel, data.arrays, data.config.normalize)
    if result.passed:
        return result
    evidence = "; ".join(f"{check.name}: {check.evidence}" for check in result.failures)
    message = f"leakage audit: {evidence}. Scores would not mean anything: nothing is registered."
    if {check.name for check in result.failures} == {"known"}:
        raise DataError(f"{message} Move the column from data.known to data.observed.")
    raise TrainingError(f"{message} Report it as a bug.")


def _timed_forecasts(
    kind: str, forecaster: Forecaster, validation: Prediction, run: RunHandle, data: PreparedData
) -> ModelForecasts:
    started = time.perf_counter()
    forecasts = candidate_forecasts(kind, forecaster, validation, run, data.splits)
    seconds = time.perf_counter() - started
    runs.log(run, {"forecast_ms_per_window": 1000 * seconds / len(data.splits["test"].windows)})
    return forecasts


def _baselines(data: PreparedData, run: RunHandle) -> list[ModelForecasts]:
    predictions, left_out = predict_baselines(data)
    if left_out:
        runs.tag(run, **{name: f"left out: {reason}" for name, reason in left_out.items()})
    return [
        baseline_forecasts(name, by_split, _start_run(run, name, "baseline"), data.splits)
        for name, by_split in predictions.items()
    ]


def _start_run(parent: RunHandle, name: str, kind: str) -> RunHandle:
    return runs.start_run(parent.experiment_id, name, {"kind": kind}, parent)


def _scores(model: ModelForecasts, sums: Mapping[str, Mapping[str, ErrorSums]]) -> ModelScores:
    # The diagnosis compares intervals of validation and test, of candidates only.
    bootstrapped = ("test",) if model.kind == "baseline" else ("val", "test")
    return model_scores(sums[model.name], sums[REFERENCE], bootstrapped)


def _log_scores(models: Sequence[ModelForecasts], scores: Mapping[str, ModelScores]) -> None:
    """Log each model's headline metrics to its own run."""
    for model in models:
        runs.log(model.run, scores[model.name].logged)
        if model.kind == "best-single":
            runs.tag(model.run, best_single="true")
        else:
            runs.end(model.run)


def _log_other_trials(trials: Sequence[Trial], data: PreparedData, reference: ErrorSums, run: RunHandle) -> None:
    """Log validation metrics of the other trials. They never see the test windows."""
    validation, evaluation = data.splits["validation"], data.config.evaluate
    for trial, forecast in zip(trials, validation_forecasts(trials), strict=True):
        bands = split_bands(Conformal.fit(validation.actual, forecast), validation, forecast, evaluation.levels)
        sums = validation.score(forecast, bands, evaluation.levels, evaluation.backtest.folds)
        metrics = headline_metrics({f"val_{name}": value for name, value in sums.relative_to(reference).items()})
        runs.log(RunHandle(trial.run_id, run.experiment_id, ""), metrics)


def _save(
    model: ModelForecasts, forecaster: Forecaster, scores: ModelScores, data: PreparedData, run: RunHandle
) -> Candidate:
    folder = run_folder(run.run_id) / model.kind
    replace(forecaster, intervals=model.deployable_intervals(data.splits["test"], data.config)).save(folder)
    return Candidate(model.kind, folder, model.run.run_id, model.name, scores.logged)


def _diagnose(
    data: PreparedData, trials: Sequence[Trial], models: Sequence[ModelForecasts], scores: Mapping[str, ModelScores]
) -> tuple[Finding, ...]:
    config = data.config
    trainings = [
        TrainingRecord(trial.name, history_of(trial.folder), config.network_config(trial.params), trial.findings)
        for trial in trials
    ]
    scored_models = [(model, scores[model.name]) for model in models]
    rows = [
        LeaderboardRow(model.name, model.kind, result.metrics, result.low, result.high)
        for model, result in scored_models
    ]
    return diagnose(config, trainings, rows, Spans.of(data.panel, config.data, data.arrays))


def _leaderboard(models: Sequence[ModelForecasts], scores: Mapping[str, ModelScores]) -> tuple[dict[str, Any], ...]:
    rows: list[dict[str, Any]] = [
        {"name": model.name, "kind": model.kind, "run_id": model.run.run_id, **scores[model.name].logged}
        for model in models
    ]
    return tuple(sorted(rows, key=lambda row: row["val_rmse"]))
