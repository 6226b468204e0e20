"""Pictures of forecasts, drawn without pyplot: no global state, no display, two seconds less to import."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from lstm.data.frequency import Frequency
from lstm.evaluation.intervals import Conformal
from lstm.evaluation.scoring import ScoredWindows
from lstm.pipeline_config import PipelineConfig
from tasks.handles import Trial


def forecast_vs_actual(
    test: ScoredWindows, forecast: np.ndarray, intervals: Conformal, config: PipelineConfig
) -> Figure:
    """The first series' first target over the newest test windows, one after the other, with the widest band."""
    level, horizon = max(config.evaluate.levels), config.window.horizon
    mine = np.flatnonzero(test.series == test.series[0])
    shown = mine[::-1][::horizon][:14][::-1]
    times = _ahead(test.times[shown], horizon, config)
    ours, actual = test.raw(forecast)[shown][..., 0], test.raw(test.actual)[shown][..., 0]
    ((low, high),) = intervals.bands(forecast[shown], [level], test.scale[shown]).values()
    figure = Figure(figsize=(11, 4), layout="constrained")
    axes = figure.subplots()
    axes.fill_between(
        times.ravel(), low[..., 0].ravel(), high[..., 0].ravel(), color="C0", alpha=0.2, label=f"{level} % interval"
    )
    axes.plot(times.ravel(), ours.ravel(), color="C0", label=f"forecast, renewed every {horizon} steps")
    axes.plot(times.ravel(), actual.ravel(), color="black", linewidth=1, label="actual")
    axes.set_title(f"{config.name}: forecast and actual on the test span")
    axes.set_ylabel(config.data.target[0])
    axes.legend()
    return figure


def error_by_horizon(test: ScoredWindows, forecasts: Mapping[str, np.ndarray], config: PipelineConfig) -> Figure:
    """RMSE in raw units of each step ahead, of every contender, over all targets."""
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    steps = np.arange(1, config.window.horizon + 1)
    for name, forecast in forecasts.items():
        error = test.raw(forecast) - test.raw(test.actual)
        axes.plot(steps, np.sqrt(np.nanmean(np.square(error), axis=(0, 2))), label=name)
    axes.set_title(f"{config.name}: error by step ahead on the test span")
    axes.set_xlabel(f"steps ahead ({config.data.frequency} each)")
    axes.set_ylabel("RMSE")
    axes.set_ylim(bottom=0)
    axes.legend()
    return figure


def pareto(trials: Sequence[Trial], front: Sequence[int]) -> Figure:
    """Error against latency of every finished trial, those named that no other beats in both."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    places = {one.name: (one.latency_ms or 0.0, one.val_rmse) for one in trials}
    best = {one.name: places[one.name] for one in trials if one.number in front}
    axes.scatter(*zip(*places.values(), strict=True), color="C7", label="trials")
    axes.plot(*zip(*sorted(best.values()), strict=True), "o-", color="C0", label="Pareto front")
    for name, place in best.items():
        axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_title("validation error and latency: nothing is better than the front in both")
    axes.set_xlabel("one forecast, ms")
    axes.set_ylabel("validation RMSE, normalised")
    axes.legend()
    return figure


def _ahead(first: np.ndarray, horizon: int, config: PipelineConfig) -> np.ndarray:
    """The times of a window's steps, (windows, horizon); of irregular rows nobody knows how far apart: a second."""
    data = config.data
    text = "1s" if data.frequency == "irregular" else data.frequency
    steps = np.tile(np.arange(horizon), len(first))
    return Frequency.parse(text, data.timezone).times(np.repeat(first, horizon), steps).reshape(-1, horizon)
