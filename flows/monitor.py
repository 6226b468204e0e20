"""The monitoring flow: score the champion's logged forecasts and emit an event on drift."""

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
from tasks.monitor import monitor as judge
from tasks.monitoring.mlflow_log import log_monitoring
from tasks.monitoring.result import MonitorResult
from tasks.operations.retention import clean
from tasks.partitions import partition_configs
from tasks.runtime.flow_run_owner import owned_flow_run
from tasks.runtime.timestamps import as_utc

DRIFT = "lstm.drift.detected"  # event on which prefect.yaml starts `train`


@flow(name="monitor", persist_result=False)
def monitor(
    config: str = "examples/nyc_weather.yaml", overrides: tuple[str, ...] = (), now: datetime | None = None
) -> tuple[MonitorResult, ...]:
    """Score the forecasts of `monitor.window`; return the result of each model.

    Results are logged to MLflow. If a model has drifted and its last alarm is older than `monitor.cooldown`, a run of
    this flow emits one event with the reason, on which prefect.yaml starts a training. Without Prefect
    (`monitor.fn(config)`) no event is emitted and no cool-down begins.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        now: moment of the evaluation, UTC if it has no time zone; default: now.

    Raises:
        LstmError: a model can't be judged; raised after all models have been tried.
    """
    settings = load_config(config, tuple(overrides))
    in_prefect = FlowRunContext.get() is not None
    log = get_run_logger() if in_prefect else logging.getLogger(__name__)
    with owned_flow_run(flow_run.id):
        models, moment = partition_configs(settings), now or datetime.now(UTC)
        results = {model.name: _monitor_model(model, moment, in_prefect) for model in models}
        judged = tuple(result for result in results.values() if isinstance(result, MonitorResult))
        for result in judged:
            log.log(logging.WARNING if result.drifted else logging.INFO, "%s", result.reason)
            for warning in result.warnings:
                log.warning("%s: input moved: %s", result.version, warning)
        for model in models:
            verdict = results[model.name]
            if isinstance(verdict, MonitorResult) and verdict.alarmed:
                _emit_drift(model.name, verdict.reason, config, (*overrides, *_segment_override(settings, model)))
        if in_prefect:
            _clean_up(models, moment, log)
        errors = {name: result for name, result in results.items() if isinstance(result, Exception)}
        raise_together(errors, len(models), "can't be judged")
    return judged


def _monitor_model(model: PipelineConfig, moment: datetime, in_prefect: bool) -> MonitorResult | Exception:
    try:
        return log_monitoring(model, (judge if in_prefect else judge.fn)(model, moment), in_prefect)
    except Exception as error:  # raised when all models have been tried
        return error


def _clean_up(models: Sequence[PipelineConfig], moment: datetime, log: Any) -> None:
    """Apply the retention rules. A store that does not answer is only logged: the models are judged."""
    try:
        for model in models:
            clean(model, as_utc(moment, "now"))
    except LstmError as error:
        log.warning("%s", error)


def _segment_override(settings: PipelineConfig, model: PipelineConfig) -> tuple[str, ...]:
    """Return the override that trains the model's segment alone."""
    return (f"data.where={json.dumps(dict(model.data.where))}",) if settings.data.partition_by else ()


def _emit_drift(name: str, reason: str, config: str, overrides: tuple[str, ...]) -> None:
    resource = {"prefect.resource.id": f"lstm.model.{name}", "prefect.resource.name": name}
    payload = {"name": name, "reason": reason, "config": config, "overrides": list(overrides)}
    emit_event(DRIFT, resource, payload=payload)
