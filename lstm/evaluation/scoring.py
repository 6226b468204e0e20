"""The windows of one split with what is needed to score forecasts of them in raw units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch

from lstm.data.arrays import SplitArrays
from lstm.data.scaling import TargetScale
from lstm.data.windows import Windows
from lstm.evaluation.intervals import Conformal
from lstm.evaluation.metrics import Scores, interval_scores, point_scores, skill

_ERRORS = ("rmse", "mae", "mape", "smape", "mase", "pinball")


@dataclass(frozen=True)
class ScoredWindows:
    """Forecasts are scored on these; all arrays go by window first."""

    windows: Windows
    actual: np.ndarray  # (windows, horizon, targets) float64, normalised, NaN where not measured
    scale: TargetScale  # (windows, 1, targets)
    naive_error: np.ndarray  # (windows, 1, targets), raw: what MASE divides by
    series: np.ndarray  # (windows,) int
    times: np.ndarray  # (windows,) datetime64 of the first step ahead

    @classmethod
    def of(cls, arrays: SplitArrays, windows: Windows, scale: TargetScale, naive_error: np.ndarray) -> Self:
        """Put the series' scale and raw naive error, (series, targets) each, beside their windows."""
        origins = windows.origins.numpy()
        series = np.asarray(arrays.series[origins])
        return cls(
            windows=windows,
            actual=windows.actual(torch.arange(len(windows))).numpy().astype(np.float64),
            scale=scale[series][:, None],
            naive_error=naive_error[series][:, None],
            series=series,
            times=np.asarray(arrays.times[origins]),
        )

    def scores(self, forecast: np.ndarray, intervals: Conformal, levels: Sequence[int]) -> Scores:
        """All metrics of a normalised forecast (windows, horizon, targets)."""
        actual, ours = self.raw(self.actual), self.raw(forecast)
        bands = intervals.bands(forecast, levels, self.scale)
        error = forecast - self.actual
        mse = float(np.nanmean(np.square(error)))
        return {
            **point_scores(actual, ours, self.naive_error),
            **interval_scores(actual, ours, bands),
            "mse_normalized": mse,
            "rmse_normalized": float(np.sqrt(mse)),
            "mae_normalized": float(np.nanmean(np.abs(error))),
        }

    def raw(self, normalized: np.ndarray) -> np.ndarray:
        """In the units of the targets."""
        return self.scale.raw(normalized)


def with_skill(scores: Mapping[str, float], reference: Mapping[str, float]) -> Scores:
    """The scores, and `<metric>_skill` against those of the reference on the same windows for each error metric."""
    skills = {f"{name}_skill": skill(value, reference[name]) for name, value in scores.items() if _is_error(name)}
    return {**scores, **skills}


def _is_error(name: str) -> bool:
    return name.removeprefix("val_").removeprefix("test_") in _ERRORS
