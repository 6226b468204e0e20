"""Plot of a monitoring result: live errors, their CUSUM chart, and shifts of the inputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm.config.pipeline import PipelineConfig
from tasks.monitoring.result import ErrorChart, MonitorResult
from tasks.reporting.plotting import INK, MUTED, PALETTE, format_dates, placeholder_text, subplots

_MAX_INPUTS = 8


def monitor_plot(result: MonitorResult, config: PipelineConfig, alarms: Sequence[str] = ()) -> Figure:
    """Plot errors, their CUSUM chart and the inputs, one below the other.

    Args:
        result: of one moment.
        config: of the model, for the thresholds.
        alarms: moments of alarms, ISO 8601.
    """
    n_inputs = min(len(result.inputs), _MAX_INPUTS)
    title = f"{result.version} on {result.moment[:10]}, {result.age_days} days after the end of its data"
    heights = [2.6, 1.8, 0.7 + 0.28 * max(n_inputs, 1)]
    figure, grid = subplots(title, sum(heights) + 0.8, 3, height_ratios=heights)
    errors, sums, inputs = grid[:, 0]
    if result.errors is None:
        for axes in (errors, sums):
            placeholder_text(axes, result.reason)
    else:
        _plot_errors(errors, result.errors, config, alarms)
        _plot_cusum(sums, result.errors, alarms)
    _plot_inputs(inputs, result, config)
    return figure


def _plot_errors(axes: Axes, errors: ErrorChart, config: PipelineConfig, alarms: Sequence[str]) -> None:
    _plot_days(axes, errors, "ratio", label="live")
    axes.axhline(1, color=INK, linewidth=1, label="promised by the backtest")
    label = "monitor.ratio, of the last week's"
    axes.axhline(config.monitor.ratio, color=PALETTE[1], linewidth=1, linestyle="--", label=label)
    _finish_days(axes, errors, alarms, "error of a day\n/ the backtest's")


def _plot_cusum(axes: Axes, errors: ErrorChart, alarms: Sequence[str]) -> None:
    _plot_days(axes, errors, "cusum")
    axes.axhline(errors.limit, color=PALETTE[1], linewidth=1, linestyle="--", label="limit")
    _finish_days(axes, errors, alarms, "CUSUM")


def _plot_days(axes: Axes, errors: ErrorChart, key: str, **style: Any) -> None:
    values = [day[key] for day in errors.days]
    axes.plot(_times(errors), values, color=PALETTE[0], marker="o", markersize=3.5, **style)


def _finish_days(axes: Axes, errors: ErrorChart, alarms: Sequence[str], label: str) -> None:
    """Mark the alarms within the plotted days, and label the axes."""
    first, last = min(_times(errors)), max(_times(errors)) + np.timedelta64(1, "D")
    plotted = [time for time in map(_utc, alarms) if first <= time <= last]
    for number, time in enumerate(plotted):
        axes.axvline(time, color=PALETTE[3], linewidth=1.5, label=None if number else "alarm")
    axes.set_ylabel(label)
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False, fontsize=8.5, loc="upper left")
    format_dates(axes)


def _plot_inputs(axes: Axes, result: MonitorResult, config: PipelineConfig) -> None:
    shifts = result.inputs[:_MAX_INPUTS][::-1]
    if not shifts:
        return placeholder_text(axes, "no input has values to compare")
    rows = range(len(shifts))
    colors = [PALETTE[1] if shift.drifted else PALETTE[0] for shift in shifts]
    axes.barh(rows, [shift.ks for shift in shifts], color=colors)
    usual = [shift.usual_ks for shift in shifts]
    axes.plot(usual, rows, "|", color=INK, markersize=14, label="largest within training")
    axes.axvline(config.monitor.ks, color=MUTED, linewidth=1, linestyle="--", label="monitor.ks")
    axes.set_yticks(rows, [f"{shift.column[:24]} (PSI {shift.psi:.2f})" for shift in shifts])
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 1)
    axes.set_xlabel("Kolmogorov-Smirnov distance from training")
    axes.legend(frameon=False, fontsize=8.5, loc="lower right")
    return None


def _times(errors: ErrorChart) -> Any:
    """Return the days' ends as a datetime64 array, (days,)."""
    return np.array([_utc(day["until"]) for day in errors.days])


def _utc(moment: str) -> Any:
    return pd.Timestamp(moment).tz_convert("UTC").tz_localize(None).to_datetime64()
