"""How every picture of a run looks: one width, a colour-blind safe palette, no pyplot and no global state."""

from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

WIDTH = 9.0  # inches: 900 px of a page at 100 to the inch
_DPI = 150
MUTED = "#767676"
INK = "#222222"
# Okabe & Ito 2008, "Color universal design", without yellow, which is too pale for a line on white.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_DASHES = ("-", "--", ":", "-.")  # the second, third and fourth time round the palette
_MARKED = 24  # points of a line that are marked
MOST_NAMED = 12  # entries of a legend
# One for all: matplotlib opens its fonts for each thread anew and keeps them, and each flow run draws in new threads.
_THREAD = ThreadPoolExecutor(1, thread_name_prefix="drawing")
_WIDE = 10.0  # largest by smallest value from which on a log scale shows more


def canvas(title: str, height: float, rows: int = 1, columns: int = 1, **layout: Any) -> tuple[Figure, np.ndarray]:
    """A figure with a title at its left, and its axes (rows, columns), with light grids."""
    figure = Figure(figsize=(WIDTH, height), dpi=_DPI, layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left", fontsize=11.5, fontweight="bold")
    grid = figure.subplots(rows, columns, squeeze=False, **layout)
    for axes in grid.flat:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="#E6E6E6", linewidth=0.8)
        axes.set_axisbelow(True)
    return figure, grid


def line_style(number: int, points: int) -> dict[str, Any]:
    """How the so-many-th line of so many points is drawn: no two of the first 24 are alike, nor without colours six."""
    turn, place = divmod(number, len(PALETTE))
    marks = {"marker": _MARKERS[place], "markersize": 4, "markevery": max(1, points // _MARKED)}
    return {"color": PALETTE[place], "linestyle": _DASHES[turn % len(_DASHES)], "linewidth": 1.5, **marks}


def log_if_wide(axes: Axes, values: Iterable[float], ratio: float = _WIDE) -> None:
    """A logarithmic y axis where all values are above zero and lie far apart."""
    found = np.array(list(values), dtype=np.float64)
    found = found[np.isfinite(found)]
    if len(found) and found.min() > 0 and found.max() >= ratio * found.min():
        axes.set_yscale("log")


def dated(axes: Axes) -> None:
    """Times below, as short as they can be said."""
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]


def say(axes: Axes, text: str) -> None:
    """A sentence where there is nothing to draw."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, horizontalalignment="center", verticalalignment="center", color=MUTED, wrap=True)


def legend_below(figure: Figure, axes: Axes, columns: int = 4) -> None:
    """The axes' legend below the figure, the first entries of a long one."""
    handles, names = axes.get_legend_handles_labels()
    left_out = len(names) - MOST_NAMED
    title = f"and {left_out} more" if left_out > 0 else None
    if names:
        figure.legend(
            handles[:MOST_NAMED],
            names[:MOST_NAMED],
            loc="outside lower center",
            ncols=columns,
            frameon=False,
            fontsize=9,
            title=title,
        )


def save_plots(folder: Path, figures: Mapping[str, Figure]) -> None:
    """Each as `<name>.png` in the folder."""
    for name, figure in figures.items():
        _THREAD.submit(figure.savefig, folder / f"{name}.png").result()
