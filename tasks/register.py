"""Register the candidates, and make one of them champion if it has earned it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from math import isfinite
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec
from prefect import task
from prefect.cache_policies import NO_CACHE

import lstm
from lstm.data.frequency import Frequency
from lstm.data.ingest import Table
from lstm.data.rows import SERIES, TIME
from lstm.data.store import PanelStore
from lstm.errors import InputError, StoreError
from lstm.evaluation.incumbent import compare
from lstm.evaluation.scoring import ScoredWindows
from lstm.forecaster import Forecaster
from lstm.pipeline_config import PipelineConfig
from tasks import tracking
from tasks.evaluate import scored_splits
from tasks.handles import Candidate, Evaluation, PanelHandle, RunHandle, WindowsHandle
from tasks.registry import alias_version, create_version, load_forecaster, set_alias
from tasks.settings import tracking_uri

_NEEDS = ("holidays", "numpy", "pandas", "pydantic", "pyyaml", "rich", "safetensors", "torch")
_EXAMPLE_SERIES = 3  # of the input example
_SERVED = Path(__file__).with_name("served_model.py")


@dataclass(frozen=True)
class Promotion:
    """What was decided, and why: the content of `promotion.json`."""

    version: int
    kind: str
    champion: bool
    reason: str
    val_rmse: float
    incumbent_version: int | None = None
    incumbent_val_rmse: float | None = None


@task(cache_policy=NO_CACHE, persist_result=False)
def register(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    evaluation: Evaluation,
    run: RunHandle,
) -> Promotion:
    """Register every candidate as a version; one of them meets the gate.

    The ensemble is proposed, unless the best single model is clearly better: validation ranks close ones by luck. It
    must beat the baseline that `register.gate.beats` names on validation, and, where there is a
    champion already, have a lower RMSE than it on the same validation windows. Else the champion
    stays and the candidate becomes `challenger`.

    Raises:
        StoreError: the champion can't be fetched, so that nobody knows whether it is worse.
    """
    mlflow.set_tracking_uri(tracking_uri())
    store = PanelStore.load(panel.folder)
    example = _example(config, table, store.names)
    versions = {candidate.kind: _register(config, candidate, example) for candidate in evaluation.candidates}
    for kind, number in versions.items():
        set_alias(config.name, kind, number)
    best = evaluation.proposed
    try:
        promotion = _judge(config, table, panel, windows, evaluation, best, versions[best.kind])
    except StoreError as error:
        set_alias(config.name, "challenger", versions[best.kind])
        kept = f"Nothing is promoted over it: {config.name}/{versions[best.kind]} is the challenger."
        raise StoreError(f"{error} {kept}") from None
    if promotion.champion:
        if promotion.incumbent_version is not None:
            set_alias(config.name, "previous", promotion.incumbent_version)
        set_alias(config.name, "champion", promotion.version)
    else:
        set_alias(config.name, "challenger", promotion.version)
    tracking.client().log_dict(run.run_id, asdict(promotion), "promotion.json")
    tracking.tag(run, champion=promotion.champion, registered_version=promotion.version)
    return promotion


def _register(config: PipelineConfig, candidate: Candidate, example: pd.DataFrame) -> int:
    with mlflow.start_run(run_id=candidate.run_id):
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(_SERVED),
            artifacts={"forecaster": str(candidate.folder)},
            code_paths=[str(Path(lstm.__file__).parent)],
            signature=_signature(config, example),
            input_example=example,
            # Named, since MLflow would take 15 seconds to find them out.
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in _NEEDS],
        )
    shown = {key: f"{candidate.scores[key]:.6g}" for key in ("val_rmse", "test_rmse", "test_rmse_skill")}
    tags = {"kind": candidate.kind, "run_name": candidate.label, **shown}
    return create_version(config.name, candidate.run_id, info.model_id, tags)


def _example(config: PipelineConfig, table: Table, names: Sequence[str]) -> pd.DataFrame:
    """The newest rows that a forecast of some series needs, as a caller would send them."""
    data = config.data
    rows = table.part(names if data.wide else names[:_EXAMPLE_SERIES])
    rows = rows.groupby(SERIES).tail(2 * config.longest_lookback + config.window.horizon)
    if data.known:  # they are needed for the steps ahead: the last rows stand for these
        ahead = rows.groupby(SERIES).cumcount(ascending=False) < config.window.horizon
        rows.loc[ahead, list(data.target)] = float("nan")
    local = rows[TIME].dt.tz_convert(data.timezone)
    rows[data.time] = (
        local.dt.strftime(data.time_format) if data.time_format else rows[TIME].map(pd.Timestamp.isoformat)
    )
    if data.wide:
        shared = [data.time, *data.values[1:]]
        return rows.pivot(index=shared, columns=SERIES, values=data.target[0]).reset_index().rename_axis(columns=None)
    ids = rows[SERIES].str.split("/", n=max(len(data.series) - 1, 0), expand=True)
    for number, column in enumerate(data.series):
        rows[column] = ids[number]
    return rows[[data.time, *data.series, *data.values]]


def _signature(config: PipelineConfig, example: pd.DataFrame) -> ModelSignature:
    data = config.data
    # Text for time: MLflow's server takes no CSV with a datetime in the schema.
    texts = {data.time, *data.series, *data.categorical}
    covariates = data.values[len(data.target) :]
    wide = example.columns.difference([data.time, *covariates], sort=False) if data.wide else data.target
    columns: list[ColSpec | TensorSpec] = [
        # Of a table that is wide by `all` a caller may send some of the columns.
        ColSpec(
            DataType.string if name in texts else DataType.double, name, required=data.wide != "all" or name not in wide
        )
        for name in (data.time, *data.series, *wide, *covariates)
    ]
    levels = list(config.evaluate.levels)
    bounds = [f"{side}-{level}" for level in levels for side in ("lo", "hi")]
    several = [ColSpec(DataType.string, "target")] if len(data.target) > 1 else []
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(
            [
                ColSpec(DataType.string, "series"),
                ColSpec(DataType.datetime, "time"),
                *several,
                *(ColSpec(DataType.double, name) for name in ("forecast", *bounds)),
            ]
        ),
        params=ParamSchema(
            [
                ParamSpec("horizon", DataType.long, config.window.horizon),
                ParamSpec("levels", DataType.long, levels, shape=(-1,)),
            ]
        ),
    )


def _judge(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    evaluation: Evaluation,
    best: Candidate,
    number: int,
) -> Promotion:
    rmse = best.scores["val_rmse"]
    baseline = config.register_.gate.beats
    bar = next(row["val_rmse"] for row in evaluation.leaderboard if row["name"] == baseline)
    incumbent = alias_version(config.name, "champion")
    if not (isfinite(rmse) and rmse < bar):
        reason = f"validation RMSE {rmse:.4g} does not beat {baseline} with {bar:.4g}"
        return Promotion(number, best.kind, False, reason, rmse, incumbent)
    beats = f"validation RMSE {rmse:.4g} beats {baseline} with {bar:.4g}"
    if incumbent is None:
        return Promotion(number, best.kind, True, f"{beats}; there was no champion", rmse)
    useless = f"{beats}; the champion, version {incumbent}, can't forecast these windows"
    candidate, validation = Forecaster.load(best.folder), scored_splits(config, panel, windows)["validation"]
    try:
        ours, theirs = _compared(config.name, incumbent, candidate, table, panel, validation)
    except StoreError:  # it may be better than the candidate
        raise
    except InputError as error:
        return Promotion(number, best.kind, True, f"{useless} ({error})", rmse, incumbent)
    if isfinite(ours) and not isfinite(theirs):
        return Promotion(number, best.kind, True, f"{useless} (its RMSE is {theirs})", rmse, incumbent)
    figures = f"version {incumbent}, on the same validation windows: {ours:.4g} against {theirs:.4g}"
    won = ours < theirs
    reason = f"{beats}, and the champion, {figures}" if won else f"does not beat the champion, {figures}"
    return Promotion(number, best.kind, won, reason, ours, incumbent, theirs)


def _compared(
    name: str, incumbent: int, candidate: Forecaster, table: Table, panel: PanelHandle, validation: ScoredWindows
) -> tuple[float, float]:
    """RMSE of candidate and champion on the same validation windows."""
    champion, _ = load_forecaster(f"{name}/{incumbent}")
    store = PanelStore.load(panel.folder)
    seen = table.part(since=_reach(store.cuts.validation, champion), until=store.cuts.test)
    return compare(candidate, champion, seen, validation, store.names)


def _reach(moment: np.datetime64, forecaster: Forecaster) -> np.datetime64 | None:
    """Before which time nothing matters to forecasts from `moment` on; None: everything may."""
    if forecaster.spec.frequency == "irregular":
        return None
    # Calendar steps are of unequal length: twice the average covers them.
    step = Frequency.parse(forecaster.spec.frequency).step.to_timedelta64()
    return moment - 2 * forecaster.reach * step
