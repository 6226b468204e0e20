"""The results of a search: outcome and metrics of each trial, and the end of its MLflow run."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.config.pipeline import PipelineConfig
from lstm.errors import TrainingError
from tasks.handles import Search, Trial, TrialMetrics, trial_name
from tasks.search.study import pareto_front
from tasks.search.trial_folder import TrialResult, result_of
from tasks.search.trial_logger import TrialLogger

_STATE_TAGS = {TrialState.FAIL: "failed", TrialState.RUNNING: "cut"}  # else the name of Optuna's state


class SearchResults:
    """Counts trials by outcome and keeps the metrics of those that have a network."""

    def __init__(self, config: PipelineConfig, logger: TrialLogger, on_progress: Callable[[int, float], None]) -> None:
        """`on_progress`: called with the number of trials that have ended and the lowest validation error."""
        self.config, self.logger, self.on_progress = config, logger, on_progress
        self.metrics: dict[int, TrialMetrics] = {}  # by trial number
        self.resumed_at: dict[int, int] = {}  # the epoch from which a trial was continued
        self.n_ended = self.n_pruned = self.n_failed = self.n_cached = 0
        self.n_duplicates = self.n_interrupted = self.n_missing = 0
        self.last_failure = self.stop_reason = ""
        self.cpu_seconds = 0.0

    def record(self, number: int, state: TrialState, result: TrialResult, same_as: int | None = None) -> None:
        """Record a trial, and end its MLflow run. An interrupted trial is RUNNING in the study."""
        tags = self.record_logged(number, state, result, same_as)
        metrics = result.metrics if same_as is None else self.metrics.get(same_as)
        status = "FAILED" if state == TrialState.FAIL else "FINISHED"
        self.logger.end(number, status, {} if metrics is None else _logged(metrics), **tags)

    def record_unlogged(self, trial: FrozenTrial, result: TrialResult, **tags: str) -> None:
        """Record a finished trial that has no MLflow run below this parent yet, and write that run."""
        self.logger.start(trial.number, self.config.network_config(trial.user_attrs.get("changes", {})), **tags)
        self.logger.log_epochs(trial.number, result.history)
        self.record(trial.number, trial.state, result, trial.user_attrs.get("same_as"))

    def record_logged(
        self, number: int, state: TrialState, result: TrialResult, same_as: int | None = None
    ) -> dict[str, str]:
        """Record a trial whose MLflow run has ended; return the tags that the run should have."""
        tags = {"trial_state": _STATE_TAGS.get(state, state.name.lower())}
        self.n_ended += 1
        self.n_pruned += state == TrialState.PRUNED
        self.n_failed += state == TrialState.FAIL
        self.n_interrupted += state == TrialState.RUNNING
        self.n_missing += result.state == "missing"
        if same_as is not None:
            self.n_duplicates += 1
            tags["same_as"] = trial_name(same_as)
        if number in self.resumed_at:
            tags["resumed_at_epoch"] = str(self.resumed_at[number])
        if result.error:
            self.last_failure = tags["error"] = result.error
        if result.metrics is not None:
            self.metrics[number] = result.metrics
            if result.metrics.findings:
                tags["findings"] = result.metrics.findings
        best = min((metrics.val_rmse_normalized for metrics in self.metrics.values()), default=float("nan"))
        self.on_progress(self.n_ended, best)
        return tags

    def search(self, study: optuna.Study, folder: Path) -> Search:
        """Return the trials that have a network, best first, and the counts of the others.

        Raises:
            TrainingError: no trial has a network.
        """
        if not self.metrics:
            raise TrainingError(f"none of {self.n_ended} trials could be finished. The last one: {self.last_failure}")
        trials = [self._trial(trial, folder) for trial in study.trials if trial.number in self.metrics]
        several = len(self.config.search.objectives) > 1
        return Search(
            trials=tuple(sorted(trials, key=lambda trial: trial.val_rmse_normalized)),
            pareto_front=tuple(number for number in pareto_front(study) if several and number in self.metrics),
            n_planned=self.config.search.trials,
            n_ended=self.n_ended,
            n_pruned=self.n_pruned,
            n_failed=self.n_failed,
            n_cached=self.n_cached,
            n_duplicates=self.n_duplicates,
            n_interrupted=self.n_interrupted,
            n_missing=self.n_missing,
            last_failure=self.last_failure,
            stop_reason=self.stop_reason,
            cpu_seconds=self.cpu_seconds,
        )

    def _trial(self, trial: FrozenTrial, folder: Path) -> Trial:
        return Trial(
            number=trial.number,
            member=trial.user_attrs.get("member"),
            run_id=self.logger.run_of(trial.number).run_id,
            folder=folder / trial_name(trial.number),
            params=trial.user_attrs["changes"],
            **asdict(self.metrics[trial.number]),
        )


def finished_result(trial: FrozenTrial, folder: Path) -> TrialResult:
    """Return the result of a finished trial of the study, read from its folder below `folder`."""
    if trial.state == TrialState.FAIL:
        return TrialResult("failed", error=trial.user_attrs.get("error", "its validation error is not a number"))
    if "same_as" in trial.user_attrs:
        return TrialResult("duplicate")
    missing = TrialResult("missing", error="its files are damaged or missing. Train it again with --fresh.")
    return result_of(folder / trial_name(trial.number)) or missing


def _logged(metrics: TrialMetrics) -> dict[str, float]:
    """Return the final metrics of an MLflow run."""
    values = {key: value for key, value in asdict(metrics).items() if key != "findings" and value is not None}
    values["train_seconds"] = values.pop("seconds")
    return values
