"""Pictures of training and of forecasts; errors are in the units of the targets where nothing else is said."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm.calendars.frequency import Frequency
from lstm.config.pipeline import PipelineConfig
from lstm.evaluation.scoring import ScoredWindows
from lstm.metrics.metrics import Bands
from tasks.reporting.plotting import INK, MUTED, PALETTE, canvas, dated, legend_below, line_style, log_if_wide, say

_POINTS = 336  # steps of a drawn forecast: 14 days of hours
_DOTS = 60  # points of a line from which on they are not marked
_SERIES = 6  # whose autocorrelation is drawn
_TAIL = 0.5  # percent of the residuals that a histogram leaves out at either end
_TOLERANCE = 3  # points of coverage that are no miscalibration
_BASELINE = "#9A9A9A"


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], config: PipelineConfig) -> Figure:
    """Losses, validation error, learning rate and gradient norm by epoch of every network.

    Args:
        histories: by network one record an epoch, as `lstm.networks.training.fit` tells them: epoch, train_loss,
            val_loss, val_rmse, learning_rate, gradient_norm.
        config: for the title.
    """
    figure, grid = canvas(f"{config.name}: training of {_count(len(histories), 'network')}", 6.2, 2, 2, sharex=True)
    losses, errors, rates, norms = grid.flat
    for number, (name, history) in enumerate(histories.items()):
        style = line_style(number, len(history))
        _curve(losses, history, "train_loss", **{**style, "linestyle": ":", "alpha": 0.8})
        _curve(losses, history, "val_loss", label=name, **style)
        _curve(errors, history, "val_rmse", **style)
        _curve(rates, history, "learning_rate", **style)
        _curve(norms, history, "gradient_norm", **style)
        _mark_best(losses, history, style["color"])
    for axes, label, ratio, keys in (
        (losses, "loss", 10.0, ("train_loss", "val_loss")),
        (errors, "validation RMSE, normalised", 10.0, ("val_rmse",)),
        (rates, "learning rate", 2.0, ("learning_rate",)),
        (norms, "gradient norm", 10.0, ("gradient_norm",)),
    ):
        axes.set_ylabel(label)
        log_if_wide(axes, (one[key] for history in histories.values() for one in history for key in keys), ratio)
    losses.set_title("validation solid, training dotted, ○ the best epoch", fontsize=9)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, losses)
    return figure


def _curve(axes: Axes, history: Sequence[Mapping[str, float]], key: str, **style: Any) -> None:
    axes.plot([one["epoch"] for one in history], [one[key] for one in history], **style)


def _mark_best(axes: Axes, history: Sequence[Mapping[str, float]], color: str) -> None:
    """The epoch of the lowest validation loss, whose weights are kept."""
    finite = [one for one in history if np.isfinite(one["val_loss"])]
    if finite:
        best = min(finite, key=lambda one: one["val_loss"])
        axes.plot(best["epoch"], best["val_loss"], "o", color=color, markersize=8, markerfacecolor="none")


def forecast_vs_actual(test: ScoredWindows, forecast: np.ndarray, bands: Bands, config: PipelineConfig) -> Figure:
    """The first series' first target over the newest test windows, one after the other, with its intervals.

    Args:
        test: the windows.
        forecast: (windows, horizon, targets), normalised.
        bands: by percent lower and upper ends, (windows, horizon, targets) each, raw.
        config: names, frequency and horizon.
    """
    horizon, target = config.window.horizon, config.data.target[0]
    mine = np.flatnonzero(test.series == test.series[0])
    shown = mine[::-1][::horizon][: max(1, _POINTS // horizon)][::-1]
    times = _ahead(test.times[shown], horizon, config).ravel()
    ours, actual = (test.raw(values)[shown][..., 0].ravel() for values in (forecast, test.actual))
    of = f"{target} of {_name(test, 0)}" if config.data.series or config.data.wide else target
    figure, ((axes,),) = canvas(f"{config.name}: {of}, forecast and actual on the newest test windows", 4.2)
    for number, percent in enumerate(sorted(bands, reverse=True)):
        low, high = (edge[shown][..., 0].ravel() for edge in bands[percent])
        shade = {"color": PALETTE[0], "alpha": 0.15 + 0.12 * min(number, 3), "linewidth": 0}
        axes.fill_between(times, low, high, label=f"{percent} % interval", **shade)
    marker = "." if len(times) < _DOTS else ""
    axes.plot(times, ours, color=PALETTE[0], marker=marker, label=f"forecast, renewed every {_count(horizon, 'step')}")
    axes.plot(times, actual, color=INK, marker=marker, linewidth=1, label="actual")
    axes.set_ylabel(target)
    dated(axes)
    legend_below(figure, axes)
    return figure


def error_by_horizon(table: pd.DataFrame, config: PipelineConfig) -> Figure:
    """RMSE of each step ahead of every model, over all targets.

    Args:
        table: columns `model`, `horizon` (from 1) and `rmse`, as in `by_horizon.csv`.
        config: names, and how long a step is.
    """
    figure, ((axes,),) = canvas(f"{config.name}: error by step ahead on the test span", 4.2)
    for number, (name, own) in enumerate(table.groupby("model", sort=False)):
        axes.plot(own["horizon"], own["rmse"], label=name, **line_style(number, len(own)))
    axes.set_xlabel(f"steps ahead{_each(config)}")
    axes.set_ylabel(f"RMSE{_units(config)}")
    axes.set_ylim(bottom=0)
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes)
    return figure


def residuals(test: ScoredWindows, forecast: np.ndarray, config: PipelineConfig) -> Figure:
    """Of the first target: how the residuals (actual − forecast) are distributed, and how they hang together in time.

    The autocorrelation is that of the forecasts one step ahead, a series each; where no window has a step as its first
    one, pairs with it are left out. Were they all noise, 95 % of the lags would lie within the band, ±1.96 / √n.

    Args:
        test: the windows.
        forecast: (windows, horizon, targets), normalised.
        config: names, season, and how long a step is.
    """
    found = (test.raw(test.actual) - test.raw(forecast))[..., 0]
    figure, ((left, right),) = canvas(f"{config.name}: residuals on the test span (actual − forecast)", 4.2, 1, 2)
    _distribution(left, found[np.isfinite(found)])
    left.set_xlabel(f"residual over all steps ahead{_units(config, first=True)}")
    _autocorrelations(right, test, found[:, 0], config)
    return figure


def _distribution(axes: Axes, values: np.ndarray) -> None:
    """A histogram, and the normal density of the same mean and spread."""
    if not len(values):
        return say(axes, "nothing was measured")
    mean, spread = float(values.mean()), float(values.std())
    low, high = np.percentile(values, [_TAIL, 100 - _TAIL])
    edges = np.histogram_bin_edges(values, 40, (float(low), float(high)))
    axes.hist(values, edges.tolist(), density=True, color=PALETTE[0], alpha=0.55, label="residuals")
    if spread > 0:
        at = np.linspace(edges[0], edges[-1], 200)
        density = np.exp(-0.5 * np.square((at - mean) / spread)) / (spread * np.sqrt(2 * np.pi))
        axes.plot(at, density, color=PALETTE[1], label="normal of the same mean and spread")
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_title(f"mean {mean:.3g}, standard deviation {spread:.3g}".replace("-", "−"), fontsize=10)
    axes.set_ylabel("density")
    axes.set_ylim(top=1.3 * axes.get_ylim()[1])  # for the legend
    axes.legend(loc="upper right", frameon=False, fontsize=8.5)


def _autocorrelations(axes: Axes, test: ScoredWindows, first: np.ndarray, config: PipelineConfig) -> None:
    from statsmodels.tsa.stattools import acf

    season, origins = config.evaluate.season, test.windows.origins.numpy()
    longest = min(2 * season if season > 1 else 40, test.windows.sequence_length)
    fewest, lowest = len(first), -0.3
    for number, begin in enumerate(np.unique(test.series, return_index=True)[1][:_SERIES]):
        mine = test.series == test.series[begin]
        values = _on_grid(origins[mine], first[mine])
        measured = values[np.isfinite(values)]
        if len(measured) < 4 or np.ptp(measured) == 0:
            continue
        lags = min(longest, len(values) // 2)
        fewest = min(fewest, len(measured))
        found = acf(values, nlags=lags, fft=False, missing="conservative")[1:]
        lowest = min(lowest, float(found.min()))
        axes.plot(np.arange(1, lags + 1), found, label=_name(test, begin), **line_style(number, lags))
    if not axes.lines:
        return say(axes, "too few residuals one step ahead, or all the same: no autocorrelation")
    band = 1.96 / np.sqrt(fewest)
    axes.axhspan(-band, band, color=MUTED, alpha=0.2, linewidth=0, label="95 % of white noise")
    axes.axhline(0, color=INK, linewidth=1)
    axes.set_xlabel(f"lag in steps{_each(config)}")
    axes.set_ylabel("autocorrelation")
    axes.set_title("one step ahead", fontsize=10)
    axes.set_ylim(lowest - 0.05, 1)
    axes.legend(frameon=False, fontsize=8.5, loc="upper right")


def _name(test: ScoredWindows, window: int) -> str:
    """Of a window's series."""
    code = int(test.series[window])
    return test.names[code][:32] if test.names else f"series {code}"


def _on_grid(origins: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A series' values by row of the table, NaN in the rows between that begin no window."""
    placed = np.full(origins[-1] - origins[0] + 1, np.nan)
    placed[origins - origins[0]] = values
    return placed


def calibration(coverage: Mapping[str, Mapping[int, float]], config: PipelineConfig) -> Figure:
    """How much of the truth lay inside intervals of every nominal coverage.

    Args:
        coverage: by model the empirical coverage, 0 to 1, of each nominal one in percent.
        config: for the title.
    """
    figure, ((axes,),) = canvas(f"{config.name}: calibration of the intervals on the test span", 5.4)
    nominal = np.array([0, 100])
    axes.fill_between(nominal, nominal - _TOLERANCE, nominal + _TOLERANCE, color=MUTED, alpha=0.18, linewidth=0)
    axes.plot(nominal, nominal, color=INK, linewidth=1, label=f"calibrated (grey: ±{_TOLERANCE} points)")
    for number, (name, shares) in enumerate(coverage.items()):
        levels = sorted(shares)
        axes.plot(levels, [100 * shares[one] for one in levels], label=name, **line_style(number, len(levels)))
    axes.set_xlabel("nominal coverage, %")
    axes.set_ylabel("empirical coverage, %")
    axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
    axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1), frameon=False, fontsize=9)
    return figure


def leaderboard(scores: Mapping[str, Mapping[str, Any]], config: PipelineConfig, metric: str = "rmse") -> Figure:
    """Test error of every model, the best first, with its 95 % bootstrap interval where that is known.

    Args:
        scores: as in `scores.json`: by model `kind`, `metrics`, and for the intervals `low` and `high`.
        config: for names.
        metric: one whose smaller values are better.
    """
    key = f"test_{metric}"
    values = {name: _number(one["metrics"].get(key)) for name, one in scores.items()}
    ranked = sorted((name for name in values if np.isfinite(values[name])), key=lambda name: -values[name])
    figure, ((axes,),) = canvas(f"{config.name}: error on the test span", 1.3 + 0.42 * max(len(ranked), 2))
    if not ranked:
        say(axes, f"no model has a finite {key}")
        return figure
    for row, name in enumerate(ranked):
        value = values[name]
        low, high = (_number(scores[name].get(side, {}).get(key), value) for side in ("low", "high"))
        axes.barh(row, value, color=_BASELINE if scores[name]["kind"] == "baseline" else PALETTE[0], height=0.62)
        reach = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
        axes.errorbar(value, row, xerr=reach, color=INK, capsize=4, linewidth=1.2)
        axes.annotate(f"{value:#.4g}", (max(high, value), row), xytext=(6, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(ranked)), [name[:32] for name in ranked])
    axes.grid(visible=False, axis="y")
    axes.margins(x=0.12)
    axes.set_xlim(left=0)
    axes.set_xlabel(f"{metric.upper()}{_units(config)}; blue: networks, grey: baselines; bars: 95 % by bootstrap")
    return figure


def _number(value: float | None, instead: float = np.nan) -> float:
    return instead if value is None or np.isnan(value) else float(value)


def _units(config: PipelineConfig, first: bool = False) -> str:
    targets = config.data.target
    return f" (units of {targets[0]})" if first or len(targets) == 1 else " (units of the targets)"


def _each(config: PipelineConfig) -> str:
    """How long a step is; with irregular rows nobody can say."""
    return "" if config.data.frequency == "irregular" else f" ({config.data.frequency} each)"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _ahead(first: np.ndarray, horizon: int, config: PipelineConfig) -> np.ndarray:
    """The times of a window's steps, (windows, horizon); of irregular rows nobody knows how far apart: a second."""
    data = config.data
    text = "1s" if data.frequency == "irregular" else data.frequency
    steps = np.tile(np.arange(horizon), len(first))
    return Frequency.parse(text, data.timezone).times(np.repeat(first, horizon), steps).reshape(-1, horizon)
