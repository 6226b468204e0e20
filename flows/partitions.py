"""Train a model per segment: one after the other on this machine, or in parallel on a cluster."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner

from flows.pipeline import Outcome, train_model
from lstm.config.operations import ExecutionSpec
from lstm.config.pipeline import PipelineConfig
from lstm.errors import InputError, LstmError
from tasks.operations.retention import clean
from tasks.partitions import partition_configs, segment_label
from tasks.runtime.flow_run_owner import owned_flow_run
from tasks.search.backends import import_backend


@dataclass(frozen=True)
class SegmentRow:
    """The result of one segment: its model, or the error."""

    name: str  # of the model
    segment: str
    error: str = ""  # one line
    run_name: str = ""
    run_id: str = ""
    version: int | None = None  # the proposed version
    champion: bool = False  # whether it became champion
    val_rmse: float | None = None
    test_rmse: float | None = None
    test_rmse_skill: float | None = None
    seconds: float | None = None  # without imports and the start of servers


@dataclass(frozen=True)
class Segments:
    """The result of a training run of partitioned data."""

    name: str
    rows: tuple[SegmentRow, ...]

    @property
    def failed(self) -> tuple[SegmentRow, ...]:
        """The segments without a new model."""
        return tuple(row for row in self.rows if row.error)

    def to_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {"name": self.name, "segments": [asdict(row) for row in self.rows]}


class SegmentsFailedError(LstmError):
    """Some segments failed; the others have new models."""

    def __init__(self, segments: Segments, bad_input: bool) -> None:
        """Keep the result; `bad_input`: all errors are errors of input."""
        self.segments, self.bad_input = segments, bad_input
        failed = segments.failed
        lines = "\n".join(f"{row.name}: {row.error}" for row in failed)
        super().__init__(f"{len(failed)} of {len(segments.rows)} segments failed:\n{lines}")


def train_segments(settings: PipelineConfig, strict: bool, fresh: bool, tags: Mapping[str, str]) -> Segments:
    """Train every segment inside the flow `train`; a failed segment stops no other.

    With `execution.runner: local` the segments run one after the other, each search on all cores. With dask or ray
    they run on the cluster, as many at a time as it has threads or CPUs; with `search.workers: auto` each search has
    one worker, since the segments occupy the cores.

    Raises:
        SegmentsFailedError: some segments failed; raised after all have been tried.
    """
    parts = partition_configs(settings)
    calls = [(part, segment_label(settings, part), strict, fresh, dict(tags)) for part in parts]
    runner = settings.execution.runner
    states = map(_train_locally, calls) if runner == "local" else _train_on_cluster(settings.execution)(calls)
    results = [_segment_row(part, call[1], state) for part, call, state in zip(parts, calls, states, strict=True)]
    outcome = Segments(settings.name, tuple(row for row, _ in results))
    errors = [error for _, error in results if error is not None]
    if errors:
        raise SegmentsFailedError(outcome, all(isinstance(error, InputError) for error in errors))
    return outcome


@task(task_run_name="{part.name}", cache_policy=NO_CACHE, persist_result=False)
def train_segment(part: PipelineConfig, segment: str, strict: bool, fresh: bool, tags: dict[str, str]) -> SegmentRow:
    """Train one segment in a flow run of its own; return its metrics."""
    on_cluster = part.execution.runner != "local" and part.search.workers == "auto"
    workers = {"search": part.search.model_copy(update={"workers": 1})} if on_cluster else {}
    local = part.model_copy(update={"execution": ExecutionSpec(), **workers})
    outcome = _segment_flow(local, strict, fresh, {**tags, "segment": segment})
    proposed = next(row for row in outcome.leaderboard if row["kind"] == outcome.promotion.kind)
    return SegmentRow(
        name=outcome.name,
        segment=segment,
        run_name=outcome.run_name,
        run_id=outcome.run_id,
        version=outcome.promotion.version,
        champion=outcome.promotion.champion,
        val_rmse=proposed.get("val_rmse"),
        test_rmse=proposed.get("test_rmse"),
        test_rmse_skill=proposed.get("test_rmse_skill"),
        seconds=sum(duration for stage, duration in outcome.seconds.items() if stage != "train_cpu"),
    )


@flow(name="train-segment", flow_run_name="{part.name}", persist_result=False, validate_parameters=False)
def _segment_flow(part: PipelineConfig, strict: bool, fresh: bool, tags: dict[str, str]) -> Outcome:
    with owned_flow_run(flow_run.id):
        outcome = train_model(part, strict, fresh, tags)
        clean_up(part)
    return outcome


def clean_up(settings: PipelineConfig) -> None:
    """Apply the retention rules. A store that does not answer is only logged: the model is trained."""
    try:
        clean(settings)
    except LstmError as error:
        get_run_logger().warning("%s", error)


def _train_locally(call: tuple[Any, ...]) -> State[SegmentRow]:
    return train_segment(*call, return_state=True)


def _train_on_cluster(execution: ExecutionSpec) -> Callable[[Iterable[tuple[Any, ...]]], list[State[SegmentRow]]]:
    """Return a function that runs calls of `train_segment` on a cluster and waits for all of them."""

    @flow(name="train-segments", task_runner=task_runner(execution), persist_result=False, validate_parameters=False)
    def train_all(calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        futures = [train_segment.submit(*call) for call in calls]
        for future in futures:
            future.wait()
        return [(future.state,) for future in futures]  # wrapped: Prefect fails a flow that returns a failed state

    return lambda calls: [state for (state,) in train_all(calls)]


def task_runner(execution: ExecutionSpec) -> TaskRunner[Any]:
    """Return Prefect's task runner for a cluster; without an address a local cluster is started.

    Raises:
        ConfigError: the runner's package is not installed.
    """
    name = execution.runner
    module = import_backend(f"prefect_{name}.task_runners", execution)
    if name == "ray":
        return module.RayTaskRunner(address=execution.address)
    size = {"n_workers": execution.workers, "threads_per_worker": 1}  # no two segments in one process
    return module.DaskTaskRunner(address=execution.address, cluster_kwargs=None if execution.address else size)


def _segment_row(
    part: PipelineConfig, segment: str, state: State[SegmentRow]
) -> tuple[SegmentRow, BaseException | None]:
    result = state.result(raise_on_failure=False)
    if isinstance(result, SegmentRow):
        return result, None
    error = result if isinstance(result, BaseException) else RuntimeError(state.message or state.name)
    row = SegmentRow(part.name, segment, error=_one_line(error))
    get_run_logger().error("%s: %s", row.name, row.error)
    return row, error


def _one_line(error: BaseException) -> str:
    message = " ".join(str(error).split())
    return message if isinstance(error, LstmError) else f"{type(error).__name__}: {message}".removesuffix(": ")
