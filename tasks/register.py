"""Register the candidates, and make one of them champion if it has earned it."""

import hashlib
import json
from contextlib import suppress
from functools import cache, partial
from pathlib import Path

import mlflow
import pandas as pd
from prefect import task
from prefect.cache_policies import NO_CACHE

import lstm
from lstm.config.pipeline import PipelineConfig
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.errors import CheckpointError, StoreError
from tasks.handles import Candidate, Evaluation, PanelHandle, RunHandle, WindowsHandle
from tasks.registry.gate import Case, judge, own_checks
from tasks.registry.models import SHOWN, create_version, fingerprint, load_forecaster, same_version, set_alias
from tasks.registry.packaging import input_example, log_artefact, requirements, signature
from tasks.registry.promotion import Promotion, settle
from tasks.settings import tracking_uri
from tasks.tracking import runs

__all__ = ["Promotion", "register"]


@task(cache_policy=NO_CACHE, persist_result=False)
def register(
    config: PipelineConfig,
    table: Table,
    panel: PanelHandle,
    windows: WindowsHandle,
    evaluation: Evaluation,
    run: RunHandle,
) -> Promotion:
    """Register every candidate as a version, unless the same one is registered already; one of them meets the gate.

    The ensemble is proposed, unless the best single model is clearly better: validation ranks close ones by luck. It
    must answer through MLflow's scoring server as it does itself, beat the baseline that `register.gate.beats` names
    on the test windows, and, where there is a champion already, be better than it there as
    `register.gate.against_champion` says. Else the champion stays and the candidate becomes `challenger`.

    Raises:
        StoreError: the champion can't be fetched, so that nobody knows whether it is worse; or the registry does not
            answer.
    """
    mlflow.set_tracking_uri(tracking_uri())
    example = input_example(config, table, PanelStore.load(panel.folder).names)
    versions = {candidate.kind: _version(config, candidate, example) for candidate in evaluation.candidates}
    for kind, (number, _) in versions.items():
        set_alias(config.name, kind, number)
    best = evaluation.proposed
    number, is_new = versions[best.kind]
    notice = "" if is_new else f"version {number} is the same model: it was not registered again"
    case = Case(config, table, panel, windows, evaluation, best, number, example, notice)
    try:
        promotion = settle(config.name, partial(judge, case, own_checks(case)))
    except StoreError as error:
        kept = f"Nothing is promoted over it: {config.name}/{number} is the challenger."
        with suppress(StoreError):  # told already
            set_alias(config.name, "challenger", number)
        raise StoreError(f"{error} {kept}") from None
    runs.client().log_dict(run.run_id, promotion.to_dict(), "promotion.json")
    runs.tag(run, champion=promotion.champion, registered_version=promotion.version, gate_reason=promotion.reason)
    return promotion


def _version(config: PipelineConfig, candidate: Candidate, example: pd.DataFrame) -> tuple[int, bool]:
    """The candidate's version, and whether it was made now."""
    served = json.dumps(signature(config, example).to_dict(), sort_keys=True)
    same = fingerprint(candidate.folder, candidate.kind, served, *requirements(), _code_sha256())
    if (known := same_version(config.name, same)) is not None:
        with suppress(CheckpointError, StoreError):  # what is damaged or gone is registered anew
            load_forecaster(f"{config.name}/{known}")
            return known, False
    model_id = log_artefact(config, candidate.folder, candidate.run_id, example)
    shown = {key: f"{candidate.scores[key]:.6g}" for key in SHOWN}
    tags = {"kind": candidate.kind, "run_name": candidate.label, "fingerprint": same, **shown}
    return create_version(config.name, candidate.run_id, model_id, tags), True


@cache
def _code_sha256() -> str:
    """Of what a version carries as code."""
    package = Path(lstm.__file__).parent
    digest = hashlib.sha256((Path(__file__).parent / "registry" / "pyfunc_model.py").read_bytes())
    for path in sorted(path for path in package.rglob("*") if path.suffix in (".py", ".cpp")):
        digest.update(f"{path.relative_to(package)}\n".encode() + path.read_bytes())
    return digest.hexdigest()
