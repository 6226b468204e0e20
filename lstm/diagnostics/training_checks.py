"""Three troubles that a training's own record shows: not learning, overfitting, exploding gradients.

A record is what `lstm.networks.trainer` makes of an epoch. Thresholds are rules of thumb, wide enough that an ordinary
training, stopped early, stays below them; each stands in the finding's evidence.
"""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence

from lstm.config.model import LIKELIHOODS, ModelConfig
from lstm.diagnostics.findings import Finding

TrainingHistory = Sequence[Mapping[str, float]]

FALL = 0.02  # of the first epoch's training loss: less is no fall
SAFE = 0.95  # of the naive error: who is below it learns, however flat the loss
RISE = 0.15  # of the best validation loss, on average over the last epochs: more is a turn
_LAST = 3  # epochs that the turn is averaged over
_FEWEST = 3  # epochs: fewer say nothing of a course
ORDERS = 30.0  # × the median gradient norm: an explosion
CLIPPED = 2.0  # × gradient_clip: where an epoch's mean norm is that high, most of its steps are clipped
_VANISHED = 1e-4  # gradient norm
_RATES = (1e-4, 1e-2)  # ordinary learning rates
_DROPOUT = 0.5  # more is seldom of use


def diagnose_training(
    name: str,
    history: TrainingHistory,
    config: ModelConfig,
    findings: str | Sequence[str] = (),
    naive: Mapping[str, float] | None = None,
) -> tuple[Finding, ...]:
    """What went wrong in the training of one network; nothing where it is healthy.

    Args:
        name: of the trial.
        history: a record an epoch, in order; losses are finite, since training goes back where one is not.
        config: the network's.
        findings: what training itself said, such as that it went back after a loss that was not finite.
        naive: normalised validation RMSE of naive forecasts by name, on the windows that `val_rmse` is of. None:
            not known, and whether training learns is judged by its loss alone.
    """
    told = findings if isinstance(findings, str) else "; ".join(findings)
    found = [*_exploding(name, history, config, told)]
    if history:
        found += [*_not_learning(name, history, config, naive or {}), *_overfitting(name, history, config)]
    return tuple(found)


def _not_learning(
    name: str, history: TrainingHistory, config: ModelConfig, naive: Mapping[str, float]
) -> Iterator[Finding]:
    losses, best = _course(history, "train_loss"), min(_course(history, "val_rmse"))
    bar = min(naive, key=lambda one: naive[one]) if naive else ""
    fall = (losses[0] - min(losses)) / _unit(losses[0], config)
    flat = len(losses) >= _FEWEST and fall < FALL and not (bar and best < SAFE * naive[bar])
    evidence = []
    if flat:
        evidence.append(
            f"the training loss went from {losses[0]:.4g} to {losses[-1]:.4g} in {len(losses)} epochs, a fall of "
            f"{max(fall, 0):.1%} at most (threshold {FALL:.0%})"
        )
    if bar and best >= naive[bar]:
        evidence.append(
            f"its best validation RMSE, {best:.4g} on the normalised scale, is no better than that of {bar}, "
            f"{naive[bar]:.4g}"
        )
    if evidence:
        yield Finding("not_learning", "; ".join(evidence), _to_learn(history, config, flat), name)


def _to_learn(history: TrainingHistory, config: ModelConfig, flat: bool) -> str:
    losses, norms = _course(history, "train_loss"), _course(history, "gradient_norm")
    rate, (lowest, highest) = config.learning_rate, _RATES
    if losses[-1] > losses[0] + RISE * _unit(losses[0], config) or (flat and rate > highest):
        return f"Lower learning_rate ({rate:g}; try {rate / 10:g})"
    if flat and rate < lowest:
        return f"Raise learning_rate ({rate:g}; try {10 * lowest:g})"
    if flat and statistics.median(norms) < _VANISHED:
        return (
            f"The gradients have vanished (median norm {statistics.median(norms):.2g}): check normalize.strategy "
            f"(zscore), set layer_norm: true (now {str(config.layer_norm).lower()}), and raise learning_rate ({rate:g})"
        )
    validation = _course(history, "val_loss")
    if not flat and len(history) == config.epochs and validation.index(min(validation)) == len(history) - 1:
        return f"Raise epochs ({config.epochs}): the validation loss still fell in the last one"
    return _more_to_learn_with(config, flat)


def _more_to_learn_with(config: ModelConfig, flat: bool) -> str:
    hidden, seen, season = config.hidden_size, config.sequence_length, config.season or 1
    rate = f"Raise learning_rate ({config.learning_rate:g}; try {3 * config.learning_rate:g}), r" if flat else "R"
    longer = f"sequence_length ({seen}; try {max(2 * seen, season)})"
    anchor = f", set anchor: {'seasonal' if season > 1 else 'last'} (none now)" if config.anchor == "none" else ""
    return (
        f"{rate}aise hidden_size ({hidden}; try {2 * hidden}) and {longer}{anchor}, and check normalize.strategy; "
        "where the series is a random walk nothing beats persistence: use that"
    )


def _overfitting(name: str, history: TrainingHistory, config: ModelConfig) -> Iterator[Finding]:
    training, validation = _course(history, "train_loss"), _course(history, "val_loss")
    best = validation.index(min(validation))
    after = validation[best + 1 :][-_LAST:]
    if len(history) < _FEWEST or len(after) < _FEWEST - 1:
        return
    rise = (statistics.mean(after) - validation[best]) / _unit(validation[best], config)
    fall = (training[best] - training[-1]) / _unit(training[best], config)
    if rise < RISE or fall < FALL:
        return
    evidence = (
        f"the validation loss was best in epoch {best + 1} of {len(history)} ({validation[best]:.4g}) and then rose "
        f"by {_shown(rise, config)} (threshold {_shown(RISE, config)}) to {statistics.mean(after):.4g}, while the "
        f"training loss went on falling by {_shown(fall, config)}, from {training[best]:.4g} to {training[-1]:.4g}: "
        f"the gap between them grew from {validation[best] - training[best]:.3g} to "
        f"{validation[-1] - training[-1]:.3g}"
    )
    yield Finding("overfitting", evidence, _to_generalise(config, len(history) - 1 - best), name)


def _to_generalise(config: ModelConfig, wasted: int) -> str:
    steps = []
    if config.dropout < _DROPOUT:
        steps.append(f"raise dropout ({config.dropout:g}; try {min(config.dropout + 0.2, _DROPOUT):g})")
    steps.append(f"raise weight_decay ({config.weight_decay:g}; try {max(10 * config.weight_decay, 0.01):g})")
    if not config.augment:
        steps.append("set augment: [jitter, scaling] (none now)")
    layers = f" or num_layers ({config.num_layers})" if config.num_layers > 1 else ""
    steps.append(f"lower hidden_size ({config.hidden_size}; try {max(config.hidden_size // 2, 1)}){layers}")
    if config.patience is None or config.patience > 5:
        now = "null" if config.patience is None else str(config.patience)
        steps.append(f"set patience: 3 (now {now}), which would have spared most of {wasted} epochs")
    text = "; ".join(steps)
    return f"{text[0].upper()}{text[1:]}. The best epoch's weights are the ones kept"


def _exploding(name: str, history: TrainingHistory, config: ModelConfig, told: str) -> Iterator[Finding]:
    norms = [one["gradient_norm"] for one in history]
    finite = [norm for norm in norms if math.isfinite(norm)]
    evidence = []
    if "was not finite" in told:  # of lstm.networks.training
        evidence.append(f"training said: {told}")
    wild = len(norms) - len(finite)
    # The scaler of fp16 finds its scale by overflows: steps that it skips are no trouble until they are many.
    if wild > (len(norms) / 2 if config.precision in ("fp16", "auto") else 0):
        evidence.append(f"the gradient norm was not finite in {wild} of {len(norms)} epochs")
    usual = statistics.median(finite) if finite else 0.0
    if len(finite) > _FEWEST and max(finite) > ORDERS * usual > 0:
        evidence.append(
            f"the gradient norm reached {max(finite):.3g} in epoch {norms.index(max(finite)) + 1}, "
            f"{max(finite) / usual:.0f} times its median of {usual:.3g} (threshold {ORDERS:g})"
        )
    clip = config.gradient_clip
    clipped = sum(norm > CLIPPED * clip for norm in finite) if clip else 0
    if clip and 2 * clipped > len(norms) >= _FEWEST:
        evidence.append(
            f"most steps are clipped: in {clipped} of {len(norms)} epochs the mean gradient norm is over {CLIPPED:g} "
            f"times gradient_clip ({clip:g}), its median {usual:.3g}"
        )
    if evidence:
        yield Finding("exploding_gradients", "; ".join(evidence), _to_tame(config, 2 * clipped > len(norms)), name)


def _to_tame(config: ModelConfig, clipped: bool) -> str:
    rate, clip = config.learning_rate, config.gradient_clip
    steps = [f"Lower learning_rate ({rate:g}; try {rate / 10:g})"]
    if clipped:
        steps.append(f"check normalize.strategy (zscore), since gradient_clip ({clip:g}) is all that holds it")
    else:
        steps.append("set gradient_clip: 1.0 (null now)" if clip is None else f"lower gradient_clip ({clip:g})")
    if config.precision != "fp32":
        steps.append(f"set precision: fp32 (now {config.precision})")
    return ", ".join(steps) + ", and look for values out of all range in the data (the profile's outliers)"


def _course(history: TrainingHistory, key: str) -> list[float]:
    return [float(one[key]) for one in history]


def _unit(loss: float, config: ModelConfig) -> float:
    """What changes of a loss are held against: itself; of a log-likelihood, which may be 0 or negative, one nat."""
    return 1.0 if config.trained_loss in LIKELIHOODS or loss == 0 else abs(loss)


def _shown(change: float, config: ModelConfig) -> str:
    return f"{change:.2f} nats" if config.trained_loss in LIKELIHOODS else f"{change:.0%}"
