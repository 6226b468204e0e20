"""What each node of a search receives, and the checks that it sees the same stores as the training run."""

import socket
import time
from dataclasses import dataclass
from pathlib import Path

import optuna
from mlflow.exceptions import MlflowException

from lstm.calendars.durations import parse_duration
from lstm.config.pipeline import PipelineConfig
from lstm.errors import ConfigError
from tasks.handles import RunHandle, WindowsHandle
from tasks.search.storage import STORAGE_VARIABLE, database_url
from tasks.search.study import load_study, n_failed
from tasks.search.workspace import study_key
from tasks.settings import home
from tasks.tracking import runs


@dataclass(frozen=True)
class SearchJob:
    """One search of a training run. Holds no address and no password: a node has those in its own environment."""

    config: PipelineConfig
    windows: WindowsHandle
    run: RunHandle
    study_name: str
    folder: Path  # of the study
    home: Path
    in_database: bool  # whether the study is in a database
    key: str  # of the search, with the versions of lstm and torch
    owner_run_id: str  # see `leases.search_session`
    until: float  # Unix time; infinite without search.timeout
    failed_before: int  # trials that failed in earlier runs; they do not count as planned ones

    @classmethod
    def of(
        cls,
        config: PipelineConfig,
        windows: WindowsHandle,
        run: RunHandle,
        study: optuna.Study,
        folder: Path,
        owner_run_id: str,
    ) -> "SearchJob":
        """Return the job of a study; `search.timeout` begins now."""
        timeout = config.search.timeout
        return cls(
            config=config,
            windows=windows,
            run=run,
            study_name=study.study_name,
            folder=folder,
            home=home(),
            in_database=bool(database_url()),
            key=study_key(config, windows),
            owner_run_id=owner_run_id,
            until=time.time() + parse_duration(timeout).total_seconds() if timeout else float("inf"),
            failed_before=n_failed(study),
        )

    @property
    def is_distributed(self) -> bool:
        """Whether several nodes work on the study."""
        return self.config.execution.runner != "local"

    def open_study(self) -> optuna.Study:
        """Open the study on a node.

        Raises:
            ConfigError: the node does not see the stores of the training run, or has another version of lstm or torch.
        """
        host = socket.gethostname()
        if not self.windows.folder.is_dir() or not self.folder.is_dir():
            raise ConfigError(f"{host}: {self.home} is missing. LSTM_HOME must be a folder that all machines see.")
        if home() != self.home:
            raise ConfigError(f"{host}: LSTM_HOME is {home()}, but must be {self.home}, as on the training machine.")
        if self.in_database != bool(database_url()):
            raise ConfigError(f"{host}: {STORAGE_VARIABLE} must be set, or not set, as on the training machine.")
        study = load_study(self.study_name, self.folder, self.config)
        if study is None:
            raise ConfigError(
                f"{host}: {STORAGE_VARIABLE} names a database without this study. Set it as on the training machine."
            )
        if study_key(self.config, self.windows) != self.key:
            raise ConfigError(f"{host}: has another version of lstm or torch than the training machine. Install that.")
        try:
            runs.client().get_run(self.run.run_id)
        except MlflowException:
            raise ConfigError(f"{host}: MLFLOW_TRACKING_URI must be set as on the training machine.") from None
        return study
