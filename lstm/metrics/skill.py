"""Metrics relative to a reference forecast: skill scores, and the overall weighted average (OWA).

OWA: Makridakis, Spiliotis & Assimakopoulos 2020, "The M4 Competition".
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from lstm.metrics.metrics import Scores

ERRORS = frozenset(  # metrics with a skill: lower is better, 0 is perfect
    {"rmse", "mae", "mape", "smape", "mase", "pinball", "crps", "mse_normalized", "rmse_normalized", "mae_normalized"}
)


def skill(ours: float, reference: float) -> float:
    """Return 1 − ours / reference, the share of the reference's error that is removed; NaN if its error is 0."""
    return float(_skill(ours, reference))


def relative_scores(ours: Mapping[str, Any], reference: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metrics of a forecast relative to a reference on the same windows.

    Args:
        ours: metrics, numbers or arrays; a prefix `val_` or `test_` of the names is kept.
        reference: the same metrics of the reference.

    Returns:
        `<metric>_skill` of each of `ERRORS` in `ours`, and `owa`: the mean of sMAPE and MASE, each divided by the
        reference's. In the M4 competition the reference is Naive 2, here usually the seasonal naive.
    """
    relative: dict[str, Any] = {}
    for name in ours:
        prefix = next((prefix for prefix in ("val_", "test_") if name.startswith(prefix)), "")
        metric = name.removeprefix(prefix)
        if metric in ERRORS:
            relative[f"{name}_skill"] = _skill(ours[name], reference[name])
        if metric == "smape" and f"{prefix}mase" in ours:
            ratios = [1 - _skill(ours[error], reference[error]) for error in (name, f"{prefix}mase")]
            relative[f"{prefix}owa"] = sum(ratios) / 2
    return relative


def with_skill(scores: Mapping[str, float], reference: Mapping[str, float]) -> Scores:
    """Return the scores and their `relative_scores` to a reference on the same windows."""
    return {**scores, **{name: float(value) for name, value in relative_scores(scores, reference).items()}}


def _skill(ours: Any, reference: Any) -> np.ndarray:
    reference = np.asarray(reference)
    return 1 - np.asarray(ours) / np.where(reference > 0, reference, np.nan)
