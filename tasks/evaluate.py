"""Candidates from the best trials, and what they are worth: validation selects, the test span is scored once."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config import ModelConfig
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.store import PanelStore
from lstm.ensemble import chosen, combine, member_weights
from lstm.errors import DataError
from lstm.evaluation.baselines import BASELINES
from lstm.evaluation.intervals import Conformal
from lstm.evaluation.metrics import naive_errors
from lstm.evaluation.ridge import RidgeBaseline
from lstm.evaluation.scoring import ScoredWindows, with_skill
from lstm.forecaster import Forecaster
from lstm.networks.checkpoint import load_checkpoint
from lstm.networks.network import ForecastNetwork
from lstm.pipeline_config import PipelineConfig
from tasks import tracking
from tasks.figures import error_by_horizon, forecast_vs_actual
from tasks.handles import Candidate, Evaluation, PanelHandle, RunHandle, Trial, WindowsHandle
from tasks.settings import folder

REFERENCE = "seasonal_naive"


@dataclass(frozen=True)
class Contender:
    """Whoever stands on the leaderboard: a candidate or a baseline, with its normalised forecasts."""

    name: str
    kind: str  # best-single | best-ensemble | baseline
    run: RunHandle
    validation: np.ndarray  # (windows, horizon, targets)
    test: np.ndarray
    intervals: Conformal

    def scores(self, splits: dict[str, ScoredWindows], config: PipelineConfig) -> dict[str, float]:
        """`val_*` and `test_*` of every metric."""
        return {
            f"{prefix}_{name}": value
            for prefix, split, forecast in (("val", "validation", self.validation), ("test", "test", self.test))
            for name, value in splits[split].scores(forecast, self.intervals, config.evaluate.levels).items()
        }


@task(cache_policy=NO_CACHE, persist_result=False)
def evaluate(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    trials: Sequence[Trial],
    run: RunHandle,
) -> Evaluation:
    """Build the best single model and the ensemble; score them beside the baselines; log and save everything."""
    splits = scored_splits(config, panel, windows)
    planned = [trial.member is not None for trial in trials]
    best = [trials[number] for number in chosen([one.val_rmse for one in trials], planned, config.ensemble.size)]
    runs = {
        "best-single": RunHandle(trials[0].run_id, run.experiment_id, trials[0].name),
        "best-ensemble": _start(run, f"ensemble-{config.ensemble.method}-{len(best)}", "ensemble"),
    }
    tracking.tag(runs["best-ensemble"], members=", ".join(one.name for one in best))
    forecasters = {
        "best-single": _forecaster(config, table, panel, windows, splits["validation"], trials[:1], run),
        "best-ensemble": _forecaster(config, table, panel, windows, splits["validation"], best, run),
    }
    contenders = [_contender(kind, forecasters[kind], runs[kind], splits) for kind in forecasters]
    baselines = _baselines(config, windows, splits, run)
    contenders += [_baseline(name, made, splits, run) for name, made in baselines.items()]
    scores = _scores(contenders, splits, config)
    _log(contenders, scores)
    _log_trials(trials[1:], splits["validation"], scores[REFERENCE], config, run)
    _log_pictures(contenders, splits["test"], config, run)
    candidates = []
    for kind, forecaster in forecasters.items():
        place = candidates_folder(run) / kind
        forecaster.save(place)
        name = runs[kind].name
        candidates.append(Candidate(kind, place, runs[kind].run_id, name, scores[name]))
    rows: list[dict[str, Any]] = [
        {"name": one.name, "kind": one.kind, "run_id": one.run.run_id, **scores[one.name]} for one in contenders
    ]
    leaderboard = tuple(sorted(rows, key=lambda row: row["val_rmse"]))
    evaluation = Evaluation(tuple(candidates), tuple(one.name for one in best), leaderboard)
    tracking.log(run, evaluation.proposed.scores)
    return evaluation


def candidates_folder(run: RunHandle) -> Path:
    """Where a run's candidates are until they are registered."""
    return folder("work") / f"run-{run.run_id}"


def scored_splits(config: PipelineConfig, panel: PanelHandle, windows: WindowsHandle) -> dict[str, ScoredWindows]:
    """Validation and test, each window looking back as far as the longest of the search."""
    store = PanelStore.load(panel.folder)
    names = store.names
    scale = store.normalizer.target_scale(names)
    arrays = {name: SplitArrays.load(windows.folder / name) for name in ("train", "validation", "test")}
    training, season = arrays["train"], config.evaluate.season
    naive = naive_errors(training.series, training.segment, training.targets, season, len(names), scale)
    lookback = max(config.longest_lookback, season)
    return {
        name: ScoredWindows.of(
            arrays[name], arrays[name].windows(lookback, config.window.horizon, windows.n_known), scale, naive
        )
        for name in ("validation", "test")
    }


def _forecaster(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    validation: ScoredWindows,
    trials: Sequence[Trial],
    run: RunHandle,
) -> Forecaster:
    """A Forecaster of these trials' networks, its intervals from their combined validation forecast."""
    forecasts = [np.load(trial.folder / "validation.npy") for trial in trials]
    method = config.ensemble.method
    errors = [float(np.sqrt(np.nanmean(np.square(one - validation.actual)))) for one in forecasts]
    weights = member_weights(method, errors)
    store, members = PanelStore.load(panel.folder), tuple(_network(trial.folder) for trial in trials)
    return Forecaster(
        name=config.name,
        spec=config.data,
        levels=store.levels,
        normalizer=store.normalizer,
        left_out=tuple(dict.fromkeys((*store.left_out, *windows.too_short))),
        series=store.names if any(member.config.series_embedding for member in members) else (),
        members=members,
        weights=weights,
        method=method,
        intervals=Conformal.fit(validation.actual, combine(forecasts, method, weights)),
        lineage={"run_id": run.run_id, "run_name": run.name, **tracking.lineage(config, table)},
    )


def _network(folder: Path) -> ForecastNetwork:
    tensors, meta = load_checkpoint(folder / "network.safetensors")
    sizes = (meta["n_known"], meta["n_series"])
    network = ForecastNetwork(ModelConfig.parse(meta["config"]), range(meta["n_targets"]), *sizes)
    network.load_state_dict(tensors)
    return network.eval()


def _contender(kind: str, made: Forecaster, run: RunHandle, splits: dict[str, ScoredWindows]) -> Contender:
    started = time.perf_counter()
    test = made.forecast_windows(splits["test"].windows)
    tracking.log(run, {"forecast_ms_per_window": 1000 * (time.perf_counter() - started) / len(test)})
    validation = made.forecast_windows(splits["validation"].windows)
    return Contender(run.name, kind, run, validation, test, made.intervals)


def _baselines(
    config: PipelineConfig, windows: WindowsHandle, splits: dict[str, ScoredWindows], run: RunHandle
) -> dict[str, dict[str, np.ndarray]]:
    """Forecasts of each split, (windows, horizon, targets), by baseline; no ridge where it can't be fitted."""
    season, stride = config.evaluate.season, config.window.stride
    seen = {split: scored.windows for split, scored in splits.items()}
    found = {
        name: {split: made(one, season).numpy() for split, one in seen.items()} for name, made in BASELINES.items()
    }
    shape = (seen["validation"].sequence_length, config.window.horizon, windows.n_known)
    training = SplitArrays.load(windows.folder / "train").windows(*shape, stride=stride)
    try:
        ridge = RidgeBaseline.fit(training, seen["validation"], season)
    except DataError as error:
        tracking.tag(run, ridge=f"left out: {error}")
        return found
    return {**found, "ridge": {split: ridge.forecast(one) for split, one in seen.items()}}


def _baseline(name: str, made: dict[str, np.ndarray], splits: dict[str, ScoredWindows], run: RunHandle) -> Contender:
    forecasts = {split: forecast.astype(np.float64) for split, forecast in made.items()}
    intervals = Conformal.fit(splits["validation"].actual, forecasts["validation"])
    return Contender(name, "baseline", _start(run, name, "baseline"), **forecasts, intervals=intervals)


def _start(parent: RunHandle, name: str, kind: str) -> RunHandle:
    return tracking.start_run(parent.experiment_id, name, {"kind": kind}, parent)


def _scores(
    contenders: Sequence[Contender], splits: dict[str, ScoredWindows], config: PipelineConfig
) -> dict[str, dict[str, float]]:
    scores = {contender.name: contender.scores(splits, config) for contender in contenders}
    return {name: with_skill(own, scores[REFERENCE]) for name, own in scores.items()}


def _log(contenders: Sequence[Contender], scores: dict[str, dict[str, float]]) -> None:
    """Each contender's scores to its own run."""
    for contender in contenders:
        tracking.log(contender.run, scores[contender.name])
        if contender.kind == "best-single":
            tracking.tag(contender.run, best_single="true")
        else:
            tracking.end(contender.run)


def _log_trials(
    trials: Sequence[Trial],
    validation: ScoredWindows,
    reference: dict[str, float],
    config: PipelineConfig,
    run: RunHandle,
) -> None:
    """The other trials' validation scores. Their test windows stay unseen."""
    for trial in trials:
        forecast = np.load(trial.folder / "validation.npy")
        intervals = Conformal.fit(validation.actual, forecast)
        own = validation.scores(forecast, intervals, config.evaluate.levels)
        named = with_skill({f"val_{name}": value for name, value in own.items()}, reference)
        tracking.log(RunHandle(trial.run_id, run.experiment_id, ""), named)


def _log_pictures(contenders: Sequence[Contender], test: ScoredWindows, config: PipelineConfig, run: RunHandle) -> None:
    ensemble = next(one for one in contenders if one.kind == "best-ensemble")
    pictures: dict[str, Any] = {
        "forecast_vs_actual.png": forecast_vs_actual(test, ensemble.test, ensemble.intervals, config),
        "error_by_horizon.png": error_by_horizon(test, {one.name: one.test for one in contenders}, config),
    }
    for target in (run, ensemble.run):
        for name, figure in pictures.items():
            tracking.client().log_figure(target.run_id, figure, name)
