"""The refitting backtest: fit everything before each origin of the test span, then forecast and score the fold."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table, ingest_table
from lstm.data.panel_store import PanelStore
from lstm.data.windows import Windows
from lstm.errors import DataError
from lstm.evaluation.bands import adaptive_bands, split_bands
from lstm.evaluation.baselines import WindowForecaster, check_baselines, fit_baselines
from lstm.evaluation.rolling_origins import Fold, FoldWindows, fold_table, join_fold_bands, join_folds, make_folds
from lstm.evaluation.scoring import ErrorSums
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import select_members
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import band_levels
from lstm.metrics.skill import with_skill
from lstm.presets.presets import with_defaults
from lstm.profiling.run_lengths import RunLengths
from lstm.scratch import scratch_folder
from tasks.handles import RunHandle, Trial
from tasks.normalize import normalize, prepare_panel, split_cuts
from tasks.run_context import PreparedData
from tasks.runtime.json_values import records
from tasks.scoring.candidates import REFERENCE, build_forecaster
from tasks.search.fixed_trials import make_jobs, planned_networks, train_networks
from tasks.search.worker_pool import search_devices
from tasks.settings import store_folder
from tasks.tracking import runs
from tasks.window import window

OURS = "ensemble"  # name of the networks' row in the tables


@dataclass(frozen=True)
class Backtest:
    """The result of a backtest; JSON-ready with `dataclasses.asdict`."""

    name: str
    run_name: str
    run_id: str
    refit: bool
    networks: int  # number of trained networks
    spans: tuple[dict[str, Any], ...]  # by fold: times of training, validation and forecasts
    folds: tuple[dict[str, Any], ...]  # rows of `backtest.csv`: model, fold, windows, metrics
    overall: tuple[dict[str, Any], ...]  # model, windows, means over the folds; lowest RMSE first
    notices: tuple[str, ...]
    seconds: dict[str, float]  # by stage


@dataclass(frozen=True)
class _PreparedFold:
    """A fold with its data: what lies before the fold, and its own windows."""

    fold: Fold
    data: PreparedData
    test: FoldWindows


@dataclass(frozen=True)
class _FittedModel:
    """A fitted model, with intervals from its validation errors."""

    predict: Callable[[Windows], Prediction]
    intervals: Conformal


@dataclass(frozen=True)
class _FittedModels:
    """All models that were fitted before an origin."""

    models: dict[str, _FittedModel]
    left_out: dict[str, str]  # baseline: reason


@task(cache_policy=NO_CACHE, persist_result=False)
def backtest(config: PipelineConfig, refit: bool = True, flow_run_id: str = "") -> Backtest:
    """Walk the origin forward over the test span, in `evaluate.backtest.folds` equal parts.

    The networks are the planned ones of the preset or of `ensemble.members`, without a search. Nothing after the
    start of a fold is used for its forecasts. Nothing is registered.

    Args:
        config: as `load_config` returns it.
        refit: fit normalizer, networks, ensemble, intervals and baselines anew before each fold; False: fit once,
            before the first fold.
        flow_run_id: of Prefect, recorded as a tag.

    Raises:
        InputError: the data break a rule, or a fold holds no window.
        TrainingError: a network can't be trained.
    """
    started = time.perf_counter()
    check_baselines(config.evaluate.baselines)
    table = ingest_table(config.data, store_folder("work"), store_folder("downloads"))
    config = _with_defaults(config.with_frequency(table.frequency), table)
    with scratch_folder("backtest", store_folder("work")) as scratch:
        folds = _prepare_folds(config, table, refit, scratch)
        to_fit = folds if refit else folds[:1]
        n_networks = len(to_fit) * len(planned_networks(config))
        search = config.search.model_copy(update={"trials": n_networks})
        devices = search_devices(config.model_copy(update={"search": search}))
        seconds = {"prepare": time.perf_counter() - started}
        with runs.parent_run(config, table, devices, flow_run_id, "backtest") as run:
            trials = _train(config, to_fit, devices, scratch)
            seconds["train"] = time.perf_counter() - started - sum(seconds.values())
            fitted = [_fit(fold.data, fold_trials, run) for fold, fold_trials in zip(to_fit, trials, strict=True)]
            sums, notices = _score(config, folds, fitted if refit else fitted * len(folds))
            rows, overall = _tables(sums, folds)
            seconds["score"] = time.perf_counter() - started - sum(seconds.values())
            _log(rows, overall, refit, run)
    return Backtest(
        name=config.name,
        run_name=run.name,
        run_id=run.run_id,
        refit=refit,
        networks=n_networks,
        spans=tuple(map(_span, folds)),
        folds=records(rows),
        overall=records(overall),
        notices=notices,
        seconds=seconds,
    )


def _with_defaults(config: PipelineConfig, table: Table) -> PipelineConfig:
    """Complete the configuration as the training flow does: from the training span, which ends before all folds."""
    panel = PanelStore.load(normalize.fn(config, table).folder)
    return with_defaults(config, RunLengths.of(panel, config.evaluate.season, config.window.horizon))


def _prepare_folds(config: PipelineConfig, table: Table, refit: bool, scratch: Path) -> list[_PreparedFold]:
    cuts, sliding = split_cuts(config, table.first, table.last), config.split.train is not None
    folds = make_folds(cuts, config.evaluate.backtest.folds, config.data.grid, refit, sliding)
    prepared = []
    for number, fold in enumerate(folds, start=1):
        try:
            prepared.append(_prepare_fold(config, table, fold, scratch))
        except DataError as error:
            raise DataError(f"backtest, fold {number} of {len(folds)}: {error}") from None
    return prepared


def _prepare_fold(config: PipelineConfig, table: Table, fold: Fold, scratch: Path) -> _PreparedFold:
    panel = prepare_panel(config, table, fold.cuts, scratch)
    data = PreparedData.open(config, table, panel, window.fn(config, panel, scratch))
    test = FoldWindows.of(data.splits["test"], fold)
    if not test.in_fold.any():
        raise DataError(f"no window from {fold.since} to {fold.cuts.end}. Lower evaluate.backtest.folds.")
    return _PreparedFold(fold, data, test)


def _train(
    config: PipelineConfig, folds: Sequence[_PreparedFold], devices: Sequence[str], scratch: Path
) -> list[list[Trial]]:
    """Train the networks of all folds in one pool; return the trials by fold."""
    networks = planned_networks(config)
    jobs = [
        job
        for number, fold in enumerate(folds, start=1)
        for job in make_jobs(config, fold.data.windows, networks, scratch / f"fold-{number}")
    ]
    trials = train_networks(jobs, devices)
    return [trials[start : start + len(networks)] for start in range(0, len(trials), len(networks))]


def _fit(data: PreparedData, trials: Sequence[Trial], run: RunHandle) -> _FittedModels:
    """Build the ensemble of the trials, and fit the baselines."""
    evaluation, validation = data.config.evaluate, data.splits["validation"]
    members = select_members(
        [trial.val_rmse_normalized for trial in trials], [True] * len(trials), data.config.ensemble.size
    )
    forecaster, _ = build_forecaster(data, [trials[number] for number in members], run)
    baselines, left_out = fit_baselines(
        evaluation.baselines, data.training_windows, validation.windows, evaluation.season
    )
    models = {OURS: _FittedModel(forecaster.predict_windows, forecaster.intervals)}
    for name, baseline in baselines.items():
        intervals = Conformal.fit(validation.actual, baseline.forecast(validation.windows))
        models[name] = _FittedModel(_predict_with(baseline), intervals)
    return _FittedModels(models, left_out)


def _predict_with(baseline: WindowForecaster) -> Callable[[Windows], Prediction]:
    return lambda windows: Prediction(baseline.forecast(windows))


def _score(
    config: PipelineConfig, folds: Sequence[_PreparedFold], fitted: Sequence[_FittedModels]
) -> tuple[dict[str, ErrorSums], tuple[str, ...]]:
    """Return each model's sums over the windows of all folds, and a notice per baseline that some fold can't fit."""
    left_out = {name: reason for models in fitted for name, reason in models.left_out.items()}
    names = [OURS, *(name for name in config.evaluate.baselines if name not in left_out)]
    tests = [fold.test for fold in folds]
    windows, levels = join_folds(tests), config.evaluate.levels
    bands_of = adaptive_bands if config.evaluate.intervals == "adaptive" else split_bands
    sums = {}
    for name in names:
        models = [fold_models.models[name] for fold_models in fitted]
        predictions = [model.predict(test.split.windows) for model, test in zip(models, tests, strict=True)]
        bands = [
            bands_of(model.intervals, test.split, prediction, band_levels(levels))
            for model, test, prediction in zip(models, tests, predictions, strict=True)
        ]
        points = [prediction.point[test.in_fold] for prediction, test in zip(predictions, tests, strict=True)]
        sums[name] = windows.score(np.concatenate(points), join_fold_bands(tests, bands), levels, 1)
    return sums, tuple(f"{name} was left out: {reason}" for name, reason in left_out.items())


def _tables(sums: dict[str, ErrorSums], folds: Sequence[_PreparedFold]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return metrics by model and fold, and means over the folds by model, lowest RMSE first."""
    tests = [fold.test for fold in folds]
    by_fold = {name: fold_table(own, sums[REFERENCE], tests) for name, own in sums.items()}
    means = {name: _fold_means(table) for name, table in by_fold.items()}
    windows = sum(int(test.in_fold.sum()) for test in tests)
    overall = [
        {"model": name, "windows": windows, **with_skill(metrics, means[REFERENCE])} for name, metrics in means.items()
    ]
    rows = pd.concat([table.assign(model=name) for name, table in by_fold.items()], ignore_index=True)
    order = ["model", *rows.columns.drop("model")]
    return rows[order], pd.DataFrame(overall).sort_values("rmse", ignore_index=True)


def _fold_means(table: pd.DataFrame) -> dict[str, float]:
    """Return the mean of every metric but skills and `owa`, which follow from the means."""
    return {
        str(name): float(values.mean())
        for name, values in table.drop(columns=["fold", "windows"]).items()
        if name != "owa" and not str(name).endswith("_skill")
    }


def _log(rows: pd.DataFrame, overall: pd.DataFrame, refit: bool, run: RunHandle) -> None:
    runs.client().log_text(run.run_id, rows.to_csv(index=False), "backtest.csv")
    ours = next(row for row in records(overall) if row["model"] == OURS)
    runs.log(run, {f"backtest_{name}": value for name, value in ours.items() if name not in ("model", "windows")})
    runs.tag(run, refit=str(refit).lower(), folds=int(rows["fold"].max()))


def _span(prepared: _PreparedFold) -> dict[str, Any]:
    cuts = prepared.fold.cuts
    times = {"train": cuts.start, "validation": cuts.validation, "learned_until": cuts.test}
    times |= {"from": prepared.fold.since, "to": cuts.end}
    return {**{name: str(time) for name, time in times.items()}, "windows": int(prepared.test.in_fold.sum())}
