"""Candidates and baselines on the same windows: their forecasts, intervals and scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.calendars.frequency import Frequency
from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.evaluation.baselines import fit_baselines
from lstm.evaluation.scoring import Scored, ScoredWindows, with_skill
from lstm.forecasting.conformal import Band, Conformal, Origins, adaptive_bands, split_bands
from lstm.forecasting.ensemble import weights_of
from lstm.forecasting.forecaster import Forecaster
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import band_levels, naive_errors
from lstm.networks.checkpoint import load_checkpoint
from lstm.networks.network import ForecastNetwork
from tasks.handles import PanelHandle, RunHandle, Trial, WindowsHandle
from tasks.search.trial_folder import history_of
from tasks.tracking import runs

REFERENCE = "seasonal_naive"
SPLITS = {"val": "validation", "test": "test"}  # prefix of the metrics -> split
_BOUNDED = ("rmse", "mae", "rmse_skill")  # of the test, whose bootstrap intervals stand in MLflow too
_OF_THE_TEST = ("crps", "owa", "width", "mape_left_out")  # of the other splits in scores.json alone
Splits = Mapping[str, ScoredWindows]


@dataclass(frozen=True)
class Contender:
    """Whoever stands on the leaderboard: a candidate or a baseline."""

    name: str
    kind: str  # best-single | best-ensemble | baseline
    run: RunHandle
    intervals: Conformal  # as validation leaves them
    predictions: Mapping[str, Prediction]  # of validation and test

    def bands(
        self, splits: Splits, split: str, levels: Sequence[int], config: PipelineConfig
    ) -> Iterator[tuple[int, Band]]:
        """Of these levels, one after the other: on the test they follow the errors, where asked to."""
        follows = split == "test" and config.evaluate.intervals == "adaptive"
        made = adaptive_bands if follows else split_bands
        return made(self.intervals, splits[split], self.predictions[split], levels)

    def scored(self, splits: Splits, config: PipelineConfig) -> dict[str, Scored]:
        """Its sums on each split."""
        levels, folds = config.evaluate.levels, config.evaluate.backtest.folds
        return {
            split: splits[split].scored(
                prediction.point, self.bands(splits, split, band_levels(levels), config), levels, folds
            )
            for split, prediction in self.predictions.items()
        }

    def intervals_now(self, test: ScoredWindows, config: PipelineConfig) -> Conformal:
        """Those to deploy: where they follow the errors, as the newest ones leave them."""
        if config.evaluate.intervals == "split":
            return self.intervals
        origins = Origins(test.windows.origins.numpy(), test.series, test.times)
        return self.intervals.followed(origins, test.actual, self.predictions["test"])


@dataclass(frozen=True)
class Scoring:
    """What a contender came to: metrics by name, 95 % intervals of those of the test, and its RMSE in each fold."""

    metrics: dict[str, float]  # val_*, test_*, backtest_* (the mean over the folds)
    low: dict[str, float]
    high: dict[str, float]
    folds: tuple[float, ...]

    @property
    def logged(self) -> dict[str, float]:
        """For MLflow, where runs are compared: the usual metrics, and the intervals that decisions rest on."""
        bounds = {
            f"test_{name}_{side}": values.get(f"test_{name}", float("nan"))
            for name in _BOUNDED
            for side, values in (("low", self.low), ("high", self.high))
        }
        return {**usual(self.metrics), **bounds}


def usual(metrics: Mapping[str, float]) -> dict[str, float]:
    """What runs are compared by in MLflow, of `val_*`, `test_*` and `backtest_*`: the rest is in scores.json alone."""
    return {name: value for name, value in metrics.items() if not _in_files_only(*name.split("_", 1))}


def _in_files_only(prefix: str, metric: str) -> bool:
    return metric.endswith("_normalized_skill") or (prefix != "test" and metric.startswith(_OF_THE_TEST))


def scoring_of(own: Mapping[str, Scored], reference: Mapping[str, Scored], bounded: Sequence[str]) -> Scoring:
    """Metrics beside those of the reference on the same windows; `bounded`: prefixes that get intervals."""
    metrics = {
        f"{prefix}_{name}": value
        for prefix, split in SPLITS.items()
        for name, value in own[split].against(reference[split]).items()
    }
    folds = own["test"].table("fold")
    means, others = (_means(one) for one in (folds, reference["test"].table("fold")))
    metrics |= {f"backtest_{name}": value for name, value in with_skill(means, others).items()}
    bounds = {
        f"{prefix}_{name}": pair
        for prefix in bounded
        for name, pair in own[SPLITS[prefix]].bootstrap(reference[SPLITS[prefix]]).items()
    }
    low, high = ({name: pair[side] for name, pair in bounds.items()} for side in (0, 1))
    return Scoring(metrics, low, high, tuple(folds["rmse"]))


def _means(folds: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(values.mean()) for name, values in folds.drop(columns=["fold", "windows"]).items()}


def scored_splits(config: PipelineConfig, panel: PanelHandle, windows: WindowsHandle) -> dict[str, ScoredWindows]:
    """Validation and test, each window looking back as far as the longest of the search."""
    store = PanelStore.load(panel.folder)
    names, data = store.names, config.data
    scale = store.normalizer.target_scale(names)
    arrays = {name: SplitArrays.load(windows.folder / name) for name in ("train", "validation", "test")}
    training, season = arrays["train"], config.evaluate.season
    naive = naive_errors(training.series, training.segment, training.targets, season, len(names), scale)
    lookback = max(config.longest_lookback, season)
    frequency = None if data.frequency == "irregular" else Frequency.parse(data.frequency, data.timezone)
    seen = {
        name: arrays[name].windows(lookback, config.window.horizon, windows.n_known) for name in ("validation", "test")
    }
    return {name: ScoredWindows.of(arrays[name], one, scale, naive, names, frequency) for name, one in seen.items()}


def forecaster_of(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    validation: ScoredWindows,
    trials: Sequence[Trial],
    run: RunHandle,
    weights: tuple[float, ...] | None = None,
) -> Forecaster:
    """A Forecaster of these trials' networks, its intervals from its validation forecast.

    `weights`: of each, by default what the ensemble's method makes of their validation forecasts.
    """
    if weights is None:
        weights = weights_of(config.ensemble.method, forecasts_of(trials), validation.actual)
    store, members = PanelStore.load(panel.folder), tuple(_network(trial) for trial in trials)
    told = [{"trial": one.name, "epochs": len(history_of(one.folder))} for one in trials]
    nothing = np.zeros((99, config.window.horizon, len(config.data.target)))
    made = Forecaster(
        name=config.name,
        spec=config.data,
        levels=store.levels,
        normalizer=store.normalizer,
        left_out=tuple(dict.fromkeys((*store.left_out, *windows.too_short))),
        series=store.names if any(member.config.series_embedding for member in members) else (),
        members=members,
        weights=weights,
        method=config.ensemble.method,
        intervals=Conformal(nothing),
        lineage={"run_id": run.run_id, "run_name": run.name, **runs.lineage(config, table), "members": told},
    )
    prediction, newest = made.predict_windows(validation.windows), validation.times.max()
    return replace(made, intervals=Conformal.fit(validation.actual, prediction, until=newest))


def forecasts_of(trials: Sequence[Trial]) -> list[np.ndarray]:
    """Each trial's validation forecast: (windows, horizon, targets), normalised."""
    return [np.load(trial.folder / "validation.npy") for trial in trials]


def _network(trial: Trial) -> ForecastNetwork:
    tensors, meta = load_checkpoint(trial.folder / "network.safetensors")
    sizes = (meta["n_known"], meta["n_series"])
    network = ForecastNetwork(ModelConfig.parse(meta["config"]), range(meta["n_targets"]), *sizes)
    network.load_state_dict(tensors)
    return network.eval()


def candidate(kind: str, made: Forecaster, run: RunHandle, splits: Splits) -> Contender:
    """A forecaster's predictions of each split."""
    predictions = {name: made.predict_windows(split.windows) for name, split in splits.items()}
    return Contender(run.name, kind, run, made.intervals, predictions)


def baselines(
    config: PipelineConfig, windows: WindowsHandle, splits: Splits, names: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, Prediction]], dict[str, str]]:
    """Predictions of each split by baseline (of `evaluate.baselines`, or some), and why others can't be fitted."""
    season, stride = config.evaluate.season, config.window.stride
    validation = splits["validation"].windows
    shape = (validation.sequence_length, config.window.horizon, windows.n_known)
    training = SplitArrays.load(windows.folder / "train").windows(*shape, stride=stride)
    fitted, left_out = fit_baselines(names or config.evaluate.baselines, training, validation, season)
    made = {
        name: {split: Prediction(one.forecast(scored.windows)) for split, scored in splits.items()}
        for name, one in fitted.items()
    }
    return made, left_out


def baseline(name: str, predictions: Mapping[str, Prediction], run: RunHandle, splits: Splits) -> Contender:
    """With intervals of its own, from its validation errors."""
    intervals = Conformal.fit(splits["validation"].actual, predictions["validation"])
    return Contender(name, "baseline", run, intervals, predictions)


def evaluated(
    made: Forecaster,
    kind: str,
    splits: dict[str, ScoredWindows],
    config: PipelineConfig,
    windows: WindowsHandle,
    run: RunHandle,
) -> tuple[Forecaster, dict[str, float]]:
    """The forecaster as it would be registered, and `val_*`, `test_*` and `backtest_*` of every metric as logged."""
    contender = candidate(kind, made, run, splits)
    naive = baselines(config, windows, splits, (REFERENCE,))[0][REFERENCE]
    reference = baseline(REFERENCE, naive, run, splits)
    own, beside = (one.scored(splits, config) for one in (contender, reference))
    deployed = replace(made, intervals=contender.intervals_now(splits["test"], config))
    return deployed, scoring_of(own, beside, ("test",)).logged
