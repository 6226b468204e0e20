"""Shift of the data's distribution between training and validation or test, a possible cause of a poor test.

A shift is judged by its size, not by a p-value: with many dependent rows every difference is significant. It must also
be larger than what stretches of training of the same length show against the whole, as seasons do.
"""

from collections.abc import Iterator

import numpy as np

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.findings import Finding
from lstm.diagnostics.spans import Span, Spans
from lstm.evaluation.ridge import sample_evenly
from lstm.metrics.shift import KS_MARGIN, decile_edges, ks_distance, population_stability, stretch_starts

MIN_PSI = 0.25  # population stability index of a major shift (Siddiqi 2006, Credit Risk Scorecards)
MIN_KS = 0.2  # Kolmogorov–Smirnov distance
_OUTSIDE_SHARE = 0.1  # of values beyond training's range, as with a trend: a shift, whatever stretches show
_MAX_ROWS, _MAX_VALUES = 20_000, 2_000_000  # that distances are computed from
_MAX_SHIFTS = 10  # findings of their own; further columns share one


def diagnose_shift(spans: Spans, config: PipelineConfig) -> tuple[Finding, ...]:
    """Return the columns whose distribution in validation or test differs from training, the largest shift first.

    PSI and Kolmogorov–Smirnov distance must both exceed their thresholds. Besides, either no stretch of training as
    long as the test is about as far from the whole of training, or a tenth of the values lie outside its range.
    """
    train = _sample(spans.train, len(spans.columns))
    later = {split: _sample(getattr(spans, split), len(spans.columns)) for split in ("validation", "test")}
    stretches = _stretches(train, spans)
    shifts: list[tuple[float, Finding]] = []
    for number, column in enumerate(spans.columns):
        reference, values = _values(train, number), {split: _values(span, number) for split, span in later.items()}
        sizes = {split: _size(reference, part) for split, part in values.items()}
        large = [split for split, (psi, ks) in sizes.items() if psi >= MIN_PSI and ks >= MIN_KS]
        usual = max((_size(reference, _values(part, number))[1] for part in stretches), default=0.0) if large else 0.0
        large = [
            split
            for split in large
            if sizes[split][1] > usual + KS_MARGIN or _share_outside(reference, values[split]) >= _OUTSIDE_SHARE
        ]
        if large:
            evidence, remedy = _evidence(reference, values, sizes, large, usual), _remedy(spans, number, config)
            finding = Finding("shift", evidence, remedy, f"column {column}")
            shifts.append((max(sizes[split][1] for split in large), finding))
    shifts.sort(key=lambda shift: -shift[0])
    findings = [finding for _, finding in shifts]
    return (*findings[:_MAX_SHIFTS], *_summarize(findings[_MAX_SHIFTS:]))


def _summarize(findings: list[Finding]) -> Iterator[Finding]:
    if findings:
        places = ", ".join(finding.where.removeprefix("column ") for finding in findings)
        evidence = f"{len(findings)} more columns shifted less far: {places[:300]}"
        yield Finding("shift", evidence, findings[0].remedy, f"{len(findings)} more columns")


def _sample(span: Span, columns: int) -> Span:
    rows = sample_evenly(len(span.series), min(_MAX_ROWS, max(_MAX_VALUES // columns, 1000)))
    return Span(span.values[rows], span.series[rows], span.times[rows])


def _stretches(train: Span, spans: Spans) -> list[Span]:
    """Cut training into stretches as long as the test; empty if it is not twice as long."""
    if not len(train.times) or not len(spans.test.times):
        return []
    length = np.ptp(spans.test.times)
    starts = stretch_starts(train.times, length)
    masks = [(train.times >= start) & (train.times <= start + length) for start in starts]
    return [Span(train.values[rows], train.series[rows], train.times[rows]) for rows in masks]


def _values(span: Span, column: int) -> np.ndarray:
    values = span.values[:, column].astype(np.float64)
    return values[~np.isnan(values)]


def _size(reference: np.ndarray, values: np.ndarray) -> tuple[float, float]:
    """Return PSI and Kolmogorov–Smirnov distance; 0 if either sample is empty."""
    if not len(reference) or not len(values):
        return 0.0, 0.0
    psi = population_stability(reference, values, decile_edges(reference), pseudo_count=0.5)
    return psi, ks_distance(reference, values)


def _share_outside(reference: np.ndarray, values: np.ndarray) -> float:
    """Return the share of values outside the range of the reference."""
    return float(np.mean((values < reference.min()) | (values > reference.max())))


def _evidence(
    reference: np.ndarray,
    values: dict[str, np.ndarray],
    sizes: dict[str, tuple[float, float]],
    large: list[str],
    usual: float,
) -> str:
    center, spread = reference.mean(), reference.std() or 1.0
    parts = [
        f"{split} against training: PSI {sizes[split][0]:.2f} (threshold {MIN_PSI:g}), Kolmogorov–Smirnov distance "
        f"{sizes[split][1]:.2f} (threshold {MIN_KS:g}), mean moved by {(values[split].mean() - center) / spread:+.2f} "
        f"of training's standard deviations, spread {values[split].std() / spread:.2f} times, "
        f"{_share_outside(reference, values[split]):.0%} outside of training's range"
        for split in large
    ]
    if usual:
        parts.append(f"of the stretches of training of the test's length the farthest off is at {usual:.2f}")
    parts += [f"{split} is at {sizes[split][1]:.2f}" for split in values if split not in large]
    return "; ".join(parts)


def _remedy(spans: Spans, number: int, config: PipelineConfig) -> str:
    if number >= spans.n_targets:
        return "Leave the column out of data.observed, or train on history that holds such values (split.train)"
    anchor = f" (now {config.model.anchor})" if config.model.anchor != "none" else ", which centres each window"
    log = "" if config.normalize.log else ", or normalize.log: true where it grows in proportion"
    return (
        f"Train again on newer data, up to the shift (shorter split.validation and split.test); set model.anchor: "
        f"standard{anchor}{log}"
    )
