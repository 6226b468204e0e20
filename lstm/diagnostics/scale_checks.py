"""Checks of normalised data: training data off their center and scale, series with scales of their own."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np

from lstm.config.pipeline import PipelineConfig
from lstm.diagnostics.findings import Finding
from lstm.diagnostics.spans import Span, Spans

MAX_SCALE_RATIO = 20.0  # between splits or series: more is another order of magnitude
_MAX_MEAN = 0.1  # |mean| of normalised training data
_MAX_STD = 2.0  # standard deviation of normalised training data; the least is 1 / this
_MIN_ROWS = 100  # of a series, to judge its scale
_CONSTANT_STD = 1e-6  # of normalised values
_NOTABLE_SHARE = 0.1  # of the series
_TROUBLE = "inconsistent_normalisation"


def diagnose_scaling(spans: Spans, config: PipelineConfig) -> tuple[Finding, ...]:
    """Return where normalised data are not what their normaliser should produce.

    Training data off their center and scale, constant columns, series whose scales differ by orders of magnitude, and
    series whose scale in validation or test is of another order than in training.
    """
    per_series = config.normalize.per == "series"
    train = _Scales.of(spans.train, spans, per_series=True)
    normalized = train if per_series else _Scales.of(spans.train, spans, per_series=False)
    return (
        *_constant_columns(train, spans),
        *_off_center(normalized, spans, config),
        *_uneven_series(train, spans, config),
        *_unit_changes(train, spans),
    )


@dataclass(frozen=True)
class _Scales:
    """Moments of each measured column by series: (series, columns) each."""

    count: np.ndarray
    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, span: Span, spans: Spans, per_series: bool) -> Self:
        """Compute the moments; without `per_series` all series count as one."""
        series = span.series if per_series else np.zeros(len(span.series), np.int64)
        size = len(spans.series_names) if per_series else 1
        moments = [_moments(values, series, size) for values in span.values[:, : spans.n_measured].T]
        count, mean, std = (np.stack(part, axis=1) for part in zip(*moments, strict=True))
        return cls(count, mean, std)


def _moments(values: np.ndarray, series: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return count, mean and standard deviation of the values of each series, (series,) each."""
    measured = ~np.isnan(values)
    series, numbers = series[measured], values[measured].astype(np.float64)
    count = np.bincount(series, minlength=size)
    divisor = np.maximum(count, 1)
    mean = np.bincount(series, numbers, minlength=size) / divisor
    variance = np.bincount(series, np.square(numbers - mean[series]), minlength=size) / divisor
    return count, mean, np.sqrt(variance)


def _constant_columns(train: _Scales, spans: Spans) -> Iterator[Finding]:
    enough = train.count >= _MIN_ROWS
    constant = enough & (train.std <= _CONSTANT_STD)
    for number, column in enumerate(spans.columns[: spans.n_measured]):
        n_constant, n_judged = int(constant[:, number].sum()), int(enough[:, number].sum())
        if n_constant and n_constant >= _NOTABLE_SHARE * n_judged:
            name = spans.series_names[int(constant[:, number].argmax())]
            role = "target" if number < spans.n_targets else "observed column"
            yield Finding(
                _TROUBLE,
                f"the {role} never changes in the training span of {n_constant} of {n_judged} series, such as "
                f"{name!r}, so that its scale is unknown and any later change comes unscaled",
                f"Leave the {'series' if number < spans.n_targets else 'column'} out, or train on a span in which it "
                "changes (split.train)",
                f"column {column}",
            )


def _off_center(train: _Scales, spans: Spans, config: PipelineConfig) -> Iterator[Finding]:
    off, expected = _off_center_mask(train, spans, config.normalize.strategy)
    off &= (train.count >= _MIN_ROWS) & (train.std > _CONSTANT_STD)
    for number in np.flatnonzero(off.any(axis=0)):
        row = int(np.argmax(np.where(off[:, number], np.abs(train.mean[:, number]) + train.std[:, number], -1)))
        scope = f" of series {spans.series_names[row]!r}" if len(off) > 1 else ""
        yield Finding(
            _TROUBLE,
            f"the normalised training data{scope} have mean {train.mean[row, number]:.3g} and standard deviation "
            f"{train.std[row, number]:.3g}, where networks are to be given {expected}",
            _scaling_remedy(config),
            f"column {spans.columns[number]}",
        )


def _off_center_mask(train: _Scales, spans: Spans, strategy: str) -> tuple[np.ndarray, str]:
    """Return which scales a strategy would not produce, (series, columns) bool, and what it should produce."""
    if strategy == "zscore":
        filled = np.arange(spans.n_measured) >= spans.n_targets  # filled gaps of observed columns need some slack
        noise = 5 / np.sqrt(np.maximum(train.count, 1)) * (not spans.train.complete)
        off = np.abs(train.mean) > _MAX_MEAN + noise + 0.15 * filled
        off |= train.std > _MAX_STD
        off |= (train.std < 1 / _MAX_STD) & spans.train.complete & ~filled
        return off, "mean 0 and standard deviation 1"
    if strategy == "minmax":
        off = (train.mean < 0) | (train.mean > 1) | (train.std > 0.5)  # values within [0, 1] can't spread wider
        return off, "values within [0, 1]"
    # robust keeps the scale of values without an interquartile range; with none, networks need numbers around 1.
    off = (np.abs(train.mean) > MAX_SCALE_RATIO) | (train.std > MAX_SCALE_RATIO) | (train.std < 1 / MAX_SCALE_RATIO)
    return off, "numbers of about 1"


def _scaling_remedy(config: PipelineConfig) -> str:
    strategy = config.normalize.strategy
    if strategy in ("none", "robust"):
        return f"Set normalize.strategy: zscore (now {strategy})"
    return "The arrays were not made by this normaliser: remove the work folder below LSTM_HOME and train again"


def _uneven_series(train: _Scales, spans: Spans, config: PipelineConfig) -> Iterator[Finding]:
    """Yield columns whose scale differs between series that share one normaliser, or have none."""
    if config.normalize.per == "series" and config.normalize.strategy != "none":
        return
    for number in range(spans.n_measured):
        usable = (train.count[:, number] >= _MIN_ROWS) & (train.std[:, number] > 0)
        spread = np.where(usable, train.std[:, number], np.nan)
        if usable.sum() < 2 or np.nanmax(spread) < MAX_SCALE_RATIO * np.nanmin(spread):
            continue
        wide, narrow = spans.series_names[int(np.nanargmax(spread))], spans.series_names[int(np.nanargmin(spread))]
        yield Finding(
            _TROUBLE,
            f"series {wide!r} varies {np.nanmax(spread) / np.nanmin(spread):.3g} times as much as {narrow!r} "
            f"(threshold {MAX_SCALE_RATIO:g}): what is small does not count in the loss",
            f"Set normalize.per: series and a strategy such as zscore (now {config.normalize.strategy}, "
            f"{config.normalize.per})",
            f"column {spans.columns[number]}",
        )


def _unit_changes(train: _Scales, spans: Spans) -> Iterator[Finding]:
    for split in ("validation", "test"):
        later = _Scales.of(getattr(spans, split), spans, per_series=True)
        usable = (train.count >= _MIN_ROWS) & (later.count >= _MIN_ROWS)
        usable &= (train.std > _CONSTANT_STD) & (later.std > _CONSTANT_STD)
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(usable, later.std / train.std, 1.0)
            mean_shift = np.where(usable, np.abs(later.mean - train.mean) / train.std, 0.0)
        changed = (spread > MAX_SCALE_RATIO) | (spread < 1 / MAX_SCALE_RATIO) | (mean_shift > MAX_SCALE_RATIO)
        for number in np.flatnonzero(changed.any(axis=0)):
            row = int(changed[:, number].argmax())
            yield Finding(
                _TROUBLE,
                f"in {split} series {spans.series_names[row]!r} varies {spread[row, number]:.3g} times as much as in "
                f"training and its mean lies {mean_shift[row, number]:.3g} of training's standard deviations off "
                f"(threshold {MAX_SCALE_RATIO:g}), as after a change of unit",
                "Bring the column to one unit over the whole span, or train on the span after the change (split.train)",
                f"column {spans.columns[number]}",
            )
