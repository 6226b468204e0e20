"""Writes the MLflow runs of trials from a thread of its own, so that the search does not wait for MLflow."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from mlflow.exceptions import MlflowException

from lstm.config.model import ModelConfig
from lstm.errors import StoreError
from tasks.handles import RunHandle, trial_name
from tasks.search.trial_folder import History
from tasks.tracking import runs

_WRITE_EVERY_S = 10.0  # the curves of a running trial


class TrialLogger:
    """A child run for each trial, by the number of the trial."""

    def __init__(self, parent: RunHandle, thread: ThreadPoolExecutor) -> None:
        """Use `trial_logger`."""
        self._parent, self._thread = parent, thread
        self._runs: dict[int, RunHandle] = {}
        self._buffered: dict[int, History] = {}  # epochs that are not written yet
        self._written_at: dict[int, float] = {}  # when epochs were last written
        self._last: Future[None] | None = None

    def start(self, number: int, network: ModelConfig, **tags: Any) -> None:
        """Start a run with every key of the network as a parameter."""
        self._buffered[number], self._written_at[number] = [], time.monotonic()
        self._submit(self._start, number, network, tags)

    def log_epochs(self, number: int, records: History) -> None:
        """Log the metrics of these epochs; they are written in batches."""
        self._buffered[number] += records
        if time.monotonic() - self._written_at[number] >= _WRITE_EVERY_S:
            self._write_epochs(number)

    def end(self, number: int, status: str = "FINISHED", metrics: dict[str, float] | None = None, **tags: Any) -> None:
        """Write the remaining epochs, the final metrics and the tags, and end the run."""
        self._write_epochs(number)
        self._submit(self._end, number, status, metrics or {}, tags)

    def adopt(self, number: int, run: RunHandle) -> None:
        """Register a run that another process has written."""
        self._runs[number] = run

    def run_of(self, number: int) -> RunHandle:
        """Return the run of a trial, after everything is written."""
        self.flush()
        return self._runs[number]

    def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            StoreError: MLflow has refused something.
        """
        try:
            if self._last is not None:
                self._last.result()
        except MlflowException as error:
            raise StoreError(
                f"MLflow could not write what the trials logged ({str(error).splitlines()[0]}). The search is kept: "
                "run the same command again to continue it."
            ) from None

    def _submit(self, write: Callable[..., None], *arguments: Any) -> None:
        before = self._last

        def in_order() -> None:
            if before is not None:
                before.result()  # raises the error of an earlier write: nothing is written after it
            write(*arguments)

        self._last = self._thread.submit(in_order)

    def _write_epochs(self, number: int) -> None:
        records, self._buffered[number] = self._buffered[number], []
        self._written_at[number] = time.monotonic()
        if records:
            self._submit(lambda: runs.log_curves(self._runs[number], records))

    def _start(self, number: int, network: ModelConfig, tags: dict[str, Any]) -> None:
        run = runs.start_run(self._parent.experiment_id, trial_name(number), {"kind": "trial", **tags}, self._parent)
        runs.log(run, params=network.model_dump(mode="json"))
        self._runs[number] = run

    def _end(self, number: int, status: str, metrics: dict[str, float], tags: dict[str, Any]) -> None:
        run = self._runs[number]
        runs.log(run, metrics)
        runs.tag(run, **tags)
        runs.end(run, status)


@contextmanager
def trial_logger(parent: RunHandle) -> Iterator[TrialLogger]:
    """Write runs below `parent`. After an error in the block, what is still queued is dropped."""
    thread = ThreadPoolExecutor(1, thread_name_prefix="tracking")
    try:
        logger = TrialLogger(parent, thread)
        yield logger
        logger.flush()
    finally:
        thread.shutdown(wait=True, cancel_futures=True)
