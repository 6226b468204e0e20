"""Write the model card `report.html` of a training run: scores, lineage and usage."""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

from tasks.handles import Evaluation
from tasks.profile import Description
from tasks.registry.decision import GateDecision
from tasks.reporting.page import ReportInputs, write_report
from tasks.run_context import RunContext
from tasks.scoring.artifacts import FOLDER
from tasks.settings import run_folder
from tasks.tracking import runs

_PACKAGES = ("torch", "optuna", "mlflow", "prefect", "pandas", "numpy")


@task(cache_policy=NO_CACHE, persist_result=False)
def model_card(
    context: RunContext,
    description: Description,
    evaluation: Evaluation,
    promotion: GateDecision,
    trials: Sequence[Mapping[str, Any]],
    notices: Sequence[str],
    devices: Sequence[str],
) -> Path:
    """Write the report into the evaluation folder; log it to the run and to the runs of both candidates."""
    config, run, folder = context.config, context.run, run_folder(context.run.run_id)
    inputs = ReportInputs(
        name=config.name,
        run_name=run.name,
        run_id=run.run_id,
        promotion=promotion.to_dict(),
        config=config.to_dict(),
        lineage={
            **runs.lineage(config, context.table),
            "device": ", ".join(sorted(set(devices))),
            "packages": {name: version(name) for name in _PACKAGES},
        },
        data=description.profile.summary,
        trials=trials,
        notices=notices,
        advisories=[str(advisory) for advisory in description.advisories],
        images=[path for part in ("search", "profile") for path in sorted((folder / part).glob("*.png"))],
    )
    write_report(evaluation.folder, inputs)
    page = evaluation.folder / "report.html"
    runs.client().log_artifact(run.run_id, str(page))
    for candidate in evaluation.candidates:
        runs.client().log_artifact(candidate.run_id, str(page), FOLDER)
    return page
