"""What became of a search's trials: counts, results, and the end of each one's MLflow run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from lstm.config.pipeline import PipelineConfig
from lstm.errors import TrainingError
from tasks.handles import Search, Trial, trial_name
from tasks.search import study as studies
from tasks.search.trial_folder import Result
from tasks.search.trial_logger import TrialLogger

_FINAL = ("val_rmse", "best_epoch", "parameters", "latency_ms")
_LOGGED = {"val_rmse": "val_rmse_normalized"}  # `val_rmse` is in raw units, see tasks/evaluate.py
_STATES = {TrialState.FAIL: "failed", TrialState.RUNNING: "cut"}
_LOST = "its files are damaged or gone: --fresh trains anew"


class SearchResults:
    """Counts trials as they end."""

    def __init__(self, config: PipelineConfig, runs: TrialLogger, progress: Callable[[int, float], None]) -> None:
        """`progress` is told how many have ended, and the best error so far."""
        self.config, self.runs, self.progress = config, runs, progress
        self.results: dict[int, Result] = {}  # of the finished trials
        self.resumed: dict[int, int] = {}  # at which epoch
        self.ended = self.pruned = self.failed = self.answered = self.same = self.cut = self.lost = 0
        self.last_failure = self.stopped = ""
        self.cpu_seconds = 0.0

    def count(self, number: int, state: TrialState, result: dict[str, Any], same_as: int | None = None) -> None:
        """Count a trial that has ended, or was cut short and is RUNNING in the study, and end its run."""
        tags = self.add(number, state, result, same_as)
        known = result if same_as is None else self.results.get(same_as, {})
        self.runs.end(number, "FAILED" if state == TrialState.FAIL else "FINISHED", _figures(known), **tags)

    def write(self, trial: FrozenTrial, result: dict[str, Any], **tags: str) -> None:
        """Count a trial that ended elsewhere or before, and write its run from what it left."""
        self.runs.start(trial.number, self.config.network_config(trial.user_attrs.get("changes", {})), **tags)
        self.runs.epochs(trial.number, result["history"])
        self.count(trial.number, trial.state, result, trial.user_attrs.get("same_as"))

    def add(self, number: int, state: TrialState, result: dict[str, Any], same_as: int | None = None) -> dict[str, str]:
        """Count a trial whose run others have ended; gives the tags of the run."""
        tags = {"trial_state": _STATES.get(state, state.name.lower())}
        self.ended += 1
        self.pruned += state == TrialState.PRUNED
        self.cut += state == TrialState.RUNNING
        self.same += same_as is not None
        if same_as is not None:
            tags["same_as"] = trial_name(same_as)
        elif "lost" in result:
            self.lost += 1
            self.last_failure = tags["error"] = _LOST
        if number in self.resumed:
            tags["resumed_at_epoch"] = str(self.resumed[number])
        self.failed += state == TrialState.FAIL
        if state in _STATES and "error" in result:
            self.last_failure = tags["error"] = result["error"]
        if "val_rmse" in result:
            self.results[number] = result
        if result.get("findings"):
            tags["findings"] = result["findings"]
        best = min((one["val_rmse"] for one in self.results.values()), default=float("nan"))
        self.progress(self.ended, best)
        return tags

    def search(self, study: optuna.Study, folder: Path) -> Search:
        """The finished trials, best first, and what became of the others.

        Raises:
            TrainingError: no trial could be finished.
        """
        if not self.results:
            raise TrainingError(f"none of {self.ended} trials could be finished. The last one: {self.last_failure}")
        trials = [self._handle(frozen, folder) for frozen in study.trials if frozen.number in self.results]
        several = len(self.config.search.objectives) > 1
        return Search(
            trials=tuple(sorted(trials, key=lambda trial: trial.val_rmse_normalized)),
            pareto_front=tuple(number for number in studies.pareto_front(study) if number in self.results and several),
            n_planned=self.config.search.trials,
            n_ended=self.ended,
            n_pruned=self.pruned,
            n_failed=self.failed,
            n_cached=self.answered,
            n_duplicates=self.same,
            n_interrupted=self.cut,
            n_missing=self.lost,
            last_failure=self.last_failure,
            stop_reason=self.stopped,
            cpu_seconds=self.cpu_seconds,
        )

    def _handle(self, frozen: FrozenTrial, folder: Path) -> Trial:
        result = self.results[frozen.number]
        return Trial(
            number=frozen.number,
            member=frozen.user_attrs.get("member"),
            run_id=self.runs.run_of(frozen.number).run_id,
            folder=folder / trial_name(frozen.number),
            params=frozen.user_attrs["changes"],
            val_rmse_normalized=result["val_rmse"],
            **{key: result[key] for key in (*_FINAL[1:], "seconds", "findings")},
        )


def _figures(result: dict[str, Any]) -> dict[str, float]:
    """What a run shows of a result."""
    found = {_LOGGED.get(key, key): result[key] for key in _FINAL if result.get(key) is not None}
    return {**found, "train_seconds": result["seconds"]} if "seconds" in result else found
