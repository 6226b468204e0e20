"""The MLflow runs of trials, written beside the search by a thread of their own: the search never waits for them."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException

from lstm.config.model import ModelConfig
from lstm.errors import StoreError
from tasks.handles import RunHandle, trial_name
from tasks.tracking import runs as tracking

_WRITE_EVERY_S = 10.0  # seconds between two writes of a running trial's curves
History = list[dict[str, float]]


class TrialLogger:
    """One child run a trial, by the trial's number."""

    def __init__(self, parent: RunHandle, thread: ThreadPoolExecutor) -> None:
        """Use `trial_logger`."""
        self._parent, self._thread = parent, thread
        self._runs: dict[int, RunHandle] = {}
        self._waiting: dict[int, History] = {}  # epochs that are not written yet
        self._written: dict[int, float] = {}  # when the last ones were
        self._last: Future[None] | None = None

    def start(self, number: int, network: ModelConfig, **tags: Any) -> None:
        """Begin a run, with every key of the network as a parameter."""
        self._waiting[number], self._written[number] = [], time.monotonic()
        self._do(self._start, number, network, tags)

    def epochs(self, number: int, records: History) -> None:
        """Keep these epochs; they are written some at a time."""
        self._waiting[number] += records
        if time.monotonic() - self._written[number] >= _WRITE_EVERY_S:
            self._flush(number)

    def end(self, number: int, status: str = "FINISHED", figures: dict[str, float] | None = None, **tags: Any) -> None:
        """Write what is left, the final figures and the tags, and end the run."""
        self._flush(number)
        self._do(self._end, number, status, figures or {}, tags)

    def known(self, number: int, run: RunHandle) -> None:
        """The run of a trial that another process has written."""
        self._runs[number] = run

    def run_of(self, number: int) -> RunHandle:
        """The run, once all that has been asked for is written."""
        self.wait()
        return self._runs[number]

    def wait(self) -> None:
        """Until all is written.

        Raises:
            StoreError: MLflow did not take something.
        """
        try:
            if self._last is not None:
                self._last.result()
        except MlflowException as error:
            raise StoreError(
                f"MLflow did not take what the trials logged ({str(error).splitlines()[0]}). The search is kept: the "
                "same command goes on from it."
            ) from None

    def _do(self, work: Callable[..., None], *arguments: Any) -> None:
        before = self._last

        def in_order() -> None:
            if before is not None:
                before.result()  # what failed once is not tried again: its error goes on to whoever waits
            work(*arguments)

        self._last = self._thread.submit(in_order)

    def _flush(self, number: int) -> None:
        records, self._waiting[number] = self._waiting[number], []
        self._written[number] = time.monotonic()
        if records:
            self._do(lambda: tracking.log_curves(self._runs[number], records))

    def _start(self, number: int, network: ModelConfig, tags: dict[str, Any]) -> None:
        run = tracking.start_run(
            self._parent.experiment_id, trial_name(number), {"kind": "trial", **tags}, self._parent
        )
        tracking.log(run, params=network.model_dump(mode="json"))
        self._runs[number] = run

    def _end(self, number: int, status: str, figures: dict[str, float], tags: dict[str, Any]) -> None:
        run = self._runs[number]
        tracking.log(run, figures)
        tracking.tag(run, **tags)
        tracking.end(run, status)


@contextmanager
def trial_logger(parent: RunHandle) -> Iterator[TrialLogger]:
    """The runs below `parent`; all is written when the block ends well, and nothing more when it does not."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="tracking")
    try:
        runs = TrialLogger(parent, thread)
        yield runs
        runs.wait()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
