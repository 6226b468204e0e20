"""Whether the arrays are scaled alike: training data on their center and scale, and no series on a scale of its own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.findings import Finding
from lstm.diagnostics.spans import Span, Spans

ORDERS = 20.0  # × the spread in training, or among series: another order of magnitude
_MEAN, _SPREAD = 0.1, 2.0  # of normalised training data: |mean| at most, standard deviation at most (at least 1 / it)
_FEWEST = 100  # rows of a series: fewer say nothing of its scale
_CONSTANT = 1e-6  # standard deviation of normalised values
_NOTABLE = 0.1  # of the series


def diagnose_scaling(spans: Spans, config: PipelineConfig) -> tuple[Finding, ...]:
    """Normalised data that are not what their normaliser should make of them.

    Training data off their center and scale, a column that never changes, series whose scales differ by orders of
    magnitude, and series whose scale in validation or test is of another order than in training.
    """
    grouped = config.normalize.per == "series"
    train = _Scales.of(spans.train, spans, grouped=True)
    fitted = train if grouped else _Scales.of(spans.train, spans, grouped=False)
    return (
        *_constant(train, spans),
        *_off_center(fitted, spans, config),
        *_uneven_series(train, spans, config),
        *_other_units(train, spans),
    )


@dataclass(frozen=True)
class _Scales:
    """Of each measured column by series: (series, columns) each."""

    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, span: Span, spans: Spans, grouped: bool) -> Self:
        """`grouped`: by series; otherwise all of them are one."""
        series = span.series if grouped else np.zeros(len(span.series), np.int64)
        size = len(spans.series_names) if grouped else 1
        found = [_moments(values, series, size) for values in span.values[:, : spans.n_measured].T]
        count, mean, std = (np.stack(part, axis=1) for part in zip(*found, strict=True))
        return cls(count, mean, std)


def _moments(values: np.ndarray, series: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    there = ~np.isnan(values)
    owner, numbers = series[there], values[there].astype(np.float64)
    count = np.bincount(owner, minlength=size)
    most = np.maximum(count, 1)
    mean = np.bincount(owner, numbers, minlength=size) / most
    variance = np.bincount(owner, np.square(numbers - mean[owner]), minlength=size) / most
    return count, mean, np.sqrt(variance)


def _constant(train: _Scales, spans: Spans) -> Iterator[Finding]:
    enough = train.count >= _FEWEST
    still = enough & (train.std <= _CONSTANT)
    for number, column in enumerate(spans.columns[: spans.n_measured]):
        stuck, seen = int(still[:, number].sum()), int(enough[:, number].sum())
        if stuck and stuck >= _NOTABLE * seen:
            name = spans.series_names[int(still[:, number].argmax())]
            kind = "target" if number < spans.n_targets else "observed column"
            yield Finding(
                "inconsistent_normalisation",
                f"the {kind} never changes in the training span of {stuck} of {seen} series, such as {name!r}, so that "
                "its scale is unknown and any later change comes unscaled",
                f"Leave the {'series' if number < spans.n_targets else 'column'} out, or train on a span in which it "
                "changes (split.train)",
                f"column {column}",
            )


def _off_center(train: _Scales, spans: Spans, config: PipelineConfig) -> Iterator[Finding]:
    strategy = config.normalize.strategy
    enough = (train.count >= _FEWEST) & (train.std > _CONSTANT)
    noise = 5 / np.sqrt(np.maximum(train.count, 1)) * (not spans.train.complete)
    if strategy == "zscore":
        filled = np.arange(spans.n_measured) >= spans.n_targets  # gaps of observed columns are filled: some slack
        bad = np.abs(train.mean) > _MEAN + noise + 0.15 * filled
        bad |= train.std > _SPREAD
        bad |= (train.std < 1 / _SPREAD) & spans.train.complete & ~filled
        wanted = "mean 0 and standard deviation 1"
    elif strategy == "minmax":
        bad = (train.mean < 0) | (train.mean > 1) | (train.std > 0.5)  # no values within [0, 1] spread wider
        wanted = "values within [0, 1]"
    else:  # robust: a middle half of no width leaves the scale as it is; none: networks take numbers around 1
        bad = (np.abs(train.mean) > ORDERS) | (train.std > ORDERS) | (train.std < 1 / ORDERS)
        wanted = "numbers of about 1"
    bad &= enough
    for number in np.flatnonzero(bad.any(axis=0)):
        row = int(np.argmax(np.where(bad[:, number], np.abs(train.mean[:, number]) + train.std[:, number], -1)))
        whose = f" of series {spans.series_names[row]!r}" if len(bad) > 1 else ""
        yield Finding(
            "inconsistent_normalisation",
            f"the normalised training data{whose} have mean {train.mean[row, number]:.3g} and standard deviation "
            f"{train.std[row, number]:.3g}, where networks are to be given {wanted}",
            _to_scale(config),
            f"column {spans.columns[number]}",
        )


def _to_scale(config: PipelineConfig) -> str:
    strategy = config.normalize.strategy
    if strategy in ("none", "robust"):
        return f"Set normalize.strategy: zscore (now {strategy})"
    return "The arrays were not made by this normaliser: remove the work folder below LSTM_HOME and train again"


def _uneven_series(train: _Scales, spans: Spans, config: PipelineConfig) -> Iterator[Finding]:
    """Where one normaliser serves all series, or none."""
    if config.normalize.per == "series" and config.normalize.strategy != "none":
        return
    for number in range(spans.n_measured):
        usable = (train.count[:, number] >= _FEWEST) & (train.std[:, number] > 0)
        spread = np.where(usable, train.std[:, number], np.nan)
        if usable.sum() < 2 or np.nanmax(spread) < ORDERS * np.nanmin(spread):
            continue
        wide, narrow = spans.series_names[int(np.nanargmax(spread))], spans.series_names[int(np.nanargmin(spread))]
        yield Finding(
            "inconsistent_normalisation",
            f"series {wide!r} varies {np.nanmax(spread) / np.nanmin(spread):.3g} times as much as {narrow!r} "
            f"(threshold {ORDERS:g}): what is small does not count in the loss",
            f"Set normalize.per: series and a strategy such as zscore (now {config.normalize.strategy}, "
            f"{config.normalize.per})",
            f"column {spans.columns[number]}",
        )


def _other_units(train: _Scales, spans: Spans) -> Iterator[Finding]:
    for split in ("validation", "test"):
        later = _Scales.of(getattr(spans, split), spans, grouped=True)
        usable = (train.count >= _FEWEST) & (later.count >= _FEWEST) & (train.std > _CONSTANT) & (later.std > _CONSTANT)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(usable, later.std / train.std, 1.0)
            moved = np.where(usable, np.abs(later.mean - train.mean) / train.std, 0.0)
        bad = (spread > ORDERS) | (spread < 1 / ORDERS) | (moved > ORDERS)
        for number in np.flatnonzero(bad.any(axis=0)):
            row = int(bad[:, number].argmax())
            yield Finding(
                "inconsistent_normalisation",
                f"in {split} series {spans.series_names[row]!r} varies {spread[row, number]:.3g} times as much as in training "
                f"and its mean lies {moved[row, number]:.3g} of training's standard deviations off (threshold "
                f"{ORDERS:g}), as after a change of unit",
                "Bring the column to one unit over the whole span, or train on the span after the change (split.train)",
                f"column {spans.columns[number]}",
            )
