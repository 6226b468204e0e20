"""The refitting backtest: at each origin everything is made anew from what lay before, then what came is forecast."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table, ingest_table
from lstm.data.panel_store import PanelStore
from lstm.errors import DataError
from lstm.evaluation.baselines import WindowForecaster, check_baselines, fit_baselines
from lstm.evaluation.rolling_origins import Fold, FoldWindows, folds_of, joined, joined_bands, table_by_fold
from lstm.evaluation.scoring import Scored, ScoredWindows, with_skill
from lstm.forecasting.conformal import Conformal, adaptive_bands, split_bands
from lstm.forecasting.ensemble import chosen
from lstm.forecasting.forecaster import Forecaster
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import band_levels
from lstm.presets.presets import completed
from lstm.profiling.run_lengths import Runs
from lstm.scratch import scratch_folder
from tasks.handles import PanelHandle, RunHandle, Trial, WindowsHandle
from tasks.normalize import cuts_of, frequency_of, normalize, panel_of
from tasks.scoring.candidates import REFERENCE, forecaster_of, scored_splits
from tasks.search.fixed_trials import jobs_of, planned_networks, train_all, trial_of
from tasks.search.worker_pool import search_devices
from tasks.settings import folder
from tasks.tracking import runs
from tasks.window import window

OURS = "ensemble"  # what the networks are called in the tables


@dataclass(frozen=True)
class Backtest:
    """What a backtest found; JSON-ready with `dataclasses.asdict`."""

    name: str
    run_name: str
    run_id: str
    refit: bool
    networks: int  # that were trained
    spans: tuple[dict[str, Any], ...]  # by fold: what was learned from, and what was forecast
    folds: tuple[dict[str, Any], ...]  # rows of `backtest.csv`: model, fold, windows, metrics
    overall: tuple[dict[str, Any], ...]  # model, windows, means over the folds; the lowest RMSE first
    notices: tuple[str, ...]
    seconds: dict[str, float]  # by stage


@dataclass(frozen=True)
class _Prepared:
    """A fold's data."""

    fold: Fold
    panel: PanelHandle
    windows: WindowsHandle
    validation: ScoredWindows
    test: FoldWindows


@dataclass(frozen=True)
class _Learned:
    """What was fitted before an origin."""

    forecaster: Forecaster
    baselines: dict[str, WindowForecaster]
    left_out: dict[str, str]  # baseline: why
    validation: ScoredWindows


@task(cache_policy=NO_CACHE, persist_result=False)
def backtest(config: PipelineConfig, refit: bool = True, flow_run_id: str = "") -> Backtest:
    """Walk the origin forward over the configuration's test span, in `evaluate.backtest.folds` equal parts.

    Networks are the planned ones of the preset or of `ensemble.members`, without a search. Nothing that comes after a
    fold is looked at for it. Nothing is registered.

    Args:
        config: as `load_config` reads it.
        refit: whether normaliser, networks, ensemble, intervals and baselines are made anew for each fold from what
            lies before it; False: those made for the first fold forecast all of them.
        flow_run_id: of Prefect, for the record.

    Raises:
        InputError: the data break a rule, or a fold holds no window.
        TrainingError: a network can't be trained.
    """
    started = time.perf_counter()
    check_baselines(config.evaluate.baselines)
    table = ingest_table(config.data, folder("work"), folder("downloads"))
    config = _completed(config.with_frequency(table.frequency), table)
    with scratch_folder("backtest", folder("work")) as scratch:
        prepared = _prepared(config, table, refit, scratch)
        fitted = prepared if refit else prepared[:1]
        count = len(fitted) * len(planned_networks(config))
        search = config.search.model_copy(update={"trials": count})
        devices = search_devices(config.model_copy(update={"search": search}))
        seconds = {"prepare": time.perf_counter() - started}
        with runs.parent_run(config, table, devices, flow_run_id, "backtest") as run:
            trials = _trained(config, fitted, devices, scratch)
            seconds["train"] = time.perf_counter() - started - sum(seconds.values())
            learned = [_learned(config, table, *pair, run) for pair in zip(fitted, trials, strict=True)]
            scored, notices = _scored(config, prepared, learned)
            rows, overall = _tables(scored, prepared)
            seconds["score"] = time.perf_counter() - started - sum(seconds.values())
            _log(rows, overall, refit, run)
    return Backtest(
        name=config.name,
        run_name=run.name,
        run_id=run.run_id,
        refit=refit,
        networks=count,
        spans=tuple(map(_span, prepared)),
        folds=_records(rows),
        overall=_records(overall),
        notices=notices,
        seconds=seconds,
    )


def _completed(config: PipelineConfig, table: Table) -> PipelineConfig:
    """As the training flow completes it: from the training span, which ends before the first fold."""
    panel = PanelStore.load(normalize.fn(config, table).folder)
    return completed(config, Runs.of(panel, config.evaluate.season, config.window.horizon))


def _prepared(config: PipelineConfig, table: Table, refit: bool, scratch: Path) -> list[_Prepared]:
    cuts, sliding = cuts_of(config, table.first, table.last), config.split.train is not None
    count = config.evaluate.backtest.folds
    folds = folds_of(cuts, count, frequency_of(config), refit, sliding)
    return [_of_fold(config, table, fold, f"{number} of {count}", scratch) for number, fold in enumerate(folds, 1)]


def _of_fold(config: PipelineConfig, table: Table, fold: Fold, called: str, scratch: Path) -> _Prepared:
    try:
        panel = panel_of(config, table, fold.cuts, scratch)
        windows = window.fn(config, panel, scratch)
        splits = scored_splits(config, panel, windows)
        test = FoldWindows.of(splits["test"], fold)
        if not test.kept.any():
            raise DataError(f"no window from {fold.since} to {fold.cuts.end}. Lower evaluate.backtest.folds.")
    except DataError as error:
        raise DataError(f"backtest, fold {called}: {error}") from None
    return _Prepared(fold, panel, windows, splits["validation"], test)


def _trained(
    config: PipelineConfig, folds: Sequence[_Prepared], devices: Sequence[str], scratch: Path
) -> list[list[Trial]]:
    """The networks of each fold; all of them side by side, since no fold needs another."""
    networks = planned_networks(config)
    places = [scratch / f"fold-{number}" for number, _ in enumerate(folds, 1)]
    jobs = [
        job for one, place in zip(folds, places, strict=True) for job in jobs_of(config, one.windows, networks, place)
    ]
    results = train_all(jobs, devices)
    trials = [trial_of(number, *pair) for number, pair in enumerate(zip(jobs, results, strict=True))]
    return [trials[start : start + len(networks)] for start in range(0, len(trials), len(networks))]


def _learned(
    config: PipelineConfig, table: Table, prepared: _Prepared, trials: Sequence[Trial], run: RunHandle
) -> _Learned:
    taken = chosen([one.val_rmse for one in trials], [True] * len(trials), config.ensemble.size)
    best = [trials[number] for number in taken]
    windows, validation = prepared.windows, prepared.validation
    forecaster = forecaster_of(config, table, prepared.panel, windows, validation, best, run)
    shape = (validation.windows.sequence_length, config.window.horizon, windows.n_known)
    training = SplitArrays.load(windows.folder / "train").windows(*shape, stride=config.window.stride)
    season = config.evaluate.season
    baselines, left_out = fit_baselines(config.evaluate.baselines, training, validation.windows, season)
    return _Learned(forecaster, baselines, left_out, validation)


def _scored(
    config: PipelineConfig, prepared: Sequence[_Prepared], learned: Sequence[_Learned]
) -> tuple[dict[str, Scored], tuple[str, ...]]:
    """Each model on the windows of all folds; a baseline that some fold has not is left out, and said."""
    by_fold = list(learned) if len(learned) == len(prepared) else [learned[0]] * len(prepared)
    missing = {name: why for one in learned for name, why in one.left_out.items()}
    names = [OURS, *(name for name in config.evaluate.baselines if name not in missing)]
    folds, windows = [one.test for one in prepared], joined([one.test for one in prepared])
    levels, follow = config.evaluate.levels, config.evaluate.intervals == "adaptive"
    scored = {}
    for name in names:
        forecasts = [_forecast(name, one, fold) for one, fold in zip(by_fold, folds, strict=True)]
        bands = [
            (adaptive_bands if follow else split_bands)(intervals, fold.split, made, band_levels(levels))
            for (intervals, made), fold in zip(forecasts, folds, strict=True)
        ]
        points = np.concatenate([made.point[fold.kept] for (_, made), fold in zip(forecasts, folds, strict=True)])
        scored[name] = windows.scored(points, joined_bands(folds, bands), levels, 1)
    return scored, tuple(f"{name} was left out: {why}" for name, why in missing.items())


def _forecast(name: str, learned: _Learned, fold: FoldWindows) -> tuple[Conformal, Prediction]:
    """Intervals as they were before the fold, and the forecast of its windows."""
    if name == OURS:
        return learned.forecaster.intervals, learned.forecaster.predict_windows(fold.split.windows)
    baseline, validation = learned.baselines[name], learned.validation
    intervals = Conformal.fit(validation.actual, baseline.forecast(validation.windows))
    return intervals, Prediction(baseline.forecast(fold.split.windows))


def _tables(scored: dict[str, Scored], prepared: Sequence[_Prepared]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """By model and fold; and by model the means over the folds, the lowest RMSE first."""
    folds = [one.test for one in prepared]
    by_fold = {name: table_by_fold(one, scored[REFERENCE], folds) for name, one in scored.items()}
    means = {name: _means(table) for name, table in by_fold.items()}
    windows = sum(int(one.kept.sum()) for one in folds)
    overall = [{"model": name, "windows": windows, **with_skill(own, means[REFERENCE])} for name, own in means.items()]
    rows = pd.concat([table.assign(model=name) for name, table in by_fold.items()], ignore_index=True)
    order = ["model", *rows.columns.drop("model")]
    return rows[order], pd.DataFrame(overall).sort_values("rmse", ignore_index=True)


def _means(table: pd.DataFrame) -> dict[str, float]:
    """Of every metric over the folds; skills are made of the means."""
    return {
        str(name): float(values.mean())
        for name, values in table.drop(columns=["fold", "windows"]).items()
        if name != "owa" and not str(name).endswith("_skill")
    }


def _log(rows: pd.DataFrame, overall: pd.DataFrame, refit: bool, run: RunHandle) -> None:
    runs.client().log_text(run.run_id, rows.to_csv(index=False), "backtest.csv")
    ours = next(row for row in _records(overall) if row["model"] == OURS)
    figures = {f"backtest_{name}": value for name, value in ours.items() if name not in ("model", "windows")}
    runs.log(run, figures)
    runs.tag(run, refit=str(refit).lower(), folds=int(rows["fold"].max()))


def _records(frame: pd.DataFrame) -> tuple[dict[str, Any], ...]:
    return tuple({str(key): value for key, value in row.items()} for row in frame.to_dict(orient="records"))


def _span(prepared: _Prepared) -> dict[str, Any]:
    cuts, fold = prepared.fold.cuts, prepared.fold
    moments = {"train": cuts.start, "validation": cuts.validation, "learned_until": cuts.test}
    times = {name: str(moment) for name, moment in {**moments, "from": fold.since, "to": cuts.end}.items()}
    return {**times, "windows": int(prepared.test.kept.sum())}
