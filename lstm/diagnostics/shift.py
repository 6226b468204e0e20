"""Why a test may be poor though training was good: the distribution of the data moved.

A shift is judged by its size, not by a p-value: of many rows that depend on each other every difference is significant.
And it is held against the training span itself: where stretches of training of the same length lie as far from the
whole, as seasons do, there is none.
"""

from collections.abc import Iterator

import numpy as np

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.findings import Finding
from lstm.diagnostics.spans import Span, Spans
from lstm.evaluation.ridge import sample_evenly
from lstm.metrics.shift import KS_MARGIN, decile_edges, ks_distance, population_stability, stretch_starts

PSI = 0.25  # population stability index: a major shift (Siddiqi 2006, Credit Risk Scorecards)
DISTANCE = 0.2  # Kolmogorov–Smirnov
_OUTSIDE = 0.1  # share of values beyond all of training, as a trend brings: then no stretch excuses them
_MOST_ROWS, _MOST_VALUES = 20_000, 2_000_000  # that distances are taken of
_MOST_SHIFTS = 10  # told one by one, the largest first


def diagnose_shift(spans: Spans, config: PipelineConfig) -> tuple[Finding, ...]:
    """Columns whose distribution in validation or test is not that of training, the largest shift first.

    A column is told where PSI and distance are both over their thresholds, and either no stretch of training, as long
    as the test, lies about as far from the whole of training, or a tenth of the values lie outside of its range.
    """
    train = _thinned(spans.train, len(spans.columns))
    later = {split: _thinned(getattr(spans, split), len(spans.columns)) for split in ("validation", "test")}
    stretches = _stretches(train, spans)
    found: list[tuple[float, Finding]] = []
    for number, column in enumerate(spans.columns):
        seen, came = _values(train, number), {split: _values(span, number) for split, span in later.items()}
        sizes = {split: _size(seen, values) for split, values in came.items()}
        large = [split for split, (index, distance) in sizes.items() if index >= PSI and distance >= DISTANCE]
        usual = max((_size(seen, _values(part, number))[1] for part in stretches), default=0.0) if large else 0.0
        large = [
            split for split in large if sizes[split][1] > usual + KS_MARGIN or _outside(seen, came[split]) >= _OUTSIDE
        ]
        if large:
            evidence, remedy = _evidence(seen, came, sizes, large, usual), _to_follow(spans, number, config)
            found.append((max(sizes[one][1] for one in large), Finding("shift", evidence, remedy, f"column {column}")))
    found.sort(key=lambda one: -one[0])
    return (*(one for _, one in found[:_MOST_SHIFTS]), *_others([one for _, one in found[_MOST_SHIFTS:]]))


def _others(found: list[Finding]) -> Iterator[Finding]:
    if found:
        places = ", ".join(one.where.removeprefix("column ") for one in found)
        evidence = f"{len(found)} more columns shifted less far: {places[:300]}"
        yield Finding("shift", evidence, found[0].remedy, f"{len(found)} more columns")


def _thinned(span: Span, columns: int) -> Span:
    rows = sample_evenly(len(span.series), min(_MOST_ROWS, max(_MOST_VALUES // columns, 1000)))
    return Span(span.values[rows], span.series[rows], span.times[rows])


def _stretches(train: Span, spans: Spans) -> list[Span]:
    """Training cut into stretches as long as the test; none where it is not twice as long."""
    if not len(train.times) or not len(spans.test.times):
        return []
    length = np.ptp(spans.test.times)
    starts = stretch_starts(train.times, length)
    picked = [(train.times >= start) & (train.times <= start + length) for start in starts]
    return [Span(train.values[rows], train.series[rows], train.times[rows]) for rows in picked]


def _values(span: Span, column: int) -> np.ndarray:
    values = span.values[:, column].astype(np.float64)
    return values[~np.isnan(values)]


def _size(seen: np.ndarray, came: np.ndarray) -> tuple[float, float]:
    """PSI and Kolmogorov–Smirnov distance; 0 where there is nothing to compare."""
    if not len(seen) or not len(came):
        return 0.0, 0.0
    psi = population_stability(seen, came, decile_edges(seen), pseudo_count=0.5)
    return psi, ks_distance(seen, came)


def _outside(seen: np.ndarray, came: np.ndarray) -> float:
    """Share of values beyond the range of those that were seen."""
    return float(np.mean((came < seen.min()) | (came > seen.max())))


def _evidence(
    seen: np.ndarray,
    came: dict[str, np.ndarray],
    sizes: dict[str, tuple[float, float]],
    large: list[str],
    usual: float,
) -> str:
    center, spread = seen.mean(), seen.std() or 1.0
    parts = [
        f"{split} against training: PSI {sizes[split][0]:.2f} (threshold {PSI:g}), Kolmogorov–Smirnov distance "
        f"{sizes[split][1]:.2f} (threshold {DISTANCE:g}), mean moved by {(came[split].mean() - center) / spread:+.2f} "
        f"of training's standard deviations, spread {came[split].std() / spread:.2f} times, "
        f"{_outside(seen, came[split]):.0%} outside of training's range"
        for split in large
    ]
    if usual:
        parts.append(f"of the stretches of training of the test's length the farthest off is at {usual:.2f}")
    parts += [f"{split} is at {sizes[split][1]:.2f}" for split in came if split not in large]
    return "; ".join(parts)


def _to_follow(spans: Spans, number: int, config: PipelineConfig) -> str:
    if number >= spans.n_targets:
        return "Leave the column out of data.observed, or train on history that holds such values (split.train)"
    anchor = f" (now {config.model.anchor})" if config.model.anchor != "none" else ", which centres each window"
    log = "" if config.normalize.log else ", or normalize.log: true where it grows in proportion"
    return (
        f"Train again on newer data, up to the shift (shorter split.validation and split.test); set model.anchor: "
        f"standard{anchor}{log}"
    )
