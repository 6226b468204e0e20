"""The public `Forecaster`: raw history in, forecasts with intervals in raw units out. Works without MLflow."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
import torch

from lstm.data.origins import window_origins
from lstm.data.panel import Panel, build_panel
from lstm.data.rows import SERIES, TIME
from lstm.data.table import canonicalize
from lstm.data.windows import Windows
from lstm.errors import ConfigError, DataError
from lstm.forecasting import serialization
from lstm.forecasting.adaptive import Origins
from lstm.forecasting.ensemble import combine_predictions, predict_network
from lstm.forecasting.parts import ForecasterParts, HistoryError
from lstm.forecasting.prediction import Prediction
from lstm.forecasting.rolling import MAX_BLOCKS, roll_forward
from lstm.metrics.metrics import Bands


@dataclass(frozen=True)
class Forecaster(ForecasterParts):
    """A trained model, ready to deploy: one network, or an ensemble of several.

    Immutable: `recalibrate` returns a new forecaster. Fields are those of `ForecasterParts`.
    """

    def forecast(
        self, frame: pd.DataFrame, horizon: int | None = None, levels: Sequence[int] = (80, 95)
    ) -> pd.DataFrame:
        """Forecast every series of `frame`, except those in `left_out`.

        The first step follows the last row in which every target was measured. With `normalize.log` the forecast is
        the median in raw units, not the mean, since the mean of exp is not exp of the mean, and the intervals reach
        further up than down.

        Args:
            frame: history in long format with the columns of the training, in raw units, at least `lookback` rows per
                series. Columns known ahead must continue over the horizon, with the targets left empty.
            horizon: steps ahead, by default the trained horizon. A longer forecast continues from its own forecasts,
                by the rules and assumptions of `lstm.forecasting.rolling`.
            levels: nominal coverage of the intervals, in percent: whole numbers from 1 to 99.

        Returns:
            One row per series, step and target, in this order, with the columns
                `series`: str; `time`: UTC; `target`: str, only with several targets;
                `forecast`: float64, raw units;
                `lo-80`, `hi-80`, …: float64, raw units, ends of each level's interval;
                `rolled`: bool, whether the step lies beyond the trained horizon, only with a longer `horizon`.

        Raises:
            DataError: a column, time or series breaks a rule, or the history is too short (`HistoryError`).
            ConfigError: the horizon or a level is out of bounds.

        Warns:
            RollingForward: `horizon` is longer than the trained one.
        """
        return self.forecast_table(canonicalize(frame, self.spec, "history"), horizon, levels)

    def forecast_table(
        self, table: pd.DataFrame, horizon: int | None = None, levels: Sequence[int] = (80, 95)
    ) -> pd.DataFrame:
        """Forecast from a canonical table, see `forecast`."""
        steps = self._check_horizon(horizon)
        if steps > self.horizon:
            return roll_forward(self, table, steps, lambda rows: self._forecast_block(rows, self.horizon, levels))
        return self._forecast_block(table, steps, levels)

    def _forecast_block(self, table: pd.DataFrame, steps: int, levels: Sequence[int]) -> pd.DataFrame:
        """Forecast at most the trained horizon from a canonical table."""
        recent = self.recent(table)
        if recent.empty:
            raise DataError("history: holds only series that were left out of the training. Train again with them.")
        panel = build_panel(recent, self.spec, self.categories, ahead=self.horizon)
        windows = self._newest_windows(panel)
        scale = self.normalizer.target_scale(panel.names)[:, None]
        prediction = self.predict_windows(windows)  # one window per series
        bands = self.intervals.bands(prediction, levels, scale)
        times = panel.times[windows.origins.numpy()[:, None] + np.arange(self.horizon)]
        return self._to_frame(panel.names, times, scale.denormalize(prediction.point), bands, steps)

    def forecast_windows(self, windows: Windows) -> np.ndarray:
        """Return the combined point forecast: (windows, horizon, targets) float64, normalised."""
        return self.predict_windows(windows).point

    def predict_windows(self, windows: Windows) -> Prediction:
        """Return the combined forecast, with quantiles at the levels of `quantiles`.

        Args:
            windows: of this forecaster's `lookback`; each member sees the last `sequence_length` steps of it.
        """
        predictions = [
            predict_network(member, windows.with_lookback(member.config.sequence_length)) for member in self.members
        ]
        return combine_predictions(predictions, self.method, self.weights)

    def recalibrate(self, table: pd.DataFrame) -> Self:
        """Return a forecaster whose intervals have followed the errors since `intervals.calibrated_until`.

        Args:
            table: canonical, as for `forecast_table`, up to any time. Of the rows before `calibrated_until` only the
                last `reach` of each series are used.

        Raises:
            ConfigError: `intervals.calibrated_until` is not known.
            DataError: the table breaks a rule.
        """
        if self.intervals.calibrated_until is None:
            raise ConfigError("intervals can't follow newer errors: they were fitted without `calibrated_until`.")
        rows = self.rows_since_calibration(table)
        if rows.empty:
            return self
        panel = build_panel(rows, self.spec, self.categories)
        allowed = (panel.times > self.intervals.calibrated_until) & np.r_[True, panel.causal[:-1]]
        origins = window_origins(panel.segment, self.lookback, self.horizon, allowed=allowed)
        windows = self.windows(panel, origins)
        actual = windows.actual(torch.arange(len(windows))).numpy().astype(np.float64)
        intervals = self.intervals.update(
            Origins(origins, panel.series[origins], panel.times[origins]), actual, self.predict_windows(windows)
        )
        return replace(self, intervals=intervals)

    def rows_since_calibration(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return the rows of a canonical table that `recalibrate` uses."""
        known = [name for name in table[SERIES].unique() if self.normalizer.knows(name) and name not in self.left_out]
        table, until = table[table[SERIES].isin(known)], self.intervals.calibrated_until
        if self.spec.frequency == "irregular" or table.empty or until is None:
            return table
        groups = (table[TIME] > pd.Timestamp(until, tz="UTC")).groupby(table[SERIES])
        rows, new = groups.transform("size"), groups.transform("sum")
        return table[(groups.cumcount() >= rows - new - self.reach) & (new > 0)]

    def save(self, folder: str | Path) -> None:
        """Write `model.safetensors` and `forecaster.json` into a folder. Neither is a pickle."""
        serialization.save(self, Path(folder))

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read what `save` wrote, onto the CPU. Forecasts are bit-identical to those before saving.

        Raises:
            CheckpointError: a file is missing, damaged, or of an earlier version.
        """
        return cls(**vars(serialization.load(Path(folder))))

    def _check_horizon(self, horizon: int | None) -> int:
        steps = self.horizon if horizon is None else horizon
        most = MAX_BLOCKS * self.horizon
        if not isinstance(steps, int | np.integer) or not 1 <= steps <= most:
            raise ConfigError(
                f"`1 <= horizon <= {most}` ({MAX_BLOCKS} times the trained {self.horizon}) must hold, but got "
                f"{horizon!r}. For a longer horizon train with a larger window.horizon."
            )
        return int(steps)

    def _newest_windows(self, panel: Panel) -> Windows:
        ends = np.flatnonzero(np.r_[panel.series[1:] != panel.series[:-1], True]) + 1
        origins = ends - self.horizon
        self._check_history(panel, origins)
        return self.windows(panel, origins)

    def windows(self, panel: Panel, origins: np.ndarray) -> Windows:
        """Return windows of a panel with this forecaster's columns.

        Args:
            panel: raw; it is normalised here.
            origins: (windows,) int64, row of the first step ahead.
        """
        codes_by_name = {name: code for code, name in enumerate(self.series, start=1)}
        codes = np.array([codes_by_name.get(name, 0) for name in panel.names], np.int64)  # 0: unknown series
        return Windows(
            torch.from_numpy(self.normalizer.normalize_features(panel)),
            torch.from_numpy(self.normalizer.normalize_targets(panel)),
            torch.from_numpy(origins),
            self.lookback,
            self.horizon,
            panel.layout.n_known,
            torch.from_numpy(codes[panel.series]),
        )

    def _check_history(self, panel: Panel, origins: np.ndarray) -> None:
        unbroken = origins - np.searchsorted(panel.segment, panel.segment[origins - 1])
        short = unbroken < self.lookback
        if short.any():
            series = int(short.argmax())
            raise HistoryError(
                f"series {panel.names[series]!r}: a forecast needs {self.lookback} rows of history without a gap over "
                f"{self.spec.missing.max_gap}, but there are {unbroken[series]} before "
                f"{pd.Timestamp(panel.times[origins[series]]).isoformat()}Z. Give a longer history.",
                tuple(np.array(panel.names, dtype=object)[short]),
            )

    def _to_frame(
        self, names: Sequence[str], times: np.ndarray, point: np.ndarray, bands: Bands, steps: int
    ) -> pd.DataFrame:
        shape = point[:, :steps].shape  # (series, steps, targets)
        columns: dict[str, Any] = {
            "series": pd.array(list(names), dtype="str").repeat(steps * shape[2]),
            "time": pd.DatetimeIndex(np.repeat(times[:, :steps].ravel(), shape[2])).tz_localize("UTC"),
        }
        if shape[2] > 1:
            columns["target"] = np.tile(self.spec.target, shape[0] * steps)
        columns["forecast"] = point[:, :steps].ravel()
        for level, (lower, upper) in bands.items():
            columns[f"lo-{level}"] = lower[:, :steps].ravel()
            columns[f"hi-{level}"] = upper[:, :steps].ravel()
        return pd.DataFrame(columns)
