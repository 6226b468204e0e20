"""The steps of one model: ingest → normalize → window → train → evaluate → register."""

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect.runtime import flow_run

from lstm.config.pipeline import PipelineConfig
from lstm.data.panel_store import PanelStore
from lstm.evaluation.baselines import check_baselines
from lstm.presets.presets import with_defaults
from lstm.profiling.run_lengths import RunLengths
from tasks.evaluate import evaluate
from tasks.handles import Evaluation, PanelHandle, RunHandle, Search, Trial
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.profile import describe, log_profile
from tasks.register import register
from tasks.registry.decision import GateDecision
from tasks.report import model_card
from tasks.run_context import RunContext
from tasks.search.gpu_limits import gpu_limits
from tasks.search.worker_pool import search_devices
from tasks.settings import run_folder
from tasks.tracking import runs
from tasks.train import train as search
from tasks.window import window

_SHOWN_PARAMS = (
    *("cell", "head", "anchor", "sequence_length", "patch_length", "lags", "loss", "hidden_size", "num_layers"),
    *("dropout", "learning_rate"),
)


@dataclass(frozen=True)
class Outcome:
    """The result of a training run."""

    name: str
    run_name: str
    run_id: str
    leaderboard: tuple[dict[str, Any], ...]
    trials: tuple[dict[str, Any], ...]  # finished networks, best first: name, in_ensemble, val_rmse, …, network
    promotion: GateDecision
    search: str  # summary, such as "3 of 3 trials, 0 of them pruned"
    seconds: dict[str, float]  # by stage
    notices: tuple[str, ...]  # what the pipeline changed or left out
    findings: tuple[str, ...]  # of the diagnosis of training and evaluation
    advisories: tuple[str, ...]  # reasons against an LSTM for these data
    known: tuple[str, ...]  # columns that a forecast needs for its horizon


def train_model(settings: PipelineConfig, strict: bool, fresh: bool, tags: Mapping[str, str]) -> Outcome:
    """Train, evaluate and register one model; runs inside a flow.

    Args:
        settings: configuration as the file holds it, without the preset's defaults.
        strict: raise an error if there is advice against an LSTM.
        fresh: search anew, even if the same search of the same data was made or begun before.
        tags: further tags of the MLflow run.
    """
    check_baselines(settings.evaluate.baselines)
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        table = ingest(settings)
        settings = settings.with_frequency(table.frequency)
        panel = normalize(settings, table)
        settings = with_defaults(settings, _run_lengths(settings, panel))
        windows = window(settings, panel)
        description: Any = describe.submit(settings, table, panel, windows, strict)  # a future, which Prefect resolves
        if strict:
            description.result()
    # The nodes of a cluster look for their own devices.
    local = settings.execution.runner == "local"
    devices = search_devices(settings) if local else [settings.execution.runner]
    with (
        runs.parent_run(settings, table, devices, str(flow_run.id or ""), tags=tags) as run,
        _remove_run_folder(run),
    ):
        context = RunContext(settings, table, panel, windows, run)
        profile_future = log_profile.submit(context, description)  # while the search runs
        with _timed(seconds, "train"), gpu_limits(devices):
            search_result = search(settings, windows, run, devices, fresh)
        with _timed(seconds, "evaluate"):
            evaluation = evaluate(context, search_result.trials)
        with _timed(seconds, "register"):
            promotion = register(context, evaluation)
        profile = profile_future.result()
        rows = tuple(_trial_row(trial, settings, evaluation) for trial in search_result.trials)
        notices = (*profile.notices, *_notices(settings, search_result, evaluation, promotion))
        with _timed(seconds, "report"):
            model_card(context, profile, evaluation, promotion, rows, notices, devices)
        runs.log(run, {f"seconds_{stage}": duration for stage, duration in seconds.items()})
    return Outcome(
        settings.name,
        run.name,
        run.run_id,
        evaluation.leaderboard,
        rows,
        promotion,
        search_result.summary,
        {**seconds, "train_cpu": search_result.cpu_seconds},
        notices,
        evaluation.findings,
        tuple(map(str, profile.advisories)),
        settings.data.known,
    )


def _trial_row(trial: Trial, settings: PipelineConfig, evaluation: Evaluation) -> dict[str, Any]:
    network, shown = settings.network_config(trial.params), ("best_epoch", "parameters", "seconds")
    params = {key: getattr(network, key) for key in _SHOWN_PARAMS} | {"loss": network.trained_loss}
    return {
        "name": trial.name,
        "in_ensemble": trial.name in evaluation.members,
        "val_rmse": trial.val_rmse_normalized,
        **{key: getattr(trial, key) for key in shown},
        "network": params,
    }


def _notices(
    settings: PipelineConfig, search_result: Search, evaluation: Evaluation, promotion: GateDecision
) -> Iterator[str]:
    """Yield what a reader of the leaderboard should know about the search and the champion."""
    if promotion.notice:
        yield promotion.notice
    if search_result.n_interrupted:
        yield (
            f"{search_result.n_interrupted} networks were interrupted by search.timeout ({settings.search.timeout}) "
            "and are scored as far as they were trained. Run the same command again to continue them, or raise "
            "search.timeout"
        )
    yield from (f"{trial.name}: {trial.findings}" for trial in search_result.trials if trial.findings)
    if search_result.pareto_front:
        front = (
            trial
            for trial in sorted(search_result.trials, key=lambda trial: trial.latency_ms or 0)
            if trial.number in search_result.pareto_front
        )
        listed = ", ".join(
            f"{trial.name} ({trial.val_rmse_normalized:.4f}, {trial.latency_ms:.2f} ms)" for trial in front
        )
        yield f"Pareto front of error and latency: {listed}. The champion is chosen by error alone"
    n_planned, n_trained = len(settings.ensemble.members or ()), len(settings.members)
    if n_planned > n_trained:
        yield f"{n_planned - n_trained} of {n_planned} planned networks were not trained (search.trials: {n_trained})"
    dropped = [
        trial.name
        for trial in search_result.trials
        if trial.member is not None and trial.name not in evaluation.members
    ]
    if dropped and settings.ensemble.size >= n_planned:
        yield f"not in the ensemble, since clearly worse on validation: {', '.join(dropped)}"
    errors = {
        row["kind"] if row["kind"] != "baseline" else row["name"]: row["val_rmse"] for row in evaluation.leaderboard
    }
    if errors.get("ridge", float("inf")) < errors["best-ensemble"]:
        yield "ridge regression has a lower validation RMSE than the ensemble: a linear model may do for these data"


def _run_lengths(settings: PipelineConfig, panel: PanelHandle) -> RunLengths:
    return RunLengths.of(PanelStore.load(panel.folder), settings.evaluate.season, settings.window.horizon)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


@contextmanager
def _remove_run_folder(run: RunHandle) -> Iterator[None]:
    """Remove the candidates' folder when the run ends: the registry holds the registered ones."""
    try:
        yield
    finally:
        shutil.rmtree(run_folder(run.run_id), ignore_errors=True)
