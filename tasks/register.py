"""Register the candidates as versions; one of them is judged by the gate and may become champion."""

import json
from contextlib import suppress
from functools import partial

import mlflow
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

from lstm.config.pipeline import PipelineConfig
from lstm.errors import CheckpointError, StoreError
from tasks.handles import Candidate, Evaluation
from tasks.registry.decision import GateDecision
from tasks.registry.gate import GateCase, judge, standalone_checks
from tasks.registry.models import TAGGED_METRICS, fingerprint, load_forecaster
from tasks.registry.packaging import MODEL_CODE, build_input_example, build_signature, log_model, pinned_requirements
from tasks.registry.promotion import judge_and_promote
from tasks.registry.versions import create_version, find_version, set_alias
from tasks.run_context import RunContext
from tasks.runtime.environment import code_sha256
from tasks.settings import tracking_uri
from tasks.tracking import runs


@task(cache_policy=NO_CACHE, persist_result=False)
def register(context: RunContext, evaluation: Evaluation) -> GateDecision:
    """Register every candidate as a version, unless an equal one is registered; judge the proposed one.

    The ensemble is proposed, unless the best single network is clearly better on validation. To become champion, it
    must give the same forecasts behind MLflow's scoring server, beat the baseline `register.gate.beats` on the test
    windows, and beat the current champion there as `register.gate.against_champion` says. Otherwise it becomes
    `challenger`.

    Raises:
        StoreError: the registry does not answer, or the champion can't be downloaded for the comparison.
    """
    mlflow.set_tracking_uri(tracking_uri())
    config, run, data = context.config, context.run, context.open()
    example = build_input_example(config, context.table, data.panel.names)
    versions = {candidate.kind: _register_version(config, candidate, example) for candidate in evaluation.candidates}
    for kind, (number, _) in versions.items():
        set_alias(config.name, kind, number)
    proposed = evaluation.proposed
    number, is_new = versions[proposed.kind]
    notice = "" if is_new else f"version {number} is the same model: it was not registered again"
    case = GateCase(data, evaluation, proposed, number, example, notice)
    try:
        decision = judge_and_promote(config.name, partial(judge, case, standalone_checks(case)))
    except StoreError as error:
        consequence = f"Nothing is promoted over it: {config.name}/{number} is the challenger."
        with suppress(StoreError):  # the first error is raised below
            set_alias(config.name, "challenger", number)
        raise StoreError(f"{error} {consequence}") from None
    runs.client().log_dict(run.run_id, decision.to_dict(), "promotion.json")
    runs.tag(run, champion=decision.champion, registered_version=decision.version, gate_reason=decision.reason)
    return decision


def _register_version(config: PipelineConfig, candidate: Candidate, example: pd.DataFrame) -> tuple[int, bool]:
    """Return the candidate's version, and whether it is new."""
    signature = json.dumps(build_signature(config, example).to_dict(), sort_keys=True)
    code = (code_sha256(), MODEL_CODE.read_text(encoding="utf-8"))
    sha256 = fingerprint(candidate.folder, candidate.kind, signature, *pinned_requirements(), *code)
    if (equal := find_version(config.name, sha256)) is not None:
        with suppress(CheckpointError, StoreError):  # a damaged or missing one is registered again
            load_forecaster(f"{config.name}/{equal}")
            return equal, False
    model_id = log_model(config, candidate.folder, candidate.run_id, example)
    metrics = {key: f"{candidate.scores[key]:.6g}" for key in TAGGED_METRICS}
    tags = {"kind": candidate.kind, "run_name": candidate.label, "fingerprint": sha256, **metrics}
    return create_version(config.name, candidate.run_id, model_id, tags), True
