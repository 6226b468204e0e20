"""What an evaluation leaves for readers: scores, tables by group, findings and pictures, in a folder and in MLflow."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from matplotlib.figure import Figure

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.diagnosis import Finding
from lstm.diagnostics.leakage import Audit
from lstm.evaluation.scoring import By, Scored
from lstm.forecasting.ensemble import method_scores
from lstm.metrics.metrics import band_levels
from tasks.handles import RunHandle, Trial
from tasks.reporting import forecast_plots
from tasks.reporting.plotting import save_pictures
from tasks.scoring.candidates import REFERENCE, Contender, Scoring, Splits, forecasts_of
from tasks.search.trial_folder import history_of
from tasks.tracking import runs

FOLDER = "evaluation"  # of the run's artifacts
_FILES = {by: "backtest.csv" if by == "fold" else f"by_{by}.csv" for by in get_args(By)}


@dataclass(frozen=True)
class Results:
    """All that is told of an evaluation."""

    splits: Splits
    contenders: Sequence[Contender]
    scored: Mapping[str, Mapping[str, Scored]]
    scorings: Mapping[str, Scoring]
    members: Sequence[Trial]  # of the ensemble
    findings: Sequence[Finding]
    audit: Audit

    @property
    def ensemble(self) -> Contender:
        """The contender of several networks."""
        return next(one for one in self.contenders if one.kind == "best-ensemble")


def log_evaluation(folder: Path, config: PipelineConfig, results: Results, run: RunHandle) -> None:
    """Write the folder, and log it to the run; the ensemble's run gets the pictures of its forecasts."""
    folder.mkdir(parents=True, exist_ok=True)
    methods = _methods(results)
    content = {
        "scores": _scores(results),
        "findings": [asdict(one) for one in results.findings],
        "ensembles": methods,
        "audit": results.audit.to_dict(),
    }
    for name, value in content.items():
        (folder / f"{name}.json").write_text(json.dumps(value, indent=1, allow_nan=False))
    for by, file in _FILES.items():
        table(results, by).to_csv(folder / file, index=False)
    save_pictures(folder, dict(_pictures(config, results)))
    client, ensemble = runs.client(), results.ensemble
    client.log_artifacts(run.run_id, str(folder), FOLDER)
    for name in ("forecast_vs_actual.png", "error_by_horizon.png", "residuals.png"):
        client.log_artifact(ensemble.run.run_id, str(folder / name), FOLDER)
    runs.log(ensemble.run, {f"val_rmse_normalized_by_{name}": value for name, value in methods.items()})


def table(results: Results, by: By) -> pd.DataFrame:
    """Test metrics of every contender by group: columns `model`, the group's, `windows` and the metrics."""
    reference = results.scored[REFERENCE]["test"]
    parts = [(one.name, results.scored[one.name]["test"].table(by, reference)) for one in results.contenders]
    return pd.concat([part.assign(model=name) for name, part in parts], ignore_index=True)[
        ["model", *parts[0][1].columns]
    ]


def _methods(results: Results) -> dict[str, float]:
    """Normalised validation RMSE of the same members by each way to combine them."""
    return method_scores(forecasts_of(results.members), results.splits["validation"].actual)


def _scores(results: Results) -> dict[str, Any]:
    return {
        one.name: {"kind": one.kind, **{part: _finite(getattr(found, part)) for part in ("metrics", "low", "high")}}
        for one in results.contenders
        for found in (results.scorings[one.name],)
    }


def _finite(values: Mapping[str, float]) -> dict[str, float | None]:
    return {name: value if isfinite(value) else None for name, value in values.items()}


def _pictures(config: PipelineConfig, results: Results) -> Iterator[tuple[str, Figure]]:
    test, ensemble = results.splits["test"], results.ensemble
    point = ensemble.predictions["test"].point
    bands = dict(ensemble.bands(results.splits, "test", config.evaluate.levels, config))
    histories = {one.name: history_of(one.folder) for one in results.members}
    yield "training_curves", forecast_plots.training_curves(histories, config)
    yield "forecast_vs_actual", forecast_plots.forecast_vs_actual(test, point, bands, config)
    yield "error_by_horizon", forecast_plots.error_by_horizon(table(results, "horizon"), config)
    yield "residuals", forecast_plots.residuals(test, point, config)
    yield "calibration", forecast_plots.calibration(_coverage(config, results), config)
    yield "leaderboard", forecast_plots.leaderboard(_scores(results), config)


def _coverage(config: PipelineConfig, results: Results) -> dict[str, dict[int, float]]:
    """Share of the test inside the intervals of every level that was scored, of the candidates."""
    found = {}
    for one in results.contenders:
        if one.kind != "baseline":
            sums = results.scored[one.name]["test"].sums.by_window
            count = max(float(sums["count"].sum()), 1)
            levels = band_levels(config.evaluate.levels)
            found[one.name] = {level: float(sums[f"inside_{level}"].sum()) / count for level in levels}
    return found
