"""Shared style of all plots: one width, a colour-blind safe palette, no pyplot and no global state."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from lstm.config.pipeline import PipelineConfig

WIDTH = 9.0  # inches
_DPI = 150
MUTED = "#767676"
INK = "#222222"
# Okabe & Ito 2008, "Color universal design", without yellow, which is too pale for a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", ":", "-.")  # by round through the palette
_MAX_MARKERS = 24  # per line
MAX_LEGEND = 12  # entries
# One thread for all plots: matplotlib opens its fonts per thread and keeps them, and each flow run has new threads.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="plotting")
_LOG_RATIO = 10.0  # largest by smallest value from which a log scale shows more


def subplots(title: str, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure with a left-aligned title, and its axes (rows, columns) with light grids."""
    figure = Figure(figsize=(WIDTH, height), dpi=_DPI, layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11.5, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False, **layout)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, grid


def line_style(number: int, points: int) -> dict[str, Any]:
    """Return the style of line `number`. The first 24 styles are distinct; the first 6 also in greyscale."""
    turn, place = divmod(number, len(PALETTE))
    markers = {"marker": _MARKERS[place], "markersize": 4, "markevery": max(1, points // _MAX_MARKERS)}
    return {"color": PALETTE[place], "linestyle": _DASHES[turn % len(_DASHES)], "linewidth": 1.5, **markers}


def log_if_wide(axes: Axes, values: Iterable[float], ratio: float = _LOG_RATIO) -> None:
    """Use a log scale for y if all values are positive and the largest is `ratio` times the smallest or more."""
    array = np.array(list(values), dtype=np.float64)
    array = array[np.isfinite(array)]
    if len(array) and array.min() > 0 and array.max() >= ratio * array.min():
        axes.set_yscale("log")


def format_dates(axes: Axes) -> None:
    """Format x as dates, as short as possible."""
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def placeholder_text(axes: Axes, text: str) -> None:
    """Show a text instead of a plot without data."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, horizontalalignment="center", verticalalignment="center", color=MUTED, wrap=True)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """Put the axes' legend below the figure, with `MAX_LEGEND` entries at most."""
    handles, names = axes.get_legend_handles_labels()
    n_hidden = len(names) - MAX_LEGEND
    title = f"and {n_hidden} more" if n_hidden > 0 else None
    if names:
        figure.legend(
            handles[:MAX_LEGEND],
            names[:MAX_LEGEND],
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=9,
            title=title,
        )


def white_noise_band(axes: Axes, count: int) -> None:
    """Shade where 95 % of the autocorrelations of `count` values of white noise lie: ±1.96 / √count."""
    bound = 1.96 / np.sqrt(count)
    axes.axhspan(-bound, bound, color=MUTED, alpha=0.2, linewidth=0, label="95 % of white noise")


def step_length(config: PipelineConfig) -> str:
    """Return the length of a step for an axis label, such as ` (1h each)`; empty for irregular rows."""
    return "" if config.data.frequency == "irregular" else f" ({config.data.frequency} each)"


def plural(number: int, noun: str) -> str:
    """Return the count with its noun: `1 step`, `2 steps`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def save_plots(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Save each figure as `<name>.png` in the folder."""
    for name, figure in figures.items():
        _THREAD.submit(figure.savefig, folder / f"{name}.png").result()
