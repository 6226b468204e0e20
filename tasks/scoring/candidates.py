"""Candidates and baselines on the same windows: forecasts, intervals and scores."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from lstm.config.model import ModelConfig
from lstm.config.pipeline import PipelineConfig
from lstm.evaluation.bands import adaptive_bands, split_bands
from lstm.evaluation.baselines import fit_baselines
from lstm.evaluation.scoring import ErrorSums, ScoredWindows
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import ensemble_weights
from lstm.forecasting.forecaster import Forecaster
from lstm.forecasting.prediction import Prediction
from lstm.metrics.metrics import Band, band_levels
from lstm.metrics.skill import with_skill
from lstm.networks.checkpoint import load_checkpoint
from lstm.networks.network import ForecastNetwork
from tasks.handles import RunHandle, Trial
from tasks.run_context import PreparedData
from tasks.search.trial_folder import history_of
from tasks.tracking import runs

REFERENCE = "seasonal_naive"  # the baseline that skills are relative to
SPLITS = {"val": "validation", "test": "test"}  # prefix of the metrics -> split
_BOOTSTRAPPED = ("rmse", "mae", "rmse_skill")  # test metrics whose bootstrap intervals are logged to MLflow
_TEST_ONLY = ("crps", "owa", "width", "mape_left_out")  # logged to MLflow of the test alone
Splits = Mapping[str, ScoredWindows]


@dataclass(frozen=True)
class ModelForecasts:
    """Forecasts of one model of the leaderboard, a candidate or a baseline, with its intervals."""

    name: str
    kind: str  # best-single | best-ensemble | baseline
    run: RunHandle
    intervals: Conformal  # calibrated on validation
    predictions: Mapping[str, Prediction]  # by split: validation, test

    def bands(
        self, splits: Splits, split: str, levels: Sequence[int], config: PipelineConfig
    ) -> Iterator[tuple[int, Band]]:
        """Yield level and band, one level at a time. Test bands are adaptive if `evaluate.intervals` says so."""
        adaptive = split == "test" and config.evaluate.intervals == "adaptive"
        bands_of = adaptive_bands if adaptive else split_bands
        return bands_of(self.intervals, splits[split], self.predictions[split], levels)

    def error_sums(self, splits: Splits, config: PipelineConfig) -> dict[str, ErrorSums]:
        """Return the sums that all metrics follow from, by split."""
        levels, folds = config.evaluate.levels, config.evaluate.backtest.folds
        return {
            split: splits[split].score(
                prediction.point, self.bands(splits, split, band_levels(levels), config), levels, folds
            )
            for split, prediction in self.predictions.items()
        }

    def deployable_intervals(self, test: ScoredWindows, config: PipelineConfig) -> Conformal:
        """Return the intervals to deploy; adaptive ones are updated with the test errors first."""
        if config.evaluate.intervals == "split":
            return self.intervals
        return self.intervals.update(test.origins, test.actual, self.predictions["test"])


@dataclass(frozen=True)
class ModelScores:
    """Metrics of one model with 95 % bootstrap intervals, and its test RMSE by fold."""

    metrics: dict[str, float]  # val_*, test_*, backtest_* (mean over the folds)
    low: dict[str, float]
    high: dict[str, float]
    folds: tuple[float, ...]

    @property
    def logged(self) -> dict[str, float]:
        """Headline metrics, and bounds of the bootstrapped ones."""
        bounds = {
            f"test_{name}_{side}": values.get(f"test_{name}", float("nan"))
            for name in _BOOTSTRAPPED
            for side, values in (("low", self.low), ("high", self.high))
        }
        return {**headline_metrics(self.metrics), **bounds}


def headline_metrics(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return those of `val_*`, `test_*` and `backtest_*` that MLflow compares; scores.json holds all of them."""
    return {name: value for name, value in metrics.items() if _is_headline(*name.split("_", 1))}


def _is_headline(prefix: str, metric: str) -> bool:
    return not metric.endswith("_normalized_skill") and (prefix == "test" or not metric.startswith(_TEST_ONLY))


def model_scores(
    sums: Mapping[str, ErrorSums], reference: Mapping[str, ErrorSums], bootstrapped: Sequence[str]
) -> ModelScores:
    """Return metrics, and skills against the reference on the same windows.

    Args:
        sums: by split.
        reference: the same of the baseline `REFERENCE`.
        bootstrapped: prefixes of the metrics that get intervals, `val` or `test`.
    """
    metrics = {
        f"{prefix}_{name}": value
        for prefix, split in SPLITS.items()
        for name, value in sums[split].relative_to(reference[split]).items()
    }
    folds = sums["test"].table("fold")
    means, reference_means = _fold_means(folds), _fold_means(reference["test"].table("fold"))
    metrics |= {f"backtest_{name}": value for name, value in with_skill(means, reference_means).items()}
    bounds = {
        f"{prefix}_{name}": bound
        for prefix in bootstrapped
        for name, bound in sums[SPLITS[prefix]].bootstrap(reference[SPLITS[prefix]]).items()
    }
    low, high = ({name: bound[side] for name, bound in bounds.items()} for side in (0, 1))
    return ModelScores(metrics, low, high, tuple(folds["rmse"]))


def _fold_means(folds: pd.DataFrame) -> dict[str, float]:
    return {str(name): float(values.mean()) for name, values in folds.drop(columns=["fold", "windows"]).items()}


def build_forecaster(
    data: PreparedData, trials: Sequence[Trial], run: RunHandle, weights: tuple[float, ...] | None = None
) -> tuple[Forecaster, Prediction]:
    """Build a forecaster of the trials' networks, with intervals from its validation errors.

    Args:
        data: of the run.
        trials: of the members.
        run: training run that the lineage names.
        weights: of the members; default: by `ensemble.method` from the validation forecasts.

    Returns:
        The forecaster, and its prediction of the validation windows.
    """
    config, panel, validation = data.config, data.panel, data.splits["validation"]
    if weights is None:
        weights = ensemble_weights(config.ensemble.method, validation_forecasts(trials), validation.actual)
    members = tuple(_load_network(trial) for trial in trials)
    recorded = [{"trial": trial.name, "epochs": len(history_of(trial.folder))} for trial in trials]
    uncalibrated = Conformal(np.zeros((99, config.window.horizon, len(config.data.target))))
    forecaster = Forecaster(
        name=config.name,
        spec=config.data,
        categories=panel.categories,
        normalizer=panel.normalizer,
        left_out=tuple(dict.fromkeys((*panel.left_out, *data.windows.too_short))),
        series=panel.names if any(member.config.series_embedding for member in members) else (),
        members=members,
        weights=weights,
        method=config.ensemble.method,
        intervals=uncalibrated,
        lineage={"run_id": run.run_id, "run_name": run.name, **runs.lineage(config, data.table), "members": recorded},
    )
    prediction = forecaster.predict_windows(validation.windows)
    intervals = Conformal.fit(validation.actual, prediction, calibrated_until=validation.times.max())
    return replace(forecaster, intervals=intervals), prediction


def validation_forecasts(trials: Sequence[Trial]) -> list[np.ndarray]:
    """Return each trial's validation forecast: (windows, horizon, targets), normalised."""
    return [np.load(trial.folder / "validation.npy") for trial in trials]


def _load_network(trial: Trial) -> ForecastNetwork:
    tensors, meta = load_checkpoint(trial.folder / "network.safetensors")
    sizes = (meta["n_known"], meta["n_series"])
    network = ForecastNetwork(ModelConfig.parse(meta["config"]), range(meta["n_targets"]), *sizes)
    network.load_state_dict(tensors)
    return network.eval()


def candidate_forecasts(
    kind: str, forecaster: Forecaster, validation: Prediction, run: RunHandle, splits: Splits
) -> ModelForecasts:
    """Predict the test windows; `validation` is the prediction of the validation windows."""
    predictions = {"validation": validation, "test": forecaster.predict_windows(splits["test"].windows)}
    return ModelForecasts(run.name, kind, run, forecaster.intervals, predictions)


def predict_baselines(
    data: PreparedData, names: Sequence[str] | None = None
) -> tuple[dict[str, dict[str, Prediction]], dict[str, str]]:
    """Fit baselines and predict both splits.

    Args:
        data: of the run.
        names: of the baselines; default: `evaluate.baselines`.

    Returns:
        Predictions by baseline and split, and by baseline why it can't be fitted.
    """
    config, validation = data.config, data.splits["validation"].windows
    fitted, left_out = fit_baselines(
        names or config.evaluate.baselines, data.training_windows, validation, config.evaluate.season
    )
    predictions = {
        name: {split: Prediction(baseline.forecast(scored.windows)) for split, scored in data.splits.items()}
        for name, baseline in fitted.items()
    }
    return predictions, left_out


def baseline_forecasts(
    name: str, predictions: Mapping[str, Prediction], run: RunHandle, splits: Splits
) -> ModelForecasts:
    """Calibrate a baseline's intervals on its validation errors."""
    intervals = Conformal.fit(splits["validation"].actual, predictions["validation"])
    return ModelForecasts(name, "baseline", run, intervals, predictions)


def score_forecaster(
    data: PreparedData, kind: str, trials: Sequence[Trial], run: RunHandle, weights: tuple[float, ...] | None = None
) -> tuple[Forecaster, dict[str, float]]:
    """Build a forecaster as for registration; return it with its headline metrics.

    Args:
        data: of the run.
        kind: best-single or best-ensemble.
        trials, run, weights: see `build_forecaster`.
    """
    forecaster, validation = build_forecaster(data, trials, run, weights)
    ours = candidate_forecasts(kind, forecaster, validation, run, data.splits)
    predictions, _ = predict_baselines(data, (REFERENCE,))
    reference = baseline_forecasts(REFERENCE, predictions[REFERENCE], run, data.splits)
    sums, reference_sums = (model.error_sums(data.splits, data.config) for model in (ours, reference))
    intervals = ours.deployable_intervals(data.splits["test"], data.config)
    return replace(forecaster, intervals=intervals), model_scores(sums, reference_sums, ("test",)).logged
