"""Plot of the training of a run's networks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lstm.config.pipeline import PipelineConfig
from tasks.reporting.plotting import legend_below, line_style, log_if_wide, plural, subplots


def training_curves(histories: Mapping[str, Sequence[Mapping[str, float]]], config: PipelineConfig) -> Figure:
    """Plot losses, validation error, learning rate and gradient norm of every network by epoch.

    Args:
        histories: by network one record per epoch, as from `lstm.networks.training.fit`: epoch, train_loss,
            val_loss, val_rmse, learning_rate, gradient_norm.
        config: for the title.
    """
    title = f"{config.name}: training of {plural(len(histories), 'network')}"
    figure, grid = subplots(title, 6.2, 2, 2, sharex=True)
    losses, errors, rates, norms = grid.flat
    for number, (name, history) in enumerate(histories.items()):
        style = line_style(number, len(history))
        _plot_curve(losses, history, "train_loss", **{**style, "linestyle": ":", "alpha": 0.8})
        _plot_curve(losses, history, "val_loss", label=name, **style)
        _plot_curve(errors, history, "val_rmse", **style)
        _plot_curve(rates, history, "learning_rate", **style)
        _plot_curve(norms, history, "gradient_norm", **style)
        _mark_best_epoch(losses, history, style["color"])
    for axes, label, ratio, keys in (
        (losses, "loss", 10.0, ("train_loss", "val_loss")),
        (errors, "validation RMSE, normalised", 10.0, ("val_rmse",)),
        (rates, "learning rate", 2.0, ("learning_rate",)),
        (norms, "gradient norm", 10.0, ("gradient_norm",)),
    ):
        axes.set_ylabel(label)
        log_if_wide(axes, (epoch[key] for history in histories.values() for epoch in history for key in keys), ratio)
    losses.set_title("validation solid, training dotted, ○ best epoch", fontsize=9)
    for axes in grid[1]:
        axes.set_xlabel("epoch")
        axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, losses)
    return figure


def _plot_curve(axes: Axes, history: Sequence[Mapping[str, float]], key: str, **style: Any) -> None:
    axes.plot([epoch["epoch"] for epoch in history], [epoch[key] for epoch in history], **style)


def _mark_best_epoch(axes: Axes, history: Sequence[Mapping[str, float]], color: str) -> None:
    """Circle the epoch with the lowest validation loss, whose weights are kept."""
    finite = [epoch for epoch in history if np.isfinite(epoch["val_loss"])]
    if finite:
        best = min(finite, key=lambda epoch: epoch["val_loss"])
        axes.plot(best["epoch"], best["val_loss"], "o", color=color, markersize=8, markerfacecolor="none")
