"""The fields of a forecaster, and what follows from them without running a network."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from lstm.calendars.durations import parse_duration
from lstm.calendars.frequency import Frequency
from lstm.config.data import DataSpec
from lstm.data.grid import SEASONS_BACK
from lstm.data.rows import SERIES
from lstm.data.scaling import PanelNormalizer
from lstm.errors import DataError
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.ensemble import shared_quantile_levels
from lstm.networks.network import ForecastNetwork


class HistoryError(DataError):
    """Some series have too little history for a forecast; the message names the first of them."""

    def __init__(self, message: str, series: tuple[str, ...]) -> None:
        """Keep the names of all these series in `series`."""
        super().__init__(message)
        self.series = series


@dataclass(frozen=True)
class ForecasterParts:
    """Schema, normalizer, networks, weights and intervals: what is saved, and what `Forecaster` runs."""

    name: str
    spec: DataSpec  # with its actual frequency, never `infer`
    categories: dict[str, list[str]]  # categories of each categorical column in training
    normalizer: PanelNormalizer
    members: tuple[ForecastNetwork, ...]
    weights: tuple[float, ...]  # one per member
    method: str  # of `EnsembleMethod`: how the members are combined
    intervals: Conformal
    lineage: dict[str, Any]  # JSON-ready: the run, data and configuration of the training
    left_out: tuple[str, ...] = ()  # series of the training data that can't be forecast
    series: tuple[str, ...] = ()  # series of the training data, in the order of the networks' series embedding

    @property
    def horizon(self) -> int:
        """Steps ahead that the networks were trained for."""
        return self.members[0].config.horizon

    @property
    def lookback(self) -> int:
        """Rows of history without a gap that each series needs: the longest `sequence_length` of the members."""
        return max(member.config.sequence_length for member in self.members)

    @property
    def quantiles(self) -> tuple[float, ...]:
        """Levels of the quantiles that the intervals start from; () unless all members share them."""
        return shared_quantile_levels([member.config for member in self.members])

    @property
    def reach(self) -> int:
        """Steps of history that a forecast may depend on: the lookback, and a filled gap that may reach into it."""
        missing, gap = self.spec.missing, self.spec.missing.max_gap
        if isinstance(gap, str):
            gap = math.ceil(parse_duration(gap) / Frequency.parse(self.spec.frequency).step)
        return self.lookback + gap + 1 + SEASONS_BACK * (missing.season or 0)

    def recent(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a canonical table that a forecast can depend on, without the series in `left_out`."""
        table = table[~table[SERIES].isin(self.left_out)] if self.left_out else table
        if self.spec.frequency == "irregular" or len(table) <= self.reach:
            return table
        names, row = table[SERIES], np.arange(len(table))
        starts = np.flatnonzero((names != names.shift()).to_numpy(bool))
        measured = table[list(self.spec.target)].notna().all(axis=1).to_numpy()
        newest = np.maximum.reduceat(np.where(measured, row, -1), starts)  # -1: never measured, so all rows are kept
        kept = row >= np.repeat(newest, np.diff(np.r_[starts, len(row)])) - self.reach
        return table if kept.all() else table[kept]
