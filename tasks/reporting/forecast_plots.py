"""Plots of forecasts and their errors, in the units of the targets."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.evaluation.scoring import ScoredWindows
from lstm.metrics.metrics import Bands
from tasks.reporting.plotting import (
    INK,
    MUTED,
    PALETTE,
    format_dates,
    legend_below,
    line_style,
    placeholder_text,
    plural,
    step_length,
    subplots,
    white_noise_band,
)

_MAX_STEPS = 336  # of a plotted forecast: 14 days of hours
_MAX_DOTS = 60  # points of a line with dots
_MAX_SERIES = 6  # whose autocorrelation is plotted
_TAIL = 0.5  # percent of residuals left out at each end of the histogram
_TOLERANCE = 3  # points of coverage
_BASELINE = "#9A9A9A"


def forecast_vs_actual(test: ScoredWindows, forecast: np.ndarray, bands: Bands, config: PipelineConfig) -> Figure:
    """Plot forecasts, intervals and actual values of the first series' first target, over the newest test windows.

    Args:
        test: the windows.
        forecast: (windows, horizon, targets), normalised.
        bands: by level lower and upper ends, (windows, horizon, targets) each, raw.
        config: names, frequency and horizon.
    """
    horizon, target = config.window.horizon, config.data.target[0]
    first_series = np.flatnonzero(test.series == test.series[0])
    shown = first_series[::-1][::horizon][: max(1, _MAX_STEPS // horizon)][::-1]
    times = _step_times(test.times[shown], horizon, config).ravel()
    ours, actual = (test.denormalize(values)[shown][..., 0].ravel() for values in (forecast, test.actual))
    plotted = f"{target} of {_series_name(test, 0)}" if config.data.series or config.data.wide else target
    figure, ((axes,),) = subplots(f"{config.name}: {plotted}, forecast and actual on the newest test windows", 4.2)
    for number, level in enumerate(sorted(bands, reverse=True)):
        low, high = (edge[shown][..., 0].ravel() for edge in bands[level])
        shade = {"color": PALETTE[0], "alpha": 0.15 + 0.12 * min(number, 3), "linewidth": 0}
        axes.fill_between(times, low, high, label=f"{level} % interval", **shade)
    marker = "." if len(times) < _MAX_DOTS else ""
    label = f"forecast, renewed every {plural(horizon, 'step')}"
    axes.plot(times, ours, color=PALETTE[0], marker=marker, label=label)
    axes.plot(times, actual, color=INK, marker=marker, linewidth=1, label="actual")
    axes.set_ylabel(target)
    format_dates(axes)
    legend_below(figure, axes)
    return figure


def error_by_horizon(table: pd.DataFrame, config: PipelineConfig) -> Figure:
    """Plot each model's RMSE by step ahead, over all targets.

    Args:
        table: columns `model`, `horizon` (from 1) and `rmse`, as in `by_horizon.csv`.
        config: names, and the length of a step.
    """
    figure, ((axes,),) = subplots(f"{config.name}: error by step ahead on the test span", 4.2)
    for number, (name, rows) in enumerate(table.groupby("model", sort=False)):
        axes.plot(rows["horizon"], rows["rmse"], label=name, **line_style(number, len(rows)))
    axes.set_xlabel(f"steps ahead{step_length(config)}")
    axes.set_ylabel(f"RMSE{_units(config)}")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes)
    return figure


def residuals(test: ScoredWindows, forecast: np.ndarray, config: PipelineConfig) -> Figure:
    """Plot distribution and autocorrelation of the first target's residuals, actual − forecast.

    The autocorrelation is that of forecasts one step ahead, by series. Steps that no window begins with are left
    out.

    Args:
        test: the windows.
        forecast: (windows, horizon, targets), normalised.
        config: names, season, and the length of a step.
    """
    errors = (test.denormalize(test.actual) - test.denormalize(forecast))[..., 0]
    title = f"{config.name}: residuals on the test span (actual − forecast)"
    figure, ((left, right),) = subplots(title, 4.2, 1, 2)
    _plot_distribution(left, errors[np.isfinite(errors)])
    left.set_xlabel(f"residual over all steps ahead{_units(config, first=True)}")
    _plot_autocorrelations(right, test, errors[:, 0], config)
    return figure


def _plot_distribution(axes: Axes, values: np.ndarray) -> None:
    """Plot a histogram, and the normal density of the same mean and standard deviation."""
    if not len(values):
        return placeholder_text(axes, "nothing was measured")
    mean, deviation = float(values.mean()), float(values.std())
    low, high = np.percentile(values, [_TAIL, 100 - _TAIL])
    edges = np.histogram_bin_edges(values, 40, (float(low), float(high)))
    axes.hist(values, edges.tolist(), density=True, color=PALETTE[0], alpha=0.55, label="residuals")
    if deviation > 0:
        points = np.linspace(edges[0], edges[-1], 200)
        density = np.exp(-0.5 * np.square((points - mean) / deviation)) / (deviation * np.sqrt(2 * np.pi))
        axes.plot(points, density, color=PALETTE[1], label="normal of the same mean and spread")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_title(f"mean {mean:.3g}, standard deviation {deviation:.3g}".replace("-", "−"), fontsize=10)
    axes.set_ylabel("density")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # room for the legend
    axes.legend(loc="upper right", frameon=False, fontsize=8.5)
    return None


def _plot_autocorrelations(axes: Axes, test: ScoredWindows, errors: np.ndarray, config: PipelineConfig) -> None:
    """Plot the autocorrelation of errors one step ahead, (windows,), by series."""
    from statsmodels.tsa.stattools import acf

    season, origins = config.evaluate.season, test.windows.origins.numpy()
    longest = min(2 * season if season > 1 else 40, test.windows.sequence_length)
    fewest, lowest = len(errors), -0.3
    for number, begin in enumerate(np.unique(test.series, return_index=True)[1][:_MAX_SERIES]):
        windows = test.series == test.series[begin]
        values = _on_grid(origins[windows], errors[windows])
        measured = values[np.isfinite(values)]
        if len(measured) < 4 or np.ptp(measured) == 0:
            continue
        lags = min(longest, len(values) // 2)
        fewest = min(fewest, len(measured))
        correlations = acf(values, nlags=lags, fft=False, missing="conservative")[1:]
        lowest = min(lowest, float(correlations.min()))
        axes.plot(np.arange(1, lags + 1), correlations, label=_series_name(test, begin), **line_style(number, lags))
    if not axes.lines:
        return placeholder_text(axes, "too few residuals one step ahead, or all the same: no autocorrelation")
    white_noise_band(axes, fewest)
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xlabel(f"lag in steps{step_length(config)}")
    axes.set_ylabel("autocorrelation")
    axes.set_title("one step ahead", fontsize=10)
    axes.set_ylim(lowest - 0.05, 1)
    axes.legend(frameon=False, fontsize=8.5, loc="upper right")
    return None


def _series_name(test: ScoredWindows, window: int) -> str:
    code = int(test.series[window])
    return test.names[code][:32] if test.names else f"series {code}"


def _on_grid(origins: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return a series' values by row of the panel; NaN in rows that begin no window."""
    rows = np.full(origins[-1] - origins[0] + 1, np.nan)
    rows[origins - origins[0]] = values
    return rows


def calibration(coverage: Mapping[str, Mapping[int, float]], config: PipelineConfig) -> Figure:
    """Plot empirical against nominal coverage of the intervals.

    Args:
        coverage: by model and level in percent the empirical coverage, 0 to 1.
        config: for the title.
    """
    figure, ((axes,),) = subplots(f"{config.name}: calibration of the intervals on the test span", 5.4)
    nominal = np.array([0, 100])
    axes.fill_between(nominal, nominal - _TOLERANCE, nominal + _TOLERANCE, color=MUTED, alpha=0.18, linewidth=0)
    axes.plot(nominal, nominal, color=INK, linewidth=1, label=f"calibrated (grey: ±{_TOLERANCE} points)")
    for number, (name, shares) in enumerate(coverage.items()):
        levels = sorted(shares)
        axes.plot(levels, [100 * shares[level] for level in levels], label=name, **line_style(number, len(levels)))
    axes.set_xlabel("nominal coverage, %")
    axes.set_ylabel("empirical coverage, %")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)
    return figure


def leaderboard(scores: Mapping[str, Mapping[str, Any]], config: PipelineConfig, metric: str = "rmse") -> Figure:
    """Plot every model's test error, the best first, with its 95 % bootstrap interval if known.

    Args:
        scores: as in `scores.json`: by model `kind`, `metrics`, and interval ends `low` and `high`.
        config: for names.
        metric: an error; smaller values are better.
    """
    key = f"test_{metric}"
    values = {name: _number(model["metrics"].get(key)) for name, model in scores.items()}
    ranked = sorted((name for name in values if np.isfinite(values[name])), key=lambda name: -values[name])
    figure, ((axes,),) = subplots(f"{config.name}: error on the test span", 1.3 + 0.42 * max(len(ranked), 2))
    if not ranked:
        placeholder_text(axes, f"no model has a finite {key}")
        return figure
    for row, name in enumerate(ranked):
        value = values[name]
        low, high = (_number(scores[name].get(side, {}).get(key), value) for side in ("low", "high"))
        axes.barh(row, value, color=_BASELINE if scores[name]["kind"] == "baseline" else PALETTE[0], height=0.62)
        lengths = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(value, row, xerr=lengths, color=INK, capsize=4, linewidth=1.2)
        axes.annotate(f"{value:#.4g}", (max(high, value), row), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(ranked)), [name[:32] for name in ranked])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{metric.upper()}{_units(config)}; blue: networks, grey: baselines; bars: 95 % by bootstrap")
    return figure


def _number(value: float | None, default: float = np.nan) -> float:
    return default if value is None or np.isnan(value) else float(value)


def _units(config: PipelineConfig, first: bool = False) -> str:
    targets = config.data.target
    return f" (units of {targets[0]})" if first or len(targets) == 1 else " (units of the targets)"


def _step_times(first: np.ndarray, horizon: int, config: PipelineConfig) -> np.ndarray:
    """Return the times of the windows' steps, (windows, horizon). Irregular steps are plotted a second apart."""
    data = config.data
    text = "1s" if data.frequency == "irregular" else data.frequency
    steps = np.tile(np.arange(horizon), len(first))
    return Frequency.parse(text, data.timezone).times(np.repeat(first, horizon), steps).reshape(-1, horizon)
