"""The monitor's picture: errors beside the promise, the chart that judges them, and how far the inputs moved."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm.config.pipeline import PipelineConfig
from tasks.monitoring.result import ErrorChart, MonitorResult
from tasks.reporting.plotting import INK, MUTED, PALETTE, canvas, dated, say

_MOST_INPUTS = 8


def monitor_figure(found: MonitorResult, config: PipelineConfig, alarms: Sequence[str] = ()) -> Figure:
    """Three pictures one below the other.

    Args:
        found: of a moment.
        config: of the model, for the thresholds.
        alarms: moments at which drift was told, ISO 8601.
    """
    shown = found.inputs[:_MOST_INPUTS]
    title = f"{found.version} on {found.moment[:10]}, {found.age_days} days after the end of its data"
    heights = [2.6, 1.8, 0.7 + 0.28 * max(len(shown), 1)]
    figure, grid = canvas(title, sum(heights) + 0.8, 3, height_ratios=heights)
    errors, sums, inputs = grid[:, 0]
    if found.errors is None:
        for axes in (errors, sums):
            say(axes, found.reason)
    else:
        _errors(errors, found.errors, config, alarms)
        _sums(sums, found.errors, alarms)
    _inputs(inputs, found, config)
    return figure


def _errors(axes: Axes, errors: ErrorChart, config: PipelineConfig, alarms: Sequence[str]) -> None:
    times = _times(errors)
    axes.plot(times, [day["ratio"] for day in errors.days], color=PALETTE[0], marker="o", markersize=3.5, label="live")
    axes.axhline(1, color=INK, linewidth=1, label="promised by the backtest")
    label = "monitor.ratio, of the last week's"
    axes.axhline(config.monitor.ratio, color=PALETTE[1], linewidth=1, linestyle="--", label=label)
    _mark(axes, times, alarms)
    axes.set_ylabel("error of a day\n/ the backtest's")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")
    dated(axes)


def _sums(axes: Axes, errors: ErrorChart, alarms: Sequence[str]) -> None:
    times = _times(errors)
    axes.plot(times, [day["cusum"] for day in errors.days], color=PALETTE[0], marker="o", markersize=3.5)
    axes.axhline(errors.limit, color=PALETTE[1], linewidth=1, linestyle="--", label="limit")
    _mark(axes, times, alarms)
    axes.set_ylabel("CUSUM")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")
    dated(axes)


def _mark(axes: Axes, times: Any, alarms: Sequence[str]) -> None:
    first, last = min(times), max(times) + np.timedelta64(1, "D")
    within = [moment for moment in map(_naive, alarms) if first <= moment <= last]
    for number, moment in enumerate(within):
        axes.axvline(moment, color=PALETTE[3], linewidth=1.5, label=None if number else "alarm")


def _inputs(axes: Axes, found: MonitorResult, config: PipelineConfig) -> None:
    shown = found.inputs[:_MOST_INPUTS][::-1]
    if not shown:
        return say(axes, "no input has values to compare")
    rows = range(len(shown))
    axes.barh(rows, [one.ks for one in shown], color=[PALETTE[1] if one.drifted else PALETTE[0] for one in shown])
    axes.plot([one.usual_ks for one in shown], rows, "|", color=INK, markersize=14, label="most within training")
    axes.axvline(config.monitor.ks, color=MUTED, linewidth=1, linestyle="--", label="monitor.ks")
    axes.set_yticks(rows, [f"{one.column[:24]} (PSI {one.psi:.2f})" for one in shown])
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1)
    axes.set_xlabel("Kolmogorov-Smirnov distance from training")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    return None


def _times(errors: ErrorChart) -> Any:
    """datetime64, as matplotlib takes it."""
    return np.array([_naive(day["until"]) for day in errors.days])


def _naive(moment: str) -> Any:
    return pd.Timestamp(moment).tz_convert("UTC").tz_localize(None).to_datetime64()
