"""What the steps after the search share: configuration, data and MLflow run."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from lstm.config.pipeline import PipelineConfig
from lstm.data.arrays import SplitArrays
from lstm.data.ingest import Table
from lstm.data.panel_store import PanelStore
from lstm.data.windows import Windows
from lstm.evaluation.scoring import ScoredWindows
from lstm.metrics.metrics import naive_errors
from tasks.handles import PanelHandle, RunHandle, WindowsHandle


@dataclass(frozen=True)
class PreparedData:
    """Table, panel and splits, opened once inside a task. Arrays are memory-mapped."""

    config: PipelineConfig
    table: Table
    panel: PanelStore
    windows: WindowsHandle
    arrays: Mapping[str, SplitArrays]  # by split: train, validation, test

    @classmethod
    def open(cls, config: PipelineConfig, table: Table, panel: PanelHandle, windows: WindowsHandle) -> Self:
        """Open the stores of the handles."""
        arrays = {split: SplitArrays.load(windows.folder / split) for split in ("train", "validation", "test")}
        return cls(config, table, PanelStore.load(panel.folder), windows, arrays)

    @cached_property
    def splits(self) -> dict[str, ScoredWindows]:
        """Validation and test windows to score, each with the longest lookback of the search."""
        names, train, grid = self.panel.names, self.arrays["train"], self.config.data.grid
        scale, season = self.panel.normalizer.target_scale(names), self.config.evaluate.season
        naive_error = naive_errors(train.series, train.segment, train.targets, season, len(names), scale)
        return {
            split: ScoredWindows.of(self.arrays[split], self._windows(split), scale, naive_error, names, grid)
            for split in ("validation", "test")
        }

    @property
    def training_windows(self) -> Windows:
        """Training windows with the lookback of the scored splits, `window.stride` steps apart."""
        return self._windows("train", self.config.window.stride)

    def _windows(self, split: str, stride: int = 1) -> Windows:
        lookback = max(self.config.longest_lookback, self.config.evaluate.season)
        return self.arrays[split].windows(lookback, self.config.window.horizon, self.panel.n_known, stride)


@dataclass(frozen=True)
class RunContext:
    """Configuration, data handles and MLflow run of one training run."""

    config: PipelineConfig
    table: Table
    panel: PanelHandle
    windows: WindowsHandle
    run: RunHandle

    def open(self) -> PreparedData:
        """Open the panel and the splits."""
        return PreparedData.open(self.config, self.table, self.panel, self.windows)
