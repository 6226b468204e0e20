"""What a version in the registry is made of: code, tensors and JSON, a signature and an input example; no pickle."""

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
from tasks.registry.checksum import SEAL, seal_of, without_leftovers
from tasks.tracking import runs

# What Forecaster imports; tzdata for images without the system's time zones.
_NEEDS = ("filelock", "holidays", "numpy", "pandas", "pyarrow", "pydantic", "safetensors", "scipy", "torch", "tzdata")
_EXAMPLE_SERIES = 3  # of the input example
_SERVED = Path(__file__).with_name("pyfunc_model.py")


def log_artefact(config: PipelineConfig, folder: Path, run_id: str, example: pd.DataFrame) -> str:
    """Log the forecaster in `folder` as a model of a run, as MLflow's scoring server loads it; its model id.

    In the steps of `mlflow.pyfunc.log_model`, which shows nobody the files that it sends: they are sealed before.
    """
    client = runs.client()
    run = client.get_run(run_id)
    logged = client.create_logged_model(run.info.experiment_id, "model", run_id, params=run.data.params)
    with TemporaryDirectory() as scratch:
        made = Path(scratch) / "model"
        mlflow.pyfunc.save_model(
            made,
            mlflow_model=Model(logged.artifact_location, run_id, model_uuid=logged.model_id, model_id=logged.model_id),
            python_model=str(_SERVED),
            artifacts={"forecaster": str(folder)},
            code_paths=[str(Path(lstm.__file__).parent)],
            signature=signature(config, example),
            input_example=example,
            # Named, since MLflow would take 15 seconds to find them out.
            pip_requirements=requirements(),
        )
        without_leftovers(made)
        client.set_logged_model_tags(logged.model_id, {SEAL: seal_of(made)})
        client.log_model_artifacts(logged.model_id, str(made))
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return str(logged.model_id)


def requirements() -> list[str]:
    """What a version needs, pinned to what is installed here."""
    return [f"{name}=={version(name).split('+')[0]}" for name in _NEEDS]


def input_example(config: PipelineConfig, table: Table, names: Sequence[str]) -> pd.DataFrame:
    """The newest rows that a forecast of some series needs, as a caller would send them."""
    data = config.data
    rows = table.part(names if data.wide else names[:_EXAMPLE_SERIES])
    if not data.known:  # a forecast begins after the last row with a target: nobody sends what lies behind it
        measured = rows[list(data.target)].notna().all(axis=1)
        rows = rows[measured[::-1].groupby(rows[SERIES][::-1]).cummax()[::-1]]
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


def signature(config: PipelineConfig, example: pd.DataFrame) -> ModelSignature:
    """The columns of the table, the params `horizon` and `levels`, and what comes back.

    Every column is optional to MLflow: of a table that is wide by `all` a caller may send some of them, and a
    column that is missing elsewhere is told by the forecaster in one line.
    """
    data = config.data
    # Text for time: MLflow's server takes no CSV with a datetime in the schema.
    texts = {data.time, *data.series, *data.categorical}
    covariates = data.values[len(data.target) :]
    wide = example.columns.difference([data.time, *covariates], sort=False) if data.wide else data.target
    columns: list[ColSpec | TensorSpec] = [
        ColSpec(DataType.string if name in texts else DataType.double, name, required=False)
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
