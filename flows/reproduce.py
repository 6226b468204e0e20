"""The reproduction flow: a registered version, trained again and compared."""

from prefect import flow
from prefect.runtime import flow_run

from tasks.reproduce import Reproduction
from tasks.reproduce import reproduce as reproduce_task
from tasks.runtime.flow_run_owner import owned_flow_run


@flow(name="reproduce", persist_result=False)
def reproduce(model: str = "nyc-temperature") -> Reproduction:
    """Train a version again from what its run logged; say whether data, weights and metrics are the same.

    Args:
        model: `NAME` (its champion), `NAME@alias`, `NAME/version`, or the id of an MLflow run.
    """
    with owned_flow_run(flow_run.id):
        return reproduce_task(model, str(flow_run.id or ""))
