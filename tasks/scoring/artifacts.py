"""Files of an evaluation, in a folder and in MLflow: scores, tables by group, findings and plots."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from matplotlib.figure import Figure

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.diagnosis import Finding
from lstm.diagnostics.leakage import Audit
from lstm.evaluation.scoring import By, ErrorSums
from lstm.forecasting.ensemble import score_methods
from lstm.metrics.metrics import band_levels
from tasks.handles import RunHandle, Trial
from tasks.reporting import forecast_plots, training_plots
from tasks.reporting.plotting import save_plots
from tasks.runtime.json_values import nan_to_null
from tasks.scoring.candidates import REFERENCE, ModelForecasts, ModelScores, Splits, validation_forecasts
from tasks.search.trial_folder import history_of
from tasks.tracking import runs

FOLDER = "evaluation"  # of the run's artifacts
_FILES = {by: "backtest.csv" if by == "fold" else f"by_{by}.csv" for by in get_args(By)}
_ENSEMBLE_PLOTS = ("forecast_vs_actual.png", "error_by_horizon.png", "residuals.png")


@dataclass(frozen=True)
class EvaluationResults:
    """Results of an evaluation, as its files hold them."""

    splits: Splits
    models: Sequence[ModelForecasts]
    sums: Mapping[str, Mapping[str, ErrorSums]]  # by model and split
    scores: Mapping[str, ModelScores]  # by model
    members: Sequence[Trial]  # of the ensemble
    findings: Sequence[Finding]
    audit: Audit

    @property
    def ensemble(self) -> ModelForecasts:
        """Forecasts of the ensemble."""
        return next(model for model in self.models if model.kind == "best-ensemble")


def log_evaluation(folder: Path, config: PipelineConfig, results: EvaluationResults, run: RunHandle) -> None:
    """Write the folder and log it to the run; log plots of the ensemble's forecasts to the ensemble's run too."""
    folder.mkdir(parents=True, exist_ok=True)
    methods = score_methods(validation_forecasts(results.members), results.splits["validation"].actual)
    content = {
        "scores": _scores(results),
        "findings": [asdict(finding) for finding in results.findings],
        "ensembles": methods,
        "audit": results.audit.to_dict(),
    }
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1, allow_nan=False))
    for by, file in _FILES.items():
        metrics_by_group(results, by).to_csv(folder / file, index=False)
    save_plots(folder, dict(_plots(config, results)))
    client, ensemble = runs.client(), results.ensemble
    client.log_artifacts(run.run_id, str(folder), FOLDER)
    for file in _ENSEMBLE_PLOTS:
        client.log_artifact(ensemble.run.run_id, str(folder / file), FOLDER)
    runs.log(ensemble.run, {f"val_rmse_normalized_by_{method}": rmse for method, rmse in methods.items()})


def metrics_by_group(results: EvaluationResults, by: By) -> pd.DataFrame:
    """Return test metrics of every model by group: columns `model`, the group's, `windows` and the metrics."""
    reference = results.sums[REFERENCE]["test"]
    tables = [
        results.sums[model.name]["test"].table(by, reference).assign(model=model.name) for model in results.models
    ]
    metrics = pd.concat(tables, ignore_index=True)
    return metrics[["model", *metrics.columns.drop("model")]]


def _scores(results: EvaluationResults) -> dict[str, Any]:
    scores = {}
    for model in results.models:
        result = results.scores[model.name]
        values = {"metrics": result.metrics, "low": result.low, "high": result.high}
        scores[model.name] = {"kind": model.kind, **nan_to_null(values)}
    return scores


def _plots(config: PipelineConfig, results: EvaluationResults) -> Iterator[tuple[str, Figure]]:
    test, ensemble = results.splits["test"], results.ensemble
    point = ensemble.predictions["test"].point
    bands = dict(ensemble.bands(results.splits, "test", config.evaluate.levels, config))
    histories = {trial.name: history_of(trial.folder) for trial in results.members}
    yield "training_curves", training_plots.training_curves(histories, config)
    yield "forecast_vs_actual", forecast_plots.forecast_vs_actual(test, point, bands, config)
    yield "error_by_horizon", forecast_plots.error_by_horizon(metrics_by_group(results, "horizon"), config)
    yield "residuals", forecast_plots.residuals(test, point, config)
    yield "calibration", forecast_plots.calibration(_coverage(config, results), config)
    yield "leaderboard", forecast_plots.leaderboard(_scores(results), config)


def _coverage(config: PipelineConfig, results: EvaluationResults) -> dict[str, dict[int, float]]:
    """Return each candidate's empirical test coverage by level, 0 to 1."""
    coverage = {}
    for model in results.models:
        if model.kind != "baseline":
            sums = results.sums[model.name]["test"].sums.by_window
            count = max(float(sums["count"].sum()), 1)
            levels = band_levels(config.evaluate.levels)
            coverage[model.name] = {level: float(sums[f"inside_{level}"].sum()) / count for level in levels}
    return coverage
