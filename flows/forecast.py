"""The scheduled forecasts: the champion, the newest data, and a log of slots."""

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
from tasks.partitions import partitions
from tasks.runtime.flow_run_owner import owned_flow_run
from tasks.runtime.timestamps import as_utc

FALLBACK = "lstm.forecast.fallback"  # the event


# One model at a time: each uses every core, and torch's threads in one process stand in each other's way.
_RUNNER: Any = ThreadPoolTaskRunner(max_workers=1)


@flow(name="forecast", persist_result=False, task_runner=_RUNNER)
def forecast(
    config: str = "examples/nyc_weather.yaml", overrides: tuple[str, ...] = (), slot: datetime | None = None
) -> tuple[Forecasts, ...]:
    """Forecast as of this run's slot and of missed ones; return what was made, model by model.

    The slot is the step of `forecast.every` that the moment falls in. A run that is repeated finds its slot in the log
    and changes nothing. Without Prefect: `forecast.fn(config)`.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        slot: the moment, UTC where it has no time zone; default: when the run was scheduled to start, else now.

    Raises:
        LstmError: of a model there are no forecasts; of several, which and why, when all others are made.
    """
    settings = load_config(config, tuple(overrides))
    moment = as_utc(slot or flow_run.scheduled_start_time or datetime.now(UTC), "slot")
    with owned_flow_run(flow_run.id):
        models = partitions(settings)
        if FlowRunContext.get() is None:
            found = [_tried(model, moment) for model in models]
        elif settings.execution.runner == "local" or len(models) == 1:
            found = _each(models, moment, str(flow_run.id))
        else:
            found = _spread(settings.execution)(models, moment, str(flow_run.id))
    made = tuple(one for one in found if isinstance(one, Forecasts))
    _alarm([one for one in made if one.fallback], config, overrides)
    errors = {model.name: one for model, one in zip(models, found, strict=True) if not isinstance(one, Forecasts)}
    raise_together(errors, len(models), "have no forecasts")
    return made


def _tried(model: PipelineConfig, moment: pd.Timestamp) -> Forecasts | BaseException:
    try:
        return forecast_slots.fn(model, moment)
    except Exception as error:  # told when the others are made
        return error


def _each(models: tuple[PipelineConfig, ...], moment: pd.Timestamp, run: str) -> list[Forecasts | BaseException]:
    futures = [forecast_slots.submit(model, moment, run) for model in models]
    return [future.result(raise_on_failure=False) for future in futures]


def _spread(execution: ExecutionSpec) -> Callable[..., list[Forecasts | BaseException]]:
    """`_each` as a flow on a cluster."""
    from flows.partitions import task_runner  # with all that training needs

    return flow(
        name="forecast-segments", task_runner=task_runner(execution), persist_result=False, validate_parameters=False
    )(_each)


def _alarm(fallen: list[Forecasts], config: str, overrides: tuple[str, ...]) -> None:
    """Say by a tag of the flow run, and by an event a model, that the champion could not be used."""
    if not fallen or FlowRunContext.get() is None:
        return
    with get_client(sync_client=True) as client:
        client.update_flow_run(flow_run.id, tags={*flow_run.tags, "fallback"})
    for one in fallen:
        emit_event(
            FALLBACK,
            {"prefect.resource.id": f"lstm.model.{one.name}", "prefect.resource.name": one.name},
            payload={
                "name": one.name,
                "version": one.version,
                "reason": one.fallback,
                "config": config,
                "overrides": list(overrides),
            },
        )
