"""The gate: a candidate becomes champion if it serves, beats the baseline and beats the champion."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from tempfile import TemporaryDirectory
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from lstm.calendars.frequency import Frequency
from lstm.errors import InputError, StoreError
from lstm.evaluation.comparison import Comparison, Verdict, judge_against_baseline, judge_against_incumbent
from lstm.evaluation.incumbent import compare_forecasters
from lstm.forecasting.forecaster import Forecaster
from tasks.handles import Candidate, Evaluation
from tasks.registry.decision import Check, GateDecision
from tasks.registry.models import download_artifacts, load_forecaster
from tasks.run_context import PreparedData


@dataclass(frozen=True)
class GateCase:
    """A registered candidate with all that the gate needs to judge it."""

    data: PreparedData
    evaluation: Evaluation
    candidate: Candidate
    version: int
    example: pd.DataFrame  # raw history in the form of the source
    notice: str = ""

    @property
    def baseline(self) -> dict[str, Any]:
        """The row of the leaderboard of `register.gate.beats`."""
        return next(row for row in self.evaluation.leaderboard if row["name"] == self.data.config.register_.gate.beats)


def judge(case: GateCase, standalone: tuple[Check, ...], incumbent: int | None) -> GateDecision:
    """Decide whether the candidate becomes champion.

    Args:
        case: the candidate.
        standalone: result of `standalone_checks`.
        incumbent: version of the current champion; None: there is none.

    Raises:
        StoreError: the champion can't be downloaded, so that it can't be compared.
    """
    if incumbent == case.version:
        return _decision(case, standalone, True, "is the champion already", incumbent)
    failed = next((check for check in standalone if not check.passed), None)
    if failed:
        return _decision(case, standalone, False, failed.reason, incumbent)
    baseline_reason = standalone[-1].reason
    if incumbent is None:
        return _decision(case, standalone, True, f"{baseline_reason}; there was no champion", None)
    verdict, figures = compare_to_champion(case, incumbent)
    checks = (*standalone, Check("champion", verdict.passed, verdict.reason))
    reason = f"{baseline_reason}; {verdict.reason}" if verdict.passed else verdict.reason
    return _decision(case, checks, verdict.passed, reason, incumbent, figures)


def standalone_checks(case: GateCase) -> tuple[Check, ...]:
    """Run the checks that need no champion: it serves, and it beats the baseline on the test folds."""
    served = serves(case)
    checks = (Check("serves", served.passed, served.reason),)
    if not served.passed:
        return checks
    name, folds = case.data.config.register_.gate.beats, case.evaluation.folds
    ours, theirs = case.candidate.scores["test_rmse"], case.baseline["test_rmse"]
    beaten = judge_against_baseline(ours, theirs, folds[case.candidate.label], folds[name], name)
    return (*checks, Check("baseline", beaten.passed, beaten.reason))


def serves(case: GateCase) -> Verdict:
    """Check that the version, behind MLflow's scoring server, answers with the forecaster's own finite numbers.

    The JSON request goes through the server's handler, in this process.
    """
    levels = case.data.config.evaluate.levels
    try:
        direct = Forecaster.load(case.candidate.folder).forecast(case.example, levels=levels)
        served = _invoke_server(f"{case.data.config.name}/{case.version}", case.example)
    except (InputError, MlflowException) as error:
        reason = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        return Verdict(False, f"can't be served: {reason[:300].rstrip('.')}")
    if list(served.columns) != list(direct.columns) or len(served) != len(direct):
        return Verdict(False, "can't be served: the served table has other rows or columns than the forecaster's own")
    numbers = direct.select_dtypes("number").columns
    if not np.isfinite(direct[numbers]).all(axis=None):
        return Verdict(False, "its forecast of the newest rows is not finite")
    served["time"] = pd.to_datetime(served["time"], utc=True)
    for name in direct.columns:
        if (direct[name].to_numpy() != served[name].to_numpy()).any():
            return Verdict(False, f"column {name!r} is served with other values than the forecaster's own")
    return Verdict(True, "served numbers are the forecaster's own")


def _invoke_server(version: str, frame: pd.DataFrame) -> pd.DataFrame:
    split = frame.astype(object).where(frame.notna(), None).to_dict("split")
    body = json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"]}})
    server: Any = scoring_server
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch, _restore_sys_path():
        model = mlflow.pyfunc.load_model(str(download_artifacts(version, scratch, runs_code=True)))
        answer = server.invocations(body, "application/json", model, model.metadata.get_input_schema())
    if answer.status != 200:
        raise MlflowException(answer.response)
    return pd.DataFrame(json.loads(answer.response)["predictions"])


@contextmanager
def _restore_sys_path() -> Iterator[None]:
    """Undo MLflow's change of `sys.path`, which it leaves pointing at the model's folder."""
    before = sys.path
    try:
        yield
    finally:
        sys.path = before


def compare_to_champion(case: GateCase, incumbent: int) -> tuple[Verdict, dict[str, Any]]:
    """Compare candidate and champion on the same windows of the test span; return verdict and figures.

    Raises:
        StoreError: the champion can't be downloaded.
        CheckpointError: the candidate is damaged.
    """
    name = f"the champion, version {incumbent}"
    unusable = f"{name}, can't forecast these windows"
    candidate = Forecaster.load(case.candidate.folder)
    try:
        comparison = _compare_windows(case, candidate, incumbent)
    except StoreError:  # says nothing about the champion's quality
        raise
    except InputError as error:
        return Verdict(True, f"{unusable} ({str(error).rstrip('.')})"), {}
    figures = {
        "test_rmse": comparison.rmse,
        "incumbent_test_rmse": comparison.incumbent_rmse,
        "origins": comparison.origins,
    }
    if not isfinite(comparison.rmse):
        return Verdict(False, f"its RMSE on the windows of {name}, is {comparison.rmse}"), figures
    if not isfinite(comparison.incumbent_rmse):
        return Verdict(True, f"{unusable} (its RMSE is {comparison.incumbent_rmse})"), figures
    rule = case.data.config.register_.gate.against_champion
    verdict, statistics = judge_against_incumbent(comparison, rule.alpha, rule.min_effect, name)
    return verdict, {**figures, **statistics, "alpha": rule.alpha, "min_effect": rule.min_effect}


def _compare_windows(case: GateCase, candidate: Forecaster, incumbent: int) -> Comparison:
    """Score candidate and champion on the windows of the test span, each with its own lookback."""
    champion, _ = load_forecaster(f"{case.data.config.name}/{incumbent}")
    panel = case.data.panel
    rows = case.data.table.read_rows(since=_history_start(panel.cuts.test, champion), until=panel.cuts.end)
    return compare_forecasters(candidate, champion, rows, case.data.splits["test"], panel.names)


def _history_start(first_origin: np.datetime64, forecaster: Forecaster) -> np.datetime64 | None:
    """Return the first time that forecasts from `first_origin` on depend on; None: all of the history."""
    if forecaster.spec.frequency == "irregular":
        return None
    # Calendar steps differ in length; twice the average covers them.
    step = Frequency.parse(forecaster.spec.frequency).step.to_timedelta64()
    return first_origin - 2 * forecaster.reach * step


def _decision(
    case: GateCase,
    checks: tuple[Check, ...],
    champion: bool,
    reason: str,
    incumbent: int | None,
    figures: dict[str, Any] | None = None,
) -> GateDecision:
    folds, baseline = case.evaluation.folds, case.data.config.register_.gate.beats
    folds_won = sum(ours < theirs for ours, theirs in zip(folds[case.candidate.label], folds[baseline], strict=True))
    values: dict[str, Any] = {
        "test_rmse": case.candidate.scores["test_rmse"],
        "baseline": baseline,
        "baseline_test_rmse": case.baseline["test_rmse"],
        "folds_won": folds_won,
        "folds": len(folds[baseline]),
        **(figures or {}),
    }
    rmse = case.candidate.scores["val_rmse"]
    return GateDecision(
        case.version,
        case.candidate.kind,
        champion,
        reason,
        rmse,
        **values,
        incumbent_version=incumbent,
        checks=checks,
        notice=case.notice,
    )
