"""The training flow: ingest → normalize → window → train → evaluate → register."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from prefect import flow
from prefect.runtime import flow_run

from lstm.config_file import load_config
from lstm.data.runs import Runs
from lstm.data.store import PanelStore
from lstm.presets import completed
from tasks import tracking
from tasks.evaluate import evaluate
from tasks.handles import RunHandle, Trial
from tasks.ingest import ingest
from tasks.normalize import normalize
from tasks.profile import describe, log_profile
from tasks.register import Promotion, register
from tasks.train import search_devices, trials_folder
from tasks.train import train as search
from tasks.window import window


@dataclass(frozen=True)
class Outcome:
    """What a training run came to."""

    name: str
    run_name: str
    run_id: str
    leaderboard: tuple[dict[str, Any], ...]
    trials: tuple[dict[str, Any], ...]  # finished networks, best first: name, changes, val_rmse, parameters, …
    promotion: Promotion
    search: str  # how far the search came
    seconds: dict[str, float]  # by stage
    notices: tuple[str, ...]  # what was changed in the data, or left out
    advisories: tuple[str, ...]  # why an LSTM may not be the tool for them
    known: tuple[str, ...]  # columns that a forecast needs for the steps ahead


@flow(name="train", persist_result=False)
def train(config: str = "examples/nyc_weather.yaml", overrides: tuple[str, ...] = (), strict: bool = False) -> Outcome:
    """Train, evaluate and register what the configuration file says.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        strict: end with an error where there is an advisory against an LSTM.
    """
    settings = load_config(config, tuple(overrides))
    seconds: dict[str, float] = {}
    with _timed(seconds, "prepare"):
        table = ingest(settings)
        settings = settings.with_frequency(table.frequency)
        panel = normalize(settings, table)
        settings = completed(settings, Runs.of(PanelStore.load(panel.folder)))
        windows = window(settings, panel)
        described = describe(settings, table, panel, windows, strict)
    devices = search_devices(settings)
    with tracking.parent_run(settings, table, devices, str(flow_run.id or "")) as run, _scratch(run):
        log_profile(settings, panel, described, run)
        with _timed(seconds, "train"):
            found = search(settings, windows, run, devices)
        with _timed(seconds, "evaluate"):
            evaluation = evaluate(settings, table, panel, windows, found.trials, run)
        with _timed(seconds, "register"):
            promotion = register(settings, table, panel, windows, evaluation, run)
        tracking.log(run, {f"seconds_{stage}": spent for stage, spent in seconds.items()})
    return Outcome(
        settings.name,
        run.name,
        run.run_id,
        evaluation.leaderboard,
        tuple(map(_as_row, found.trials)),
        promotion,
        found.summary,
        {**seconds, "train_cpu": found.cpu_seconds},
        (*described.notices, *(f"trial-{one.number:03d}: {one.findings}" for one in found.trials if one.findings)),
        tuple(map(str, described.advisories)),
        settings.data.known,
    )


def _as_row(trial: Trial) -> dict[str, Any]:
    shown = ("changes", "val_rmse", "best_epoch", "parameters", "seconds")
    return {"name": f"trial-{trial.number:03d}", **{key: getattr(trial, key) for key in shown}}


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - started


@contextmanager
def _scratch(run: RunHandle) -> Iterator[None]:
    """What the trials leave on disk goes when the run ends: the registry has what is worth keeping."""
    try:
        yield
    finally:
        shutil.rmtree(trials_folder(run), ignore_errors=True)
