"""The monitoring flow: the champion's forecasts against what came, and an event where the world has moved."""

import json
import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from prefect import flow, get_run_logger
from prefect.context import FlowRunContext
from prefect.events import emit_event
from prefect.runtime import flow_run

from flows.errors import raise_together
from lstm.config.pipeline import PipelineConfig
from lstm.errors import LstmError
from lstm.load_config import load_config
from tasks.monitor import Monitored
from tasks.monitor import monitor as judge
from tasks.monitoring.mlflow_log import log_monitored
from tasks.operations.retention import clean
from tasks.partitions import partitions
from tasks.runtime.flow_run_owner import owned_flow_run
from tasks.runtime.timestamps import as_utc

DRIFT = "lstm.drift.detected"  # the event, on which prefect.yaml starts `train`


@flow(name="monitor", persist_result=False)
def monitor(
    config: str = "examples/nyc_weather.yaml", overrides: tuple[str, ...] = (), now: datetime | None = None
) -> tuple[Monitored, ...]:
    """Judge the forecasts of `monitor.window`; return what was found, model by model.

    Everything goes to MLflow. Where a model has drifted, and its last alarm is older than `monitor.cooldown`, a run of
    this flow emits one event with the reason, on which prefect.yaml starts a training. Without Prefect
    (`monitor.fn(config)`) nobody would hear it: then there is none, and no cool-down begins.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        now: moment to judge as of, UTC where it has no time zone; default: now.

    Raises:
        LstmError: a model can't be judged; of several, which and why, when all others are.
    """
    settings = load_config(config, tuple(overrides))
    heard = FlowRunContext.get() is not None
    log = get_run_logger() if heard else logging.getLogger(__name__)
    with owned_flow_run(flow_run.id):
        models, moment = partitions(settings), now or datetime.now(UTC)
        found = {model.name: _tried(model, moment, heard) for model in models}
        judged = tuple(one for one in found.values() if isinstance(one, Monitored))
        for one in judged:
            log.log(logging.WARNING if one.drifted else logging.INFO, "%s", one.reason)
            for warning in one.warnings:
                log.warning("%s: input moved: %s", one.version, warning)
        for model in models:
            verdict = found[model.name]
            if isinstance(verdict, Monitored) and verdict.alarmed:
                _tell(model.name, verdict.reason, config, (*overrides, *_segment(settings, model)))
        if heard:
            _tidy(models, moment, log)
        errors = {name: one for name, one in found.items() if isinstance(one, Exception)}
        raise_together(errors, len(models), "can't be judged")
    return judged


def _tried(model: PipelineConfig, moment: datetime, heard: bool) -> Monitored | Exception:
    try:
        return log_monitored(model, (judge if heard else judge.fn)(model, moment), heard)
    except Exception as error:  # told when the others are judged
        return error


def _tidy(models: Sequence[PipelineConfig], moment: datetime, log: Any) -> None:
    """Remove what is kept no longer. A store that does not answer costs no judgement."""
    try:
        for model in models:
            clean(model, as_utc(moment, "now"))
    except LstmError as error:
        log.warning("%s", error)


def _segment(settings: PipelineConfig, model: PipelineConfig) -> tuple[str, ...]:
    """The override that trains the model's segment alone."""
    return (f"data.where={json.dumps(dict(model.data.where))}",) if settings.data.partition_by else ()


def _tell(name: str, reason: str, config: str, overrides: tuple[str, ...]) -> None:
    resource = {"prefect.resource.id": f"lstm.model.{name}", "prefect.resource.name": name}
    payload = {"name": name, "reason": reason, "config": config, "overrides": list(overrides)}
    emit_event(DRIFT, resource, payload=payload)
