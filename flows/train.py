"""The training flow: one model, or one model per segment."""

from prefect import flow, get_run_logger
from prefect.runtime import flow_run

from flows.partitions import Segments, clean_up, train_segments
from flows.pipeline import Outcome, train_model
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
    """Train, evaluate and register the model of a configuration file.

    Args:
        config: path of the YAML file.
        overrides: `dotted.key=value` each.
        strict: raise an error if there is advice against an LSTM.
        fresh: search anew, even if the same search of the same data was made or begun before.
        reason: value of the MLflow run's tag `reason`.

    Raises:
        SegmentsFailedError: some segments failed; raised after all have been tried.
    """
    settings = load_config(config, tuple(overrides))
    tags = {"reason": reason} if reason else {}
    with owned_flow_run(flow_run.id):
        for line in (*([f"reason: {reason}"] if reason else []), *reconcile().lines):
            get_run_logger().info("%s", line)
        if settings.data.partition_by:
            return train_segments(settings, strict, fresh, tags)
        outcome = train_model(settings, strict, fresh, tags)
        clean_up(settings)
    return outcome
