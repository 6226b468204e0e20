"""A model for each segment of the data: one after the other here, or side by side on a cluster."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner

from flows.pipeline import Outcome, trained
from lstm.config.operations import ExecutionSpec
from lstm.config.pipeline import PipelineConfig
from lstm.errors import InputError, LstmError
from tasks.operations.retention import clean
from tasks.partitions import partitions, segment_of
from tasks.runtime.flow_run_owner import owned_flow_run
from tasks.search.backends import installed


@dataclass(frozen=True)
class SegmentRow:
    """What became of one segment: its model, or why there is none."""

    name: str  # of the model
    segment: str
    error: str = ""  # one line
    run_name: str = ""
    run_id: str = ""
    version: int | None = None  # that was proposed
    champion: bool = False  # whether that is champion now
    val_rmse: float | None = None
    test_rmse: float | None = None
    test_rmse_skill: float | None = None
    seconds: float | None = None  # without imports and servers


@dataclass(frozen=True)
class Segments:
    """What a training run of partitioned data came to."""

    name: str
    rows: tuple[SegmentRow, ...]

    @property
    def failed(self) -> tuple[SegmentRow, ...]:
        """The segments without a new model."""
        return tuple(row for row in self.rows if row.error)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"name": self.name, "segments": [asdict(row) for row in self.rows]}


class SegmentsFailedError(LstmError):
    """Some segments have no new model; the others have theirs."""

    def __init__(self, segments: Segments, bad_input: bool) -> None:
        """Of these; `bad_input`: the user can mend every one."""
        self.segments, self.bad_input = segments, bad_input
        failed = segments.failed
        lines = "\n".join(f"{row.name}: {row.error}" for row in failed)
        super().__init__(f"{len(failed)} of {len(segments.rows)} segments failed:\n{lines}")


def train_segments(settings: PipelineConfig, strict: bool, fresh: bool, tags: Mapping[str, str]) -> Segments:
    """Train every segment within the flow `train`; a segment that fails ends no other.

    With `execution.runner: local` one after the other, each search on all cores of this machine. With dask or ray the
    segments are spread over the cluster, as many at a time as it has threads or CPUs, and each is searched where it is
    by one worker (`search.workers: auto`): the cores are taken by the segments.

    Raises:
        SegmentsFailedError: when all have been tried.
    """
    parts = partitions(settings)
    calls = [(part, segment_of(settings, part), strict, fresh, dict(tags)) for part in parts]
    runner = settings.execution.runner
    states = map(_here, calls) if runner == "local" else _spread(settings.execution)(calls)
    found = [_row(part, call[1], state) for part, call, state in zip(parts, calls, states, strict=True)]
    outcome = Segments(settings.name, tuple(row for row, _ in found))
    errors = [error for _, error in found if error is not None]
    if errors:
        raise SegmentsFailedError(outcome, all(isinstance(error, InputError) for error in errors))
    return outcome


@task(task_run_name="{part.name}", cache_policy=NO_CACHE, persist_result=False)
def train_segment(part: PipelineConfig, segment: str, strict: bool, fresh: bool, tags: dict[str, str]) -> SegmentRow:
    """Train one segment, in a flow run of its own; only figures are kept of it."""
    spread = part.execution.runner != "local" and part.search.workers == "auto"
    workers = {"search": part.search.model_copy(update={"workers": 1})} if spread else {}
    alone = part.model_copy(update={"execution": ExecutionSpec(), **workers})
    outcome = _segment_flow(alone, strict, fresh, {**tags, "segment": segment})
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
        seconds=sum(spent for stage, spent in outcome.seconds.items() if stage != "train_cpu"),
    )


@flow(name="train-segment", flow_run_name="{part.name}", persist_result=False, validate_parameters=False)
def _segment_flow(part: PipelineConfig, strict: bool, fresh: bool, tags: dict[str, str]) -> Outcome:
    with owned_flow_run(flow_run.id):
        outcome = trained(part, strict, fresh, tags)
        tidy(part)
    return outcome


def tidy(settings: PipelineConfig) -> None:
    """Remove what is kept no longer. A store that does not answer costs no model that has been trained."""
    try:
        clean(settings)
    except LstmError as error:
        get_run_logger().warning("%s", error)


def _here(call: tuple[Any, ...]) -> State[SegmentRow]:
    return train_segment(*call, return_state=True)


def _spread(execution: ExecutionSpec) -> Callable[[Iterable[tuple[Any, ...]]], list[State[SegmentRow]]]:
    """A flow that hands calls of `train_segment` to a cluster, and waits for all of them."""

    @flow(name="train-segments", task_runner=task_runner(execution), persist_result=False, validate_parameters=False)
    def spread(calls: Iterable[tuple[Any, ...]]) -> list[Any]:
        futures = [train_segment.submit(*call) for call in calls]
        for future in futures:
            future.wait()
        return [(future.state,) for future in futures]  # wrapped: Prefect fails a flow that returns a failed state

    return lambda calls: [state for (state,) in spread(calls)]


def task_runner(execution: ExecutionSpec) -> TaskRunner[Any]:
    """Prefect's runner of tasks on a cluster; without an address one of this machine is started.

    Raises:
        ConfigError: the package is not installed.
    """
    name = execution.runner
    module = installed(f"prefect_{name}.task_runners", execution)
    if name == "ray":
        return module.RayTaskRunner(address=execution.address)
    size = {"n_workers": execution.workers, "threads_per_worker": 1}  # no two segments in one process
    return module.DaskTaskRunner(address=execution.address, cluster_kwargs=None if execution.address else size)


def _row(part: PipelineConfig, segment: str, state: State[SegmentRow]) -> tuple[SegmentRow, BaseException | None]:
    result = state.result(raise_on_failure=False)
    if isinstance(result, SegmentRow):
        return result, None
    error = result if isinstance(result, BaseException) else RuntimeError(state.message or state.name)
    row = SegmentRow(part.name, segment, error=_one_line(error))
    get_run_logger().error("%s: %s", row.name, row.error)
    return row, error


def _one_line(error: BaseException) -> str:
    said = " ".join(str(error).split())
    return said if isinstance(error, LstmError) else f"{type(error).__name__}: {said}".removesuffix(": ")
