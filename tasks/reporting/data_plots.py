"""Plots of the data of a run: values over time, gaps, distributions and autocorrelation.

Series of any length are plotted from slices of the memory-mapped arrays, one bin of time after the other.
"""

import itertools

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lstm.config.pipeline import PipelineConfig
from lstm.data.panel_store import PanelStore
from lstm.profiling.coverage import series_rows
from lstm.profiling.profile import Profile
from lstm.profiling.series_tests import training_excerpt
from tasks.reporting.plotting import (
    INK,
    MUTED,
    PALETTE,
    format_dates,
    legend_below,
    line_style,
    step_length,
    subplots,
    white_noise_band,
)

_MAX_SERIES = 6  # plotted one by one
_MAX_ROWS = 30  # series in the plot of gaps
_SERIES_BINS = 1000  # bins of time of a plotted series
_GAP_BINS = 200  # bins of time of the plot of gaps
_LONG_GAP = 50  # steps from which on gap lengths get a log scale
_SAMPLE = 300_000  # rows that the distributions are computed from
_COLORS = dict(zip(("train", "validation", "test"), PALETTE, strict=False))


def plot_data(profile: Profile, panel: PanelStore, config: PipelineConfig) -> dict[str, Figure]:
    """Return all plots by name."""
    return {
        "series": series(profile, panel, config),
        "gaps": gaps(profile, panel, config),
        "distribution": distribution(profile, panel, config),
        "autocorrelation": autocorrelation(panel, config),
    }


def series(profile: Profile, panel: PanelStore, config: PipelineConfig) -> Figure:
    """Plot the first target of the first series over time, with splits shaded and missing steps marked."""
    names = panel.names[:_MAX_SERIES]
    shown = f"the first {len(names)} of {len(panel.names)} series" if len(panel.names) > len(names) else "all series"
    title = f"{config.name}: {config.data.target[0]}, {shown}"
    figure, grid = subplots(title, 1 + 1.7 * len(names), len(names), sharex=True)
    scale = panel.normalizer.target_scale(names)[:, 0]
    edges = _time_edges(profile, panel, _SERIES_BINS)
    for code, axes in enumerate(grid[:, 0]):
        statistics = _bin_statistics(panel, code, edges)
        has_rows = ~np.isnan(statistics[3])
        times, missing = edges[:-1][has_rows], statistics[3, has_rows]
        low, mean, high = scale[code].denormalize(statistics[:3, has_rows])
        axes.fill_between(times, low, high, color=INK, alpha=0.3, linewidth=0)
        axes.plot(times, mean, color=INK, linewidth=0.7)
        gap = times[missing > 0]
        axes.plot(gap, np.full(len(gap), 0.03), "|", color="red", transform=axes.get_xaxis_transform(), label="missing")
        for split, (start, end) in panel.cuts.spans.items():
            axes.axvspan(start, end, color=_COLORS[split], alpha=0.15, linewidth=0, label=split)
        axes.set_ylabel(names[code][:20])
        axes.set_xlim(edges[0], edges[-1])
        format_dates(axes)
    legend_below(figure, grid[0, 0])
    return figure


def gaps(profile: Profile, panel: PanelStore, config: PipelineConfig) -> Figure:
    """Plot missing steps over time of the series with most of them (grey: no rows), and a histogram of gap lengths."""
    counts = profile.series.set_index("series").loc[list(panel.names), "missing"].to_numpy(np.int64)
    codes = np.argsort(-counts, kind="stable")[:_MAX_ROWS]
    edges = _time_edges(profile, panel, _GAP_BINS)
    percent = 100 * np.array([_bin_statistics(panel, int(code), edges)[3] for code in codes])
    missing, filled = (f"{profile.summary[name]:,}" for name in ("missing", "filled"))
    title = f"{config.name}: {missing} of {profile.summary['steps']:,} steps missing, {filled} of them filled"
    figure, ((left, right),) = subplots(title, 2.2 + 0.2 * len(codes), 1, 2, width_ratios=[3, 1])
    colors = colormaps["Reds"].with_extremes(under="white", bad="lightgrey")
    limits = {"vmin": 1e-6, "vmax": max(float(np.nanmax(percent)), 1.0)}
    left.grid(visible=False)
    mesh = left.pcolormesh(edges, np.arange(len(codes) + 1), percent, cmap=colors, **limits)
    figure.colorbar(mesh, ax=left, label="% of steps missing")
    left.set_yticks(np.arange(len(codes)) + 0.5, [panel.names[code][:20] for code in codes])
    left.invert_yaxis()
    format_dates(left)
    _plot_gap_lengths(profile, right)
    right.set_xlabel(f"steps of a gap{step_length(config)}")
    return figure


def _plot_gap_lengths(profile: Profile, axes: Axes) -> None:
    lengths, longest = sorted(profile.gap_lengths), max(profile.gap_lengths, default=0)
    bins = np.arange(0.5, max(longest, 5) + 1)
    if longest > _LONG_GAP:
        bins = np.geomspace(0.5, longest + 1, 30)
        axes.set_xscale("log")
    axes.hist(lengths, bins.tolist(), weights=[profile.gap_lengths[length] for length in lengths], color=PALETTE[0])
    axes.set_ylabel("gaps")
    axes.set_ylim(bottom=0, top=None if lengths else 1)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))


def distribution(profile: Profile, panel: PanelStore, config: PipelineConfig) -> Figure:
    """Plot densities of the first target by split, in raw units, over all series."""
    target = config.data.target[0]
    samples = _target_samples(panel)
    shifts = profile.columns[profile.columns["column"] == target].set_index("split")
    figure, ((axes,),) = subplots(f"{config.name}: distribution of {target} by split", 4)
    values = np.concatenate(list(samples.values()))
    bins = np.histogram_bin_edges(values, 40) if len(values) else np.array([0.0, 1.0])
    for split, sample in samples.items():
        psi, ks = shifts.loc[split, ["psi", "ks"]].to_numpy(float)
        label = split if np.isnan(psi) else f"{split}: PSI {psi:.2f}, KS {ks:.2f} against train"
        if len(sample):
            style = {"histtype": "stepfilled", "alpha": 0.4, "color": _COLORS[split], "label": label}
            axes.hist(sample, bins.tolist(), density=True, **style)
    axes.set_xlabel(target)
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    return figure


def autocorrelation(panel: PanelStore, config: PipelineConfig) -> Figure:
    """Plot the autocorrelation of the first series in the training span, with the season marked."""
    from statsmodels.tsa.stattools import acf

    season = config.evaluate.season
    excerpts = {name: training_excerpt(panel, code) for code, name in enumerate(panel.names[:_MAX_SERIES])}
    excerpts = {name: values for name, values in excerpts.items() if len(values) > 1 and np.ptp(values) > 0}
    lags = {name: min(3 * season if season > 1 else 40, len(values) // 2) for name, values in excerpts.items()}
    longest = max(lags.values(), default=1)
    seasonal = f"season: {season} steps" if season > 1 else "no season"
    target = f"ln {config.data.target[0]}" if config.normalize.log else config.data.target[0]
    figure, ((axes,),) = subplots(f"{config.name}: autocorrelation of {target} in training ({seasonal})", 4)
    for number, (name, values) in enumerate(excerpts.items()):
        correlations = acf(values, nlags=lags[name], fft=True)
        axes.plot(correlations, label=f"{name[:20]}: {len(values)} rows", **line_style(number, len(correlations)))
    if excerpts:
        white_noise_band(axes, min(map(len, excerpts.values())))
    for lag in range(season, longest + 1, season) if season > 1 else ():
        axes.axvline(lag, color=MUTED, linestyle="--", linewidth=0.8)
    axes.set_xlabel(f"lag in steps{step_length(config)}")
    axes.set_ylim(-1.05, 1.05)
    legend_below(figure, axes)
    return figure


def _time_edges(profile: Profile, panel: PanelStore, bins: int) -> np.ndarray:
    """Return edges of equal bins of time over the whole span, (bins + 1,) datetime64[us]."""
    first = pd.Timestamp(profile.summary["first"]).tz_convert("UTC").tz_localize(None).to_datetime64()
    span = (panel.cuts.end - first).astype("timedelta64[us]").astype(np.int64)
    edges: np.ndarray = first.astype("datetime64[us]") + (np.linspace(0, 1, bins + 1) * span).astype(np.int64)
    return edges


def _bin_statistics(panel: PanelStore, code: int, edges: np.ndarray) -> np.ndarray:
    """Return lowest, mean and highest measured value, normalised, and the share of missing steps: (4, bins).

    NaN where the series has no rows. With `normalize.log` the mean is, in raw units, the geometric mean.
    """
    low, high = series_rows(panel, code)
    targets, borders = panel.array("targets"), low + np.searchsorted(panel.array("times")[low:high], edges)
    statistics = np.full((4, len(edges) - 1), np.nan)
    for number, (begin, end) in enumerate(itertools.pairwise(borders.tolist())):
        values = targets[begin:end, 0]
        measured = values[~np.isnan(values)]
        if len(measured):
            statistics[:3, number] = measured.min(), measured.mean(dtype=np.float64), measured.max()
        if len(values):
            statistics[3, number] = 1 - len(measured) / len(values)
    return statistics


def _target_samples(panel: PanelStore) -> dict[str, np.ndarray]:
    """Return measured values of the first target by split, in raw units, from an even sample of all rows."""
    rows = np.unique(np.linspace(0, len(panel.array("series")) - 1, _SAMPLE).astype(np.int64))
    times, code = panel.array("times")[rows], panel.array("series")[rows]
    values = panel.normalizer.target_scale(panel.names)[code, 0].denormalize(panel.array("targets")[rows, 0])
    spans = panel.cuts.spans.items()
    return {split: values[~np.isnan(values) & (times >= start) & (times < end)] for split, (start, end) in spans}
