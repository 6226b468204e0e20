"""One model, from source to registry: ingest → normalize → window → train → evaluate → register."""

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
from lstm.presets.presets import completed
from lstm.profiling.run_lengths import Runs
from tasks.evaluate import evaluate
from tasks.handles import Evaluation, PanelHandle, RunHandle, Search, Trial
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.profile import describe, log_profile
from tasks.register import Promotion, register
from tasks.report import model_card
from tasks.search.gpu_limits import gpu_limits
from tasks.search.worker_pool import search_devices
from tasks.settings import run_folder
from tasks.tracking import runs
from tasks.train import train as search
from tasks.window import window

_TOLD = (
    *("cell", "head", "anchor", "sequence_length", "patch_length", "lags", "loss", "hidden_size", "num_layers"),
    *("dropout", "learning_rate"),
)


@dataclass(frozen=True)
class Outcome:
    """What a training run came to."""

    name: str
    run_name: str
    run_id: str
    leaderboard: tuple[dict[str, Any], ...]
    trials: tuple[dict[str, Any], ...]  # finished networks, best first: name, in_ensemble, val_rmse, …, network
    promotion: Promotion
    search: str  # how far the search came
    seconds: dict[str, float]  # by stage
    notices: tuple[str, ...]  # what was changed in the data, or left out
    findings: tuple[str, ...]  # what went wrong in training, or between validation and test
    advisories: tuple[str, ...]  # why an LSTM may not be the tool for them
    known: tuple[str, ...]  # columns that a forecast needs for the steps ahead


def trained(settings: PipelineConfig, strict: bool, fresh: bool, tags: Mapping[str, str]) -> Outcome:
    """Train, evaluate and register one model, within a flow.

    Args:
        settings: as the file says, without the preset's defaults.
        strict: end with an error where there is an advisory against an LSTM.
        fresh: search anew, where the same search of the same data has been made or begun before.
        tags: of the MLflow run, beside its own.
    """
    check_baselines(settings.evaluate.baselines)
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        table = ingest(settings)
        settings = settings.with_frequency(table.frequency)
        panel = normalize(settings, table)
        settings = completed(settings, _runs(settings, panel))
        windows = window(settings, panel)
        description: Any = describe.submit(settings, table, panel, windows, strict)  # Prefect resolves it
        if strict:
            description.result()
    # A cluster's machines may have what this one has not: each share looks for itself.
    local = settings.execution.runner == "local"
    devices = search_devices(settings) if local else [settings.execution.runner]
    with (
        runs.parent_run(settings, table, devices, str(flow_run.id or ""), tags=tags) as run,
        _scratch(run),
    ):
        drawn = log_profile.submit(settings, panel, description, run)  # beside the search
        with _timed(seconds, "train"), gpu_limits(devices):
            found = search(settings, windows, run, devices, fresh)
        with _timed(seconds, "evaluate"):
            evaluation = evaluate(settings, table, panel, windows, found.trials, run)
        with _timed(seconds, "register"):
            promotion = register(settings, table, panel, windows, evaluation, run)
        described = drawn.result()
        rows = tuple(_as_row(trial, settings, evaluation) for trial in found.trials)
        notices = (*described.notices, *_remarks(settings, found, evaluation, promotion))
        with _timed(seconds, "report"):
            model_card(settings, table, described, evaluation, promotion, rows, notices, devices, run)
        runs.log(run, {f"seconds_{stage}": spent for stage, spent in seconds.items()})
    return Outcome(
        settings.name,
        run.name,
        run.run_id,
        evaluation.leaderboard,
        rows,
        promotion,
        found.summary,
        {**seconds, "train_cpu": found.cpu_seconds},
        notices,
        evaluation.findings,
        tuple(map(str, described.advisories)),
        settings.data.known,
    )


def _as_row(trial: Trial, settings: PipelineConfig, evaluation: Evaluation) -> dict[str, Any]:
    network, shown = settings.network(trial.changes), ("val_rmse", "best_epoch", "parameters", "seconds")
    told = {key: getattr(network, key) for key in _TOLD} | {"loss": network.trained_loss}
    return {
        "name": trial.name,
        "in_ensemble": trial.name in evaluation.members,
        **{key: getattr(trial, key) for key in shown},
        "network": told,
    }


def _remarks(settings: PipelineConfig, found: Search, evaluation: Evaluation, promotion: Promotion) -> Iterator[str]:
    """What a reader of the leaderboard should know."""
    if promotion.notice:
        yield promotion.notice
    if found.cut:
        yield (
            f"{found.cut} networks were cut short by search.timeout ({settings.search.timeout}), and count as far as "
            "they came: the same command goes on with them, or raise it"
        )
    yield from (f"{trial.name}: {trial.findings}" for trial in found.trials if trial.findings)
    if found.front:
        front = (one for one in sorted(found.trials, key=lambda one: one.latency_ms or 0) if one.number in found.front)
        listed = ", ".join(f"{one.name} ({one.val_rmse:.4f}, {one.latency_ms:.2f} ms)" for one in front)
        yield f"Pareto front of error and latency: {listed}. The champion is chosen by error alone"
    planned, trained = len(settings.ensemble.members or ()), len(settings.members)
    if planned > trained:
        yield f"{planned - trained} of {planned} planned networks were not trained (search.trials: {trained})"
    left = [one.name for one in found.trials if one.member is not None and one.name not in evaluation.members]
    if left and settings.ensemble.size >= planned:
        yield f"not in the ensemble, since clearly worse on validation: {', '.join(left)}"
    errors = {
        row["kind"] if row["kind"] != "baseline" else row["name"]: row["val_rmse"] for row in evaluation.leaderboard
    }
    if errors.get("ridge", float("inf")) < errors["best-ensemble"]:
        yield "ridge regression has a lower validation RMSE than the ensemble: a linear model may do for these data"


def _runs(settings: PipelineConfig, panel: PanelHandle) -> Runs:
    return Runs.of(PanelStore.load(panel.folder), settings.evaluate.season, settings.window.horizon)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


@contextmanager
def _scratch(run: RunHandle) -> Iterator[None]:
    """The candidates on disk go when the run ends: the registry has what is worth keeping."""
    try:
        yield
    finally:
        shutil.rmtree(run_folder(run.run_id), ignore_errors=True)
