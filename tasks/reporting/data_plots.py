"""Pictures of the data of a run: what they look like, where they have gaps, and how the splits differ.

A series of any length is drawn from slices of the memory-mapped arrays, a bin of time after the other.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstm.config.pipeline import PipelineConfig
from lstm.data.panel_store import PanelStore
from lstm.profiling.coverage import series_rows
from lstm.profiling.profile import Profile
from lstm.profiling.series_tests import training_excerpt

_SERIES = 6  # drawn one by one
_ROWS = 30  # series of the timeline, those with most gaps first
_POINTS = 1000  # bins of time of a drawn series
_CELLS = 200  # bins of time of the timeline
_LONG = 50  # steps of a gap from which on their lengths are drawn on a log scale
_SAMPLE = 300_000  # rows that the distributions are drawn from
_SHADES = {"train": "C0", "validation": "C1", "test": "C2"}


def pictures(found: Profile, panel: PanelStore, config: PipelineConfig) -> dict[str, Figure]:
    """Every picture by its name."""
    return {
        "series": series(found, panel, config),
        "gaps": gaps(found, panel, config),
        "distribution": distribution(found, panel, config),
        "autocorrelation": autocorrelation(panel, config),
    }


def series(found: Profile, panel: PanelStore, config: PipelineConfig) -> Figure:
    """The first target of the first series over time, the splits shaded, steps without a measurement marked."""
    names = panel.names[:_SERIES]
    figure = Figure(figsize=(11, 1 + 1.7 * len(names)), layout="constrained")
    grid = figure.subplots(len(names), sharex=True, squeeze=False)
    scale = panel.normalizer.target_scale(names)[:, 0]
    edges = _edges(found, panel, _POINTS)
    for code, axes in enumerate(grid[:, 0]):
        figures = _bins(panel, code, edges)
        there = ~np.isnan(figures[3])
        times, missing = edges[:-1][there], figures[3, there]
        low, mean, high = scale[code].raw(figures[:3, there])
        axes.fill_between(times, low, high, color="black", alpha=0.3, linewidth=0)
        axes.plot(times, mean, color="black", linewidth=0.7)
        gap = times[missing > 0]
        axes.plot(gap, np.full(len(gap), 0.03), "|", color="red", transform=axes.get_xaxis_transform(), label="missing")
        for split, (start, end) in panel.cuts.spans.items():
            axes.axvspan(start, end, color=_SHADES[split], alpha=0.15, linewidth=0, label=split)
        axes.set_ylabel(names[code][:20])
        axes.set_xlim(edges[0], edges[-1])
        _dated(axes)
    shown = f"the first {len(names)} of {len(panel.names)} series" if len(panel.names) > len(names) else "all series"
    figure.suptitle(f"{config.name}: {config.data.target[0]}, {shown}")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    return figure


def gaps(found: Profile, panel: PanelStore, config: PipelineConfig) -> Figure:
    """When steps lack a measured target, of the series with most of them (grey: no rows), and how long gaps are."""
    counts = found.series.set_index("series").loc[list(panel.names), "missing"].to_numpy(np.int64)
    chosen = np.argsort(-counts, kind="stable")[:_ROWS]
    edges = _edges(found, panel, _CELLS)
    percent = 100 * np.array([_bins(panel, int(code), edges)[3] for code in chosen])
    figure = Figure(figsize=(11, 2.2 + 0.2 * len(chosen)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 1])
    colors = colormaps["Reds"].with_extremes(under="white", bad="lightgrey")
    above_none = {"vmin": 1e-6, "vmax": max(float(np.nanmax(percent)), 1.0)}
    drawn = left.pcolormesh(edges, np.arange(len(chosen) + 1), percent, cmap=colors, **above_none)
    figure.colorbar(drawn, ax=left, label="% of steps missing")
    left.set_yticks(np.arange(len(chosen)) + 0.5, [panel.names[code][:20] for code in chosen])
    left.invert_yaxis()
    _dated(left)
    _gap_lengths(found, right)
    right.set_xlabel(f"steps of a gap{_each(config)}")
    missing, filled = (f"{found.summary[name]:,}" for name in ("missing", "filled"))
    figure.suptitle(f"{config.name}: {missing} of {found.summary['steps']:,} steps missing, {filled} of them filled")
    return figure


def _gap_lengths(found: Profile, axes: Axes) -> None:
    lengths, longest = sorted(found.gap_lengths), max(found.gap_lengths, default=0)
    bins = np.arange(0.5, max(longest, 5) + 1)
    if longest > _LONG:
        bins = np.geomspace(0.5, longest + 1, 30)
        axes.set_xscale("log")
    axes.hist(lengths, bins.tolist(), weights=[found.gap_lengths[length] for length in lengths])
    axes.set_ylabel("gaps")
    axes.set_ylim(bottom=0, top=None if lengths else 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def distribution(found: Profile, panel: PanelStore, config: PipelineConfig) -> Figure:
    """Densities of the first target in raw units, a split each, over all series."""
    target = config.data.target[0]
    values = _samples(panel)
    own = found.columns[found.columns["column"] == target].set_index("split")
    figure = Figure(figsize=(8, 4), layout="constrained")
    axes = figure.subplots()
    whole = np.concatenate(list(values.values()))
    bins = np.histogram_bin_edges(whole, 40) if len(whole) else np.array([0.0, 1.0])
    for split, part in values.items():
        psi, ks = own.loc[split, ["psi", "ks"]].to_numpy(float)
        label = split if np.isnan(psi) else f"{split}: PSI {psi:.2f}, KS {ks:.2f} against train"
        if len(part):
            axes.hist(
                part, bins.tolist(), density=True, histtype="stepfilled", alpha=0.4, color=_SHADES[split], label=label
            )
    axes.set_title(f"{config.name}: distribution of {target} by split")
    axes.set_xlabel(target)
    axes.set_ylabel("density")
    axes.legend()
    return figure


def autocorrelation(panel: PanelStore, config: PipelineConfig) -> Figure:
    """Autocorrelation of the first series in the training span, with the season marked."""
    from statsmodels.tsa.stattools import acf

    season = config.evaluate.season
    found = {name: training_excerpt(panel, code) for code, name in enumerate(panel.names[:_SERIES])}
    found = {name: values for name, values in found.items() if len(values) > 1 and np.ptp(values) > 0}
    lags = {name: min(3 * season if season > 1 else 40, len(values) // 2) for name, values in found.items()}
    longest = max(lags.values(), default=1)
    figure = Figure(figsize=(9, 4), layout="constrained")
    axes = figure.subplots()
    for name, values in found.items():
        correlations = acf(values, nlags=lags[name], fft=True)
        axes.plot(correlations, marker="." if longest <= 100 else "", label=f"{name[:20]}: {len(values)} rows")
    if found:
        band = 1.96 / np.sqrt(min(map(len, found.values())))
        axes.axhspan(-band, band, color="grey", alpha=0.2, label="95 % of white noise")
        figure.legend(loc="outside right upper")
    for lag in range(season, longest + 1, season) if season > 1 else ():
        axes.axvline(lag, color="grey", linestyle="--", linewidth=0.8)
    seasonal = f"season: {season} steps" if season > 1 else "no season"
    target = f"ln {config.data.target[0]}" if config.normalize.log else config.data.target[0]
    axes.set_title(f"{config.name}: autocorrelation of {target} in training ({seasonal})")
    axes.set_xlabel(f"lag in steps{_each(config)}")
    axes.set_ylim(-1.05, 1.05)
    return figure


def _edges(found: Profile, panel: PanelStore, bins: int) -> np.ndarray:
    """Edges of equal bins of time over the whole span, (bins + 1,) datetime64[us]."""
    first = pd.Timestamp(found.summary["first"]).tz_convert("UTC").tz_localize(None).to_datetime64()
    span = (panel.cuts.end - first).astype("timedelta64[us]").astype(np.int64)
    moments: np.ndarray = first.astype("datetime64[us]") + (np.linspace(0, 1, bins + 1) * span).astype(np.int64)
    return moments


def _bins(panel: PanelStore, code: int, edges: np.ndarray) -> np.ndarray:
    """(4, bins of time): lowest, mean and highest measured value, normalised; share of steps not measured, 0 to 1.

    NaN where the series has no rows. With `normalize.log` the mean is, in raw units, the geometric one.
    """
    low, high = series_rows(panel, code)
    targets, borders = panel.array("targets"), low + np.searchsorted(panel.array("times")[low:high], edges)
    figures = np.full((4, len(edges) - 1), np.nan)
    for number, (begin, end) in enumerate(itertools.pairwise(borders.tolist())):
        values = targets[begin:end, 0]
        measured = values[~np.isnan(values)]
        if len(measured):
            figures[:3, number] = measured.min(), measured.mean(dtype=np.float64), measured.max()
        if len(values):
            figures[3, number] = 1 - len(measured) / len(values)
    return figures


def _samples(panel: PanelStore) -> dict[str, np.ndarray]:
    """Measured values of the first target by split, in raw units, from an even sample of all rows."""
    rows = np.unique(np.linspace(0, len(panel.array("series")) - 1, _SAMPLE).astype(np.int64))
    times, code = panel.array("times")[rows], panel.array("series")[rows]
    values = panel.normalizer.target_scale(panel.names)[code, 0].raw(panel.array("targets")[rows, 0])
    spans = panel.cuts.spans.items()
    return {split: values[~np.isnan(values) & (times >= start) & (times < end)] for split, (start, end) in spans}


def _each(config: PipelineConfig) -> str:
    """How long a step is; with irregular rows nobody can say."""
    return "" if config.data.frequency == "irregular" else f" ({config.data.frequency} each)"


def _dated(axes: Axes) -> None:
    locator = AutoDateLocator()  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
