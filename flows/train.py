"""The training flow: one model, or one for each segment of the data."""

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.partitions import Segments, tidy, train_segments
from flows.pipeline import Outcome, trained
from lstm.load_config import load_config
from tasks.operations.reconcile import reconcile
from tasks.runtime.flow_run_owner import owned_flow_run


@flow(name="train", persist_result=False)
def train(
    config: str = "examples/nyc_weather.yaml",
    overrides: tuple[str, ...] = (),
    strict: bool = False,
    fresh: bool = False,
    reason: str = "",
) -> Outcome | Segments:
    """Train, evaluate and register what the configuration file says.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        strict: end with an error where there is an advisory against an LSTM.
        fresh: search anew, where the same search of the same data has been made or begun before.
        reason: why it is trained, for the record: the tag `reason` of the MLflow run.

    Raises:
        SegmentsFailedError: of partitioned data, when all segments have been tried.
    """
    settings = load_config(config, tuple(overrides))
    tags = {"reason": reason} if reason else {}
    with owned_flow_run(flow_run.id):
        for line in (*([f"reason: {reason}"] if reason else []), *reconcile().lines):
            get_run_logger().info("%s", line)
        if settings.data.partition_by:
            return train_segments(settings, strict, fresh, tags)
        outcome = trained(settings, strict, fresh, tags)
        tidy(settings)
    return outcome
