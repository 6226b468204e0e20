"""Troubles that a training's history shows: not learning, overfitting, exploding gradients.

The history has one record per epoch, as `lstm.networks.trainer` writes it. Thresholds are rules of thumb, wide enough
that an ordinary training with early stopping stays below them; the evidence of each finding names them.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from lstm.config.model import LIKELIHOODS, ModelConfig
from lstm.diagnostics.findings import Finding

TrainingHistory = Sequence[Mapping[str, float]]

MIN_FALL = 0.02  # of the first epoch's training loss: less is a flat loss
NAIVE_MARGIN = 0.95  # × the best naive error: a network below it has learned, however flat its loss
MIN_RISE = 0.15  # of the best validation loss, by the mean of the last epochs: less is no overfitting
MAX_NORM_RATIO = 30.0  # × the median gradient norm: more is an explosion
MAX_CLIP_RATIO = 2.0  # × gradient_clip: with a higher mean norm, most steps of the epoch are clipped
_LAST = 3  # epochs that the rise is averaged over
_MIN_EPOCHS = 3  # to judge how a loss develops
_VANISHED_NORM = 1e-4
_RATES = (1e-4, 1e-2)  # ordinary learning rates
_MAX_DROPOUT = 0.5  # that is suggested


def diagnose_training(
    name: str,
    history: TrainingHistory,
    config: ModelConfig,
    findings: str | Sequence[str] = (),
    naive: Mapping[str, float] | None = None,
) -> tuple[Finding, ...]:
    """Return the troubles of one network's training; empty if it is healthy.

    Args:
        name: of the trial.
        history: one record per epoch, in order. Losses are finite, since training restarts from the best weights
            after one that is not.
        config: the network's.
        findings: remarks of the trainer, such as a restart after a loss that was not finite.
        naive: normalised validation RMSE of naive baselines by name, on the same windows as `val_rmse`. None:
            unknown; then only the loss shows whether the network learns.
    """
    remarks = findings if isinstance(findings, str) else "; ".join(findings)
    troubles = [*_exploding(name, history, config, remarks)]
    if history:
        troubles += [*_not_learning(name, history, config, naive or {}), *_overfitting(name, history, config)]
    return tuple(troubles)


def _not_learning(
    name: str, history: TrainingHistory, config: ModelConfig, naive: Mapping[str, float]
) -> Iterator[Finding]:
    losses, best = _values(history, "train_loss"), min(_values(history, "val_rmse"))
    baseline = min(naive, key=naive.__getitem__) if naive else ""
    fall = (losses[0] - min(losses)) / _loss_unit(losses[0], config)
    flat = len(losses) >= _MIN_EPOCHS and fall < MIN_FALL and not (baseline and best < NAIVE_MARGIN * naive[baseline])
    evidence = []
    if flat:
        evidence.append(
            f"the training loss went from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses)} epochs, a fall of "
            f"{max(fall, 0):.1%} at most (threshold {MIN_FALL:.0%})"
        )
    if baseline and best >= naive[baseline]:
        evidence.append(
            f"its best validation RMSE, {best:.4g} on the normalised scale, is no better than that of {baseline}, "
            f"{naive[baseline]:.4g}"
        )
    if evidence:
        yield Finding("not_learning", "; ".join(evidence), _learning_remedy(history, config, flat), name)


def _learning_remedy(history: TrainingHistory, config: ModelConfig, flat: bool) -> str:
    losses, norms = _values(history, "train_loss"), _values(history, "gradient_norm")
    rate, (lowest, highest) = config.learning_rate, _RATES
    if losses[-1] > losses[0] + MIN_RISE * _loss_unit(losses[0], config) or (flat and rate > highest):
        return f"Lower learning_rate ({rate:g}; try {rate / 10:g})"
    if flat and rate < lowest:
        return f"Raise learning_rate ({rate:g}; try {10 * lowest:g})"
    if flat and statistics.median(norms) < _VANISHED_NORM:
        return (
            f"The gradients have vanished (median norm {statistics.median(norms):.2g}): check normalize.strategy "
            f"(zscore), set layer_norm: true (now {str(config.layer_norm).lower()}), and raise learning_rate ({rate:g})"
        )
    validation = _values(history, "val_loss")
    if not flat and len(history) == config.epochs and validation.index(min(validation)) == len(history) - 1:
        return f"Raise epochs ({config.epochs}): the validation loss still fell in the last one"
    return _capacity_remedy(config, flat)


def _capacity_remedy(config: ModelConfig, flat: bool) -> str:
    hidden, lookback, season = config.hidden_size, config.sequence_length, config.season or 1
    rate = f"Raise learning_rate ({config.learning_rate:g}; try {3 * config.learning_rate:g}), r" if flat else "R"
    longer = f"sequence_length ({lookback}; try {max(2 * lookback, season)})"
    anchor = f", set anchor: {'seasonal' if season > 1 else 'last'} (none now)" if config.anchor == "none" else ""
    return (
        f"{rate}aise hidden_size ({hidden}; try {2 * hidden}) and {longer}{anchor}, and check normalize.strategy; "
        "where the series is a random walk nothing beats persistence: use that"
    )


def _overfitting(name: str, history: TrainingHistory, config: ModelConfig) -> Iterator[Finding]:
    training, validation = _values(history, "train_loss"), _values(history, "val_loss")
    best = validation.index(min(validation))
    after = validation[best + 1 :][-_LAST:]
    if len(history) < _MIN_EPOCHS or len(after) < _MIN_EPOCHS - 1:
        return
    rise = (statistics.mean(after) - validation[best]) / _loss_unit(validation[best], config)
    fall = (training[best] - training[-1]) / _loss_unit(training[best], config)
    if rise < MIN_RISE or fall < MIN_FALL:
        return
    evidence = (
        f"the validation loss was best in epoch {best + 1} of {len(history)} ({validation[best]:.4g}) and then rose "
        f"by {_format_change(rise, config)} (threshold {_format_change(MIN_RISE, config)}) to "
        f"{statistics.mean(after):.4g}, while the training loss went on falling by {_format_change(fall, config)}, "
        f"from {training[best]:.4g} to {training[-1]:.4g}: "
        f"the gap between them grew from {validation[best] - training[best]:.3g} to "
        f"{validation[-1] - training[-1]:.3g}"
    )
    yield Finding("overfitting", evidence, _overfitting_remedy(config, len(history) - 1 - best), name)


def _overfitting_remedy(config: ModelConfig, epochs_after_best: int) -> str:
    changes = []
    if config.dropout < _MAX_DROPOUT:
        changes.append(f"raise dropout ({config.dropout:g}; try {min(config.dropout + 0.2, _MAX_DROPOUT):g})")
    changes.append(f"raise weight_decay ({config.weight_decay:g}; try {max(10 * config.weight_decay, 0.01):g})")
    if not config.augment:
        changes.append("set augment: [jitter, scaling] (none now)")
    layers = f" or num_layers ({config.num_layers})" if config.num_layers > 1 else ""
    changes.append(f"lower hidden_size ({config.hidden_size}; try {max(config.hidden_size // 2, 1)}){layers}")
    if config.patience is None or config.patience > 5:
        now = "null" if config.patience is None else str(config.patience)
        changes.append(f"set patience: 3 (now {now}), which would have spared most of {epochs_after_best} epochs")
    text = "; ".join(changes)
    return f"{text[0].upper()}{text[1:]}. The best epoch's weights are the ones kept"


def _exploding(name: str, history: TrainingHistory, config: ModelConfig, remarks: str) -> Iterator[Finding]:
    norms = _values(history, "gradient_norm")
    finite = [norm for norm in norms if math.isfinite(norm)]
    evidence = []
    if "was not finite" in remarks:  # written by lstm.networks.training
        evidence.append(f"training said: {remarks}")
    n_infinite = len(norms) - len(finite)
    # The fp16 gradient scaler finds its scale by overflows, so a few skipped steps are normal.
    if n_infinite > (len(norms) / 2 if config.precision in ("fp16", "auto") else 0):
        evidence.append(f"the gradient norm was not finite in {n_infinite} of {len(norms)} epochs")
    usual = statistics.median(finite) if finite else 0.0
    if len(finite) > _MIN_EPOCHS and max(finite) > MAX_NORM_RATIO * usual > 0:
        evidence.append(
            f"the gradient norm reached {max(finite):.3g} in epoch {norms.index(max(finite)) + 1}, "
            f"{max(finite) / usual:.0f} times its median of {usual:.3g} (threshold {MAX_NORM_RATIO:g})"
        )
    clip = config.gradient_clip
    clipped = sum(norm > MAX_CLIP_RATIO * clip for norm in finite) if clip else 0
    if clip and 2 * clipped > len(norms) >= _MIN_EPOCHS:
        evidence.append(
            f"most steps are clipped: in {clipped} of {len(norms)} epochs the mean gradient norm is over "
            f"{MAX_CLIP_RATIO:g} times gradient_clip ({clip:g}), its median {usual:.3g}"
        )
    if evidence:
        yield Finding(
            "exploding_gradients", "; ".join(evidence), _exploding_remedy(config, 2 * clipped > len(norms)), name
        )


def _exploding_remedy(config: ModelConfig, clipped: bool) -> str:
    rate, clip = config.learning_rate, config.gradient_clip
    changes = [f"Lower learning_rate ({rate:g}; try {rate / 10:g})"]
    if clipped:
        changes.append(
            f"check normalize.strategy (zscore), since gradient_clip ({clip:g}) is all that limits the gradients"
        )
    else:
        changes.append("set gradient_clip: 1.0 (null now)" if clip is None else f"lower gradient_clip ({clip:g})")
    if config.precision != "fp32":
        changes.append(f"set precision: fp32 (now {config.precision})")
    return ", ".join(changes) + ", and look for extreme values in the data (the profile's outliers)"


def _values(history: TrainingHistory, key: str) -> list[float]:
    return [float(epoch[key]) for epoch in history]


def _loss_unit(loss: float, config: ModelConfig) -> float:
    """Return what changes of a loss are divided by: the loss; for a log-likelihood, which may be ≤ 0, one nat."""
    return 1.0 if config.trained_loss in LIKELIHOODS or loss == 0 else abs(loss)


def _format_change(change: float, config: ModelConfig) -> str:
    return f"{change:.2f} nats" if config.trained_loss in LIKELIHOODS else f"{change:.0%}"
