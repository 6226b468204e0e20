"""The flow of scheduled forecasts: the champion forecasts from the newest data into the forecast log."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.errors import raise_together
from lstm.config.operations import ExecutionSpec
from lstm.config.pipeline import PipelineConfig
from lstm.load_config import load_config
from tasks.forecast_slots import Forecasts, forecast_slots
from tasks.partitions import partition_configs
from tasks.runtime.flow_run_owner import owned_flow_run
from tasks.runtime.timestamps import as_utc

FALLBACK = "lstm.forecast.fallback"  # event: the champion could not be used
# One model at a time: each uses every core, and torch's threads would compete.
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=1)


@flow(name="forecast", persist_result=False, task_runner=_RUNNER)
def forecast(
    config: str = "examples/nyc_weather.yaml", overrides: tuple[str, ...] = (), slot: datetime | None = None
) -> tuple[Forecasts, ...]:
    """Forecast this run's slot and missed ones; return the forecasts of each model.

    The slot is the step of `forecast.every` that the moment falls in. A repeated run finds its slot in the log and
    changes nothing. Without Prefect: `forecast.fn(config)`.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        slot: moment, UTC if it has no time zone; default: the scheduled start of the run, else now.

    Raises:
        LstmError: a model has no forecasts; raised after all models have been tried.
    """
    settings = load_config(config, tuple(overrides))
    moment = as_utc(slot or flow_run.scheduled_start_time or datetime.now(UTC), "slot")
    with owned_flow_run(flow_run.id):
        models = partition_configs(settings)
        if FlowRunContext.get() is None:
            results = [_forecast_model(model, moment) for model in models]
        elif settings.execution.runner == "local" or len(models) == 1:
            results = _forecast_models(models, moment, str(flow_run.id))
        else:
            results = _on_cluster(settings.execution)(models, moment, str(flow_run.id))
    forecasts = tuple(result for result in results if isinstance(result, Forecasts))
    _report_fallbacks([result for result in forecasts if result.fallback], config, overrides)
    outcomes = zip(models, results, strict=True)
    errors = {model.name: result for model, result in outcomes if not isinstance(result, Forecasts)}
    raise_together(errors, len(models), "have no forecasts")
    return forecasts


def _forecast_model(model: PipelineConfig, moment: pd.Timestamp) -> Forecasts | BaseException:
    try:
        return forecast_slots.fn(model, moment)
    except Exception as error:  # raised when all models have been tried
        return error


def _forecast_models(
    models: tuple[PipelineConfig, ...], moment: pd.Timestamp, run: str
) -> list[Forecasts | BaseException]:
    futures = [forecast_slots.submit(model, moment, run) for model in models]
    return [future.result(raise_on_failure=False) for future in futures]


def _on_cluster(execution: ExecutionSpec) -> Callable[..., list[Forecasts | BaseException]]:
    """Return `_forecast_models` as a flow on a Dask or Ray cluster."""
    from flows.partitions import task_runner  # imports all that training needs

    return flow(
        name="forecast-segments", task_runner=task_runner(execution), persist_result=False, validate_parameters=False
    )(_forecast_models)


def _report_fallbacks(fallbacks: list[Forecasts], config: str, overrides: tuple[str, ...]) -> None:
    """Tag the flow run and emit one event per model whose champion could not be used."""
    if not fallbacks or FlowRunContext.get() is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags={*flow_run.tags, "fallback"})
    for forecasts in fallbacks:
        emit_event(
            FALLBACK,
            {"prefect.resource.id": f"lstm.model.{forecasts.name}", "prefect.resource.name": forecasts.name},
            payload={
                "name": forecasts.name,
                "version": forecasts.version,
                "reason": forecasts.fallback,
                "config": config,
                "overrides": list(overrides),
            },
        )
