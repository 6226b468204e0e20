"""Package a forecaster as an MLflow model: code, tensors and JSON, signature and input example; no pickle."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelOutput
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema, TensorSpec

import lstm
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.rows import SERIES, TIME
from tasks.registry.checksum import CHECKSUM_TAG, checksum, strip_caches
from tasks.tracking import runs

# What Forecaster imports. tzdata is for images without system time zones.
_REQUIREMENTS = (
    "filelock",
    "holidays",
    "numpy",
    "pandas",
    "pyarrow",
    "pydantic",
    "safetensors",
    "scipy",
    "torch",
    "tzdata",
)
_EXAMPLE_SERIES = 3  # in the input example
MODEL_CODE = Path(__file__).with_name("pyfunc_model.py")


def log_model(config: PipelineConfig, folder: Path, run_id: str, example: pd.DataFrame) -> str:
    """Log the forecaster in `folder` as a pyfunc model of a run, with its checksum as a tag.

    Follows the steps of `mlflow.pyfunc.log_model`, which gives no access to the files before it uploads them.

    Args:
        config: for the signature.
        folder: as `Forecaster.save` wrote it.
        run_id: of the MLflow run that the model belongs to.
        example: raw history, see `build_input_example`.

    Returns:
        The model id.
    """
    client = runs.client()
    run = client.get_run(run_id)
    logged = client.create_logged_model(run.info.experiment_id, "model", run_id, params=run.data.params)
    with TemporaryDirectory() as scratch:
        model = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            model,
            mlflow_model=Model(logged.artifact_location, run_id, model_uuid=logged.model_id, model_id=logged.model_id),
            python_model=str(MODEL_CODE),
            artifacts={"forecaster": str(folder)},
            code_paths=[str(Path(lstm.__file__).parent)],
            signature=build_signature(config, example),
            input_example=example,
            # Listed, since MLflow takes 15 seconds to infer them.
            pip_requirements=pinned_requirements(),
        )
        strip_caches(model)
        client.set_logged_model_tags(logged.model_id, {CHECKSUM_TAG: checksum(model)})
        client.log_model_artifacts(logged.model_id, str(model))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return str(logged.model_id)


def pinned_requirements() -> list[str]:
    """Return the requirements of a packaged model, pinned to the installed versions."""
    return [f"{name}=={version(name).split('+')[0]}" for name in _REQUIREMENTS]


def build_input_example(config: PipelineConfig, table: Table, names: Sequence[str]) -> pd.DataFrame:
    """Return the newest rows that a forecast of a few series needs, in the form of the source."""
    data = config.data
    rows = table.read_rows(names if data.wide else names[:_EXAMPLE_SERIES])
    if not data.known:  # rows after the last one with a target are of no use
        measured = rows[list(data.target)].notna().all(axis=1)
        rows = rows[measured[::-1].groupby(rows[SERIES][::-1]).cummax()[::-1]]
    rows = rows.groupby(SERIES).tail(2 * config.longest_lookback + config.window.horizon)
    if data.known:  # the last rows stand for the steps ahead, where known covariates are needed
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


def build_signature(config: PipelineConfig, example: pd.DataFrame) -> ModelSignature:
    """Return the MLflow signature: input columns, params `horizon` and `levels`, output columns.

    All columns are optional to MLflow: a request for a wide table may hold some of its series, and the forecaster
    reports a missing column in one line.
    """
    data = config.data
    # Times are text: MLflow's server accepts no CSV with a datetime in the schema.
    texts = {data.time, *data.series, *data.categorical}
    covariates = data.values[len(data.target) :]
    wide = example.columns.difference([data.time, *covariates], sort=False) if data.wide else data.target
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string if name in texts else DataType.double, name, required=False)
        for name in (data.time, *data.series, *wide, *covariates)
    ]
    levels = list(config.evaluate.levels)
    bounds = [f"{side}-{level}" for level in levels for side in ("lo", "hi")]
    target = [ColSpec(DataType.string, "target")] if len(data.target) > 1 else []
    return ModelSignature(
        inputs=Schema(columns),
        outputs=Schema(
            [
                ColSpec(DataType.string, "series"),
                ColSpec(DataType.datetime, "time"),
                *target,
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
