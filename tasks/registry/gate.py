"""What a candidate must pass to become champion: it serves, it beats the baseline, it beats the champion."""

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
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.errors import InputError, StoreError
from lstm.evaluation.comparison import Comparison, Verdict, beats, better
from lstm.evaluation.incumbent import compare
from lstm.forecasting.forecaster import Forecaster
from tasks.handles import Candidate, Evaluation, PanelHandle, WindowsHandle
from tasks.registry.models import fetched, load_forecaster
from tasks.registry.promotion import Check, Promotion
from tasks.scoring.candidates import scored_splits


@dataclass(frozen=True)
class Case:
    """A registered candidate, and what it is judged by."""

    config: PipelineConfig
    table: Table
    panel: PanelHandle
    windows: WindowsHandle
    evaluation: Evaluation
    best: Candidate
    version: int
    example: pd.DataFrame  # raw history, as a caller would send it
    notice: str = ""

    @property
    def baseline(self) -> dict[str, Any]:
        """Its row of the leaderboard."""
        return next(row for row in self.evaluation.leaderboard if row["name"] == self.config.register_.gate.beats)


def judge(case: Case, own: tuple[Check, ...], incumbent: int | None) -> Promotion:
    """Whether the candidate should be champion.

    Args:
        case: the candidate.
        own: its checks that no champion matters to.
        incumbent: the champion's version.

    Raises:
        StoreError: the champion can't be fetched, so that nobody knows whether it is worse.
    """
    if incumbent == case.version:
        return _decided(case, own, True, "is the champion already", incumbent)
    failed = next((check for check in own if not check.passed), None)
    if failed:
        return _decided(case, own, False, failed.reason, incumbent)
    beaten = own[-1].reason
    if incumbent is None:
        return _decided(case, own, True, f"{beaten}; there was no champion", None)
    verdict, figures = against_champion(case, incumbent)
    checks = (*own, Check("champion", verdict.passed, verdict.reason))
    reason = f"{beaten}; {verdict.reason}" if verdict.passed else verdict.reason
    return _decided(case, checks, verdict.passed, reason, incumbent, figures)


def own_checks(case: Case) -> tuple[Check, ...]:
    """Whether it serves, and then whether it beats the baseline on the backtest."""
    served = serves(case)
    checks = (Check("serves", served.passed, served.reason),)
    if not served.passed:
        return checks
    name, folds = case.config.register_.gate.beats, case.evaluation.folds
    ours, theirs = case.best.scores["test_rmse"], case.baseline["test_rmse"]
    beaten = beats(ours, theirs, folds[case.best.label], folds[name], name)
    return (*checks, Check("baseline", beaten.passed, beaten.reason))


def serves(case: Case) -> Verdict:
    """Whether the version, asked as MLflow's scoring server is asked, gives the forecaster's own numbers, all finite.

    The request and the answer are JSON and take the server's own way, in this process.
    """
    levels = case.config.evaluate.levels
    try:
        direct = Forecaster.load(case.best.folder).forecast(case.example, levels=levels)
        answered = _invoked(f"{case.config.name}/{case.version}", case.example)
    except (InputError, MlflowException) as error:
        said = next((line for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
        return Verdict(False, f"can't be served: {said[:300].rstrip('.')}")
    if list(answered.columns) != list(direct.columns) or len(answered) != len(direct):
        return Verdict(False, "can't be served: the served table has other rows or columns than the forecaster's own")
    numbers = direct.select_dtypes("number").columns
    if not np.isfinite(direct[numbers]).all(axis=None):
        return Verdict(False, "its forecast of the newest rows is not finite")
    answered["time"] = pd.to_datetime(answered["time"], utc=True)
    for name in direct.columns:
        if (direct[name].to_numpy() != answered[name].to_numpy()).any():
            return Verdict(False, f"column {name!r} is served with other values than the forecaster's own")
    return Verdict(True, "served numbers are the forecaster's own")


def _invoked(version: str, frame: pd.DataFrame) -> pd.DataFrame:
    split = frame.astype(object).where(frame.notna(), None).to_dict("split")
    body = json.dumps({"dataframe_split": {"columns": split["columns"], "data": split["data"]}})
    server: Any = scoring_server
    with TemporaryDirectory(ignore_cleanup_errors=True) as scratch, _same_path():
        served = mlflow.pyfunc.load_model(str(fetched(version, scratch, runs=True)))
        answer = server.invocations(body, "application/json", served, served.metadata.get_input_schema())
    if answer.status != 200:
        raise MlflowException(answer.response)
    return pd.DataFrame(json.loads(answer.response)["predictions"])


@contextmanager
def _same_path() -> Iterator[None]:
    """MLflow leaves the model's folder on the path of the imports."""
    before = sys.path
    try:
        yield
    finally:
        sys.path = before


def against_champion(case: Case, incumbent: int) -> tuple[Verdict, dict[str, Any]]:
    """Whether it beats the champion on the same most recent windows, with the figures.

    Raises:
        StoreError: the champion can't be fetched.
        CheckpointError: the candidate is damaged.
    """
    name = f"the champion, version {incumbent}"
    useless = f"{name}, can't forecast these windows"
    candidate = Forecaster.load(case.best.folder)
    try:
        found = _compared(case, candidate, incumbent)
    except StoreError:  # it may be better than the candidate
        raise
    except InputError as error:
        return Verdict(True, f"{useless} ({str(error).rstrip('.')})"), {}
    figures = {"test_rmse": found.rmse, "incumbent_test_rmse": found.incumbent_rmse, "origins": found.origins}
    if not isfinite(found.rmse):
        return Verdict(False, f"its RMSE on the windows of {name}, is {found.rmse}"), figures
    if not isfinite(found.incumbent_rmse):
        return Verdict(True, f"{useless} (its RMSE is {found.incumbent_rmse})"), figures
    rule = case.config.register_.gate.against_champion
    verdict, more = better(found, rule.alpha, rule.min_effect, name)
    return verdict, {**figures, **more, "alpha": rule.alpha, "min_effect": rule.min_effect}


def _compared(case: Case, candidate: Forecaster, incumbent: int) -> Comparison:
    """Candidate and champion on the windows of the test span, each with its own look-back before it."""
    champion, _ = load_forecaster(f"{case.config.name}/{incumbent}")
    store = PanelStore.load(case.panel.folder)
    seen = case.table.part(since=_reach(store.cuts.test, champion), until=store.cuts.end)
    test = scored_splits(case.config, case.panel, case.windows)["test"]
    return compare(candidate, champion, seen, test, store.names)


def _reach(moment: np.datetime64, forecaster: Forecaster) -> np.datetime64 | None:
    """Before which time nothing matters to forecasts from `moment` on; None: everything may."""
    if forecaster.spec.frequency == "irregular":
        return None
    # Calendar steps are of unequal length: twice the average covers them.
    step = Frequency.parse(forecaster.spec.frequency).step.to_timedelta64()
    return moment - 2 * forecaster.reach * step


def _decided(
    case: Case,
    checks: tuple[Check, ...],
    champion: bool,
    reason: str,
    incumbent: int | None,
    figures: dict[str, Any] | None = None,
) -> Promotion:
    folds, baseline = case.evaluation.folds, case.config.register_.gate.beats
    won = sum(ours < theirs for ours, theirs in zip(folds[case.best.label], folds[baseline], strict=True))
    values: dict[str, Any] = {
        "test_rmse": case.best.scores["test_rmse"],
        "baseline": baseline,
        "baseline_test_rmse": case.baseline["test_rmse"],
        "folds_won": won,
        "folds": len(folds[baseline]),
        **(figures or {}),
    }
    rmse = case.best.scores["val_rmse"]
    return Promotion(
        case.version,
        case.best.kind,
        champion,
        reason,
        rmse,
        **values,
        incumbent_version=incumbent,
        checks=checks,
        notice=case.notice,
    )
