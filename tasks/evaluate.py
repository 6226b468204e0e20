"""Candidates from the best trials, and what they are worth: validation selects, the test span is scored once."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.diagnostics.diagnosis import Finding, Spans, Standing, Training, diagnose
from lstm.diagnostics.leakage import Audit, audit
from lstm.errors import DataError, TrainingError
from lstm.evaluation.scoring import Scored, ScoredWindows
from lstm.forecasting.conformal import Conformal, split_bands
from lstm.forecasting.ensemble import chosen, weights_of
from lstm.forecasting.forecaster import Forecaster
from tasks.handles import Candidate, Evaluation, PanelHandle, RunHandle, Trial, WindowsHandle
from tasks.scoring import candidates as make
from tasks.scoring.artifacts import FOLDER, Results, log_evaluation
from tasks.scoring.candidates import REFERENCE, Contender, Scoring, forecasts_of, scored_splits
from tasks.search.trial_folder import history_of
from tasks.settings import run_folder
from tasks.tracking import runs as tracking


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluate(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    trials: Sequence[Trial],
    run: RunHandle,
) -> Evaluation:
    """Build the best single model and the ensemble; score them beside the baselines; log and save everything.

    Raises:
        DataError: a column counts as known ahead and is the target.
        TrainingError: the leakage audit found another leak, so that no score here means anything.
    """
    splits = scored_splits(config, panel, windows)
    best, weights = members(config, trials, splits["validation"])
    runs = {
        "best-single": RunHandle(trials[0].run_id, run.experiment_id, trials[0].name),
        "best-ensemble": _start(run, f"ensemble-{config.ensemble.method}-{len(best)}", "ensemble"),
    }
    tracking.tag(runs["best-ensemble"], members=", ".join(one.name for one in best))
    parts = {"best-single": (trials[:1], (1.0,)), "best-ensemble": (best, weights)}
    forecasters = {
        kind: make.forecaster_of(config, table, panel, windows, splits["validation"], part[0], run, part[1])
        for kind, part in parts.items()
    }
    audited = _audited(forecasters["best-ensemble"], config, table, panel, windows)
    contenders = [_timed(kind, made, runs[kind], splits, run) for kind, made in forecasters.items()]
    contenders += _baselines(config, windows, splits, run)
    scored = {one.name: one.scored(splits, config) for one in contenders}
    scorings = _scorings(contenders, scored)
    _log(contenders, scorings)
    _log_trials(trials[1:], splits["validation"], scored[REFERENCE]["validation"], config, run)
    candidates = [
        _saved(one, forecasters[one.kind], scorings[one.name], splits["test"], config, run)
        for one in contenders
        if one.kind in forecasters
    ]
    findings = _findings(config, panel, windows, trials, contenders, scorings)
    log_evaluation(
        run_folder(run.run_id) / FOLDER,
        config,
        Results(splits, contenders, scored, scorings, best, findings, audited),
        run,
    )
    evaluation = Evaluation(
        tuple(candidates),
        tuple(one.name for one in best),
        _leaderboard(contenders, scorings),
        {name: one.folds for name, one in scorings.items()},
        run_folder(run.run_id) / FOLDER,
        tuple(str(one) for one in findings if one.where not in _unused(trials, best)),
    )
    tracking.log(run, scorings[evaluation.proposed.label].logged)
    tracking.tag(run, diagnosis=",".join(sorted({one.trouble for one in findings})) or "none")
    return evaluation


def members(
    config: PipelineConfig, trials: Sequence[Trial], validation: ScoredWindows
) -> tuple[Sequence[Trial], tuple[float, ...]]:
    """The trials to combine, the best first, and the weight of each. Greedy selection chooses among all of them."""
    method, size = config.ensemble.method, config.ensemble.size
    if method != "greedy":
        planned = [trial.member is not None for trial in trials]
        best = [trials[number] for number in chosen([one.val_rmse for one in trials], planned, size)]
        return best, weights_of(method, forecasts_of(best), validation.actual)
    best = list(trials)
    for most in (size, len(trials)):  # who was taken most, and then the weights of these alone
        weights = weights_of(method, forecasts_of(best), validation.actual)
        taken = sorted(np.argsort(weights, kind="stable")[::-1][:most])
        best, weights = [best[n] for n in taken if weights[n]], tuple(weights[n] for n in taken if weights[n])
        if len(best) == len(trials) or sum(weights) > 1 - 1e-9:
            break
    return best, weights


def _audited(
    forecaster: Forecaster, config: PipelineConfig, table: Table, panel: PanelHandle, windows: WindowsHandle
) -> Audit:
    arrays = {name: SplitArrays.load(windows.folder / name) for name in ("train", "validation", "test")}
    found = audit(forecaster, table, PanelStore.load(panel.folder), arrays, config.normalize)
    if not found.passed:
        failed = "; ".join(f"{check.name}: {check.evidence}" for check in found.failures)
        said = f"leakage audit: {failed}. Scores would not mean anything: nothing is registered."
        if {check.name for check in found.failures} == {"known"}:
            raise DataError(f"{said} Move the column from data.known to data.observed.")
        raise TrainingError(f"{said} Report it as a bug.")
    return found


def _timed(kind: str, made: Forecaster, own: RunHandle, splits: make.Splits, run: RunHandle) -> Contender:
    started = time.perf_counter()
    contender = make.candidate(kind, made, own, splits)
    windows = sum(len(split.windows) for split in splits.values())
    tracking.log(own, {"forecast_ms_per_window": 1000 * (time.perf_counter() - started) / windows})
    return contender


def _baselines(config: PipelineConfig, windows: WindowsHandle, splits: make.Splits, run: RunHandle) -> list[Contender]:
    made, left_out = make.baselines(config, windows, splits)
    if left_out:
        tracking.tag(run, **{name: f"left out: {reason}" for name, reason in left_out.items()})
    return [make.baseline(name, one, _start(run, name, "baseline"), splits) for name, one in made.items()]


def _start(parent: RunHandle, name: str, kind: str) -> RunHandle:
    return tracking.start_run(parent.experiment_id, name, {"kind": kind}, parent)


def _scorings(contenders: Sequence[Contender], scored: Mapping[str, Mapping[str, Scored]]) -> dict[str, Scoring]:
    """Of candidates the validation has intervals too: the diagnosis asks whether the test is surely worse."""
    return {
        one.name: make.scoring_of(
            scored[one.name], scored[REFERENCE], ("test",) if one.kind == "baseline" else ("val", "test")
        )
        for one in contenders
    }


def _log(contenders: Sequence[Contender], scorings: Mapping[str, Scoring]) -> None:
    """Each contender's scores to its own run."""
    for contender in contenders:
        tracking.log(contender.run, scorings[contender.name].logged)
        if contender.kind == "best-single":
            tracking.tag(contender.run, best_single="true")
        else:
            tracking.end(contender.run)


def _log_trials(
    trials: Sequence[Trial], validation: ScoredWindows, reference: Scored, config: PipelineConfig, run: RunHandle
) -> None:
    """The other trials' validation scores. Their test windows stay unseen."""
    levels = config.evaluate.levels
    for trial, forecast in zip(trials, forecasts_of(trials), strict=True):
        bands = split_bands(Conformal.fit(validation.actual, forecast), validation, forecast, levels)
        own = validation.scored(forecast, bands, levels, config.evaluate.backtest.folds).against(reference)
        named = make.usual({f"val_{name}": value for name, value in own.items()})
        tracking.log(RunHandle(trial.run_id, run.experiment_id, ""), named)


def _saved(
    one: Contender, made: Forecaster, scoring: Scoring, test: ScoredWindows, config: PipelineConfig, run: RunHandle
) -> Candidate:
    place = run_folder(run.run_id) / one.kind
    replace(made, intervals=one.intervals_now(test, config)).save(place)
    return Candidate(one.kind, place, one.run.run_id, one.name, scoring.logged)


def _findings(
    config: PipelineConfig,
    panel: PanelHandle,
    windows: WindowsHandle,
    trials: Sequence[Trial],
    contenders: Sequence[Contender],
    scorings: Mapping[str, Scoring],
) -> tuple[Finding, ...]:
    arrays = {name: SplitArrays.load(windows.folder / name) for name in ("train", "validation", "test")}
    spans = Spans.of(PanelStore.load(panel.folder), config.data, arrays)
    trainings = [
        Training(one.name, history_of(one.folder), config.network(one.changes), one.findings) for one in trials
    ]
    standings = [
        Standing(one.name, one.kind, found.metrics, found.low, found.high)
        for one in contenders
        for found in (scorings[one.name],)
    ]
    return diagnose(config, trainings, standings, spans)


def _unused(trials: Sequence[Trial], best: Sequence[Trial]) -> set[str]:
    """Networks that are in no candidate: their troubles stand in findings.json."""
    return {one.name for one in trials[1:]} - {one.name for one in best}


def _leaderboard(contenders: Sequence[Contender], scorings: Mapping[str, Scoring]) -> tuple[dict[str, Any], ...]:
    rows: list[dict[str, Any]] = [
        {"name": one.name, "kind": one.kind, "run_id": one.run.run_id, **scorings[one.name].logged}
        for one in contenders
    ]
    return tuple(sorted(rows, key=lambda row: row["val_rmse"]))
