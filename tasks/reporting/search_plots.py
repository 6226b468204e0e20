"""Plots of a search: its course, importances of the searched keys, and the parameters of good trials.

All take the study's trials as from `study.get_trials(deepcopy=False)`. Of several objectives the first counts: the
validation RMSE on the normalised scale.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial, TrialState

from tasks.handles import Trial
from tasks.reporting.plotting import INK, MUTED, PALETTE, legend_below, log_if_wide, placeholder_text, subplots

_MIN_TRIALS = 4  # finished trials that importances are estimated from
_ENOUGH_TRIALS = 30  # with fewer, importances are a hint
_MAX_KEYS = 8  # axes of the parallel coordinates
_ERROR = "validation RMSE, normalised"
_COLORS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.85, 256)))  # colour-blind safe, without the pale end


def plot_search(study: optuna.Study, name: str) -> dict[str, Figure]:
    """Return all plots by name. `name` is the pipeline's."""
    trials = study.get_trials(deepcopy=False)
    return {
        "search_history": search_history(trials, name),
        "importance": importance(study, name),
        "parallel_coordinates": parallel_coordinates(trials, name),
    }


def search_history(trials: Sequence[FrozenTrial], name: str) -> Figure:
    """Plot error by trial, the best so far, and where trials were pruned. `name` is the pipeline's."""
    finished, pruned = _finished(trials), _in_state(trials, TrialState.PRUNED)
    failed = len(_in_state(trials, TrialState.FAIL))
    title = f"{name}: search of {len(finished)} finished, {len(pruned)} pruned and {failed} failed trials"
    figure, ((axes,),) = subplots(title, 4.4)
    if not finished:
        placeholder_text(axes, "no trial has finished")
        return figure
    numbers, errors = [trial.number for trial in finished], [_error(trial) for trial in finished]
    axes.plot(numbers, errors, "o", color=PALETTE[0], alpha=0.8, label="finished")
    planned = [trial for trial in finished if "member" in trial.user_attrs]
    points = [trial.number for trial in planned], [_error(trial) for trial in planned]
    axes.plot(*points, "o", ms=11, color=INK, mfc="none", label="planned member" if planned else None)
    axes.step(numbers, np.minimum.accumulate(errors), where="post", color=PALETTE[2], linewidth=2, label="best so far")
    log_if_wide(axes, errors)
    _mark_pruned(axes, [trial for trial in pruned if trial.intermediate_values], min(errors), max(errors))
    axes.set_xlabel("trial")
    axes.set_ylabel(_ERROR)
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes)
    return figure


def _mark_pruned(axes: Axes, pruned: Sequence[FrozenTrial], low: float, high: float) -> None:
    """Mark the last reported error of each trial. Large errors are clipped, so that finished trials stay apart."""
    errors = [trial.intermediate_values[max(trial.intermediate_values)] for trial in pruned]
    top = high + max(high - low, 0.05 * abs(high))
    clipped = [min(error, top) if np.isfinite(error) else top for error in errors]
    label = "pruned, at its last error" + (" (at the top: above)" if any(error >= top for error in clipped) else "")
    if pruned:
        axes.plot([trial.number for trial in pruned], clipped, "x", color=PALETTE[1], label=label)


def importances(study: optuna.Study) -> dict[str, float] | str:
    """Return each searched key's share in the differences between finished trials, or why it can't be estimated.

    Mean decrease in impurity of a random forest, for the keys that all trials have; largest first.
    """
    finished = _finished(study.get_trials(deepcopy=False))
    keys = [key for key in _varied_keys(finished) if all(key in trial.params for trial in finished)]
    if len(finished) < _MIN_TRIALS:
        return f"importances need {_MIN_TRIALS} finished trials, and there are {len(finished)}"
    if len(keys) < 2:
        return f"importances need two keys that all trials have and that differ, and there are {len(keys)}"
    # Of three evaluators this one named the key that mattered most often from 8 and from 20 trials, PED-ANOVA, Optuna's
    # default, the least often.
    evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
    shares = optuna.importance.get_param_importances(study, evaluator=evaluator, params=keys, target=_error)
    return {key: float(share) for key, share in sorted(shares.items(), key=lambda item: -item[1])}


def importance(study: optuna.Study, name: str) -> Figure:
    """Plot the importances, or show why they can't be estimated. `name` is the pipeline's."""
    result, count = importances(study), len(_finished(study.get_trials(deepcopy=False)))
    title = f"{name}: which searched keys mattered"
    if isinstance(result, str):
        figure, ((axes,),) = subplots(title, 1.6)
        placeholder_text(axes, result)
        return figure
    figure, ((axes,),) = subplots(title, 1.3 + 0.4 * len(result))
    shares = {key: 100 * share for key, share in reversed(result.items())}
    axes.barh(list(shares), list(shares.values()), color=PALETTE[0], height=0.62)
    for row, share in enumerate(shares.values()):
        axes.annotate(f"{share:.0f} %", (share, row), (6, 0), textcoords="offset points", va="center")
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    hint = "; so few give a hint at most" if count < _ENOUGH_TRIALS else ""
    axes.set_xlabel(f"share of importance, % (random forest over {count} finished trials{hint})")
    return figure


def parallel_coordinates(trials: Sequence[FrozenTrial], name: str) -> Figure:
    """Plot each finished trial as a line through its values of the searched keys, coloured by its error.

    The best trial is thick. A trial without a key has a break there. `name` is the pipeline's.
    """
    finished = sorted(_finished(trials), key=_error, reverse=True)  # the best is drawn last, over the others
    keys = _varied_keys(finished)[:_MAX_KEYS]
    figure, ((axes,),) = subplots(f"{name}: parameters of the trials, and their errors", 4.6)
    if not keys:
        placeholder_text(axes, "no searched key has different values among the finished trials")
        return figure
    errors = np.array([_error(trial) for trial in finished])
    heights = np.column_stack([_plot_axis(axes, number, key, finished) for number, key in enumerate(keys)])
    shades = Normalize(errors.min(), errors.max() if np.ptp(errors) > 0 else errors.min() + 1)
    for row, trial in enumerate(finished):
        best = row == len(finished) - 1
        style: dict[str, Any] = (
            {"linewidth": 3.0, "alpha": 1.0, "zorder": 4} if best else {"linewidth": 1.4, "alpha": 0.75}
        )
        label = f"the best: trial {trial.number}" if best else None
        axes.plot(range(len(keys)), heights[row], "o-", ms=4, color=_COLORS(shades(errors[row])), label=label, **style)
    colorbar = figure.colorbar(_mappable(shades), ax=axes, pad=0.02)
    colorbar.set_label(_ERROR)
    axes.grid(visible=False)
    axes.set(xlim=(-0.3, len(keys) - 0.3), ylim=(-0.06, 1.06), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False)
    axes.set_xticks(range(len(keys)), keys)
    axes.legend(loc="upper right", frameon=False, fontsize=9, bbox_to_anchor=(1, 1.12))
    return figure


def _plot_axis(axes: Axes, number: int, key: str, trials: Sequence[FrozenTrial]) -> np.ndarray:
    """Draw the axis of a key; return the height of each trial's value on it, 0 to 1, NaN without a value."""
    values = [trial.params.get(key) for trial in trials]
    distribution = next(trial.distributions[key] for trial in trials if key in trial.distributions)
    axes.axvline(number, color=MUTED, linewidth=0.8, zorder=0)
    if isinstance(distribution, CategoricalDistribution):
        choices = [choice for choice in distribution.choices if choice in values]
        ticks = {_tick(choice): index / max(len(choices) - 1, 1) for index, choice in enumerate(choices)}
        heights = np.array([np.nan if value is None else ticks[_tick(value)] for value in values])
    else:
        numbers = np.array([np.nan if value is None else float(value) for value in values])
        low, high = np.nanmin(numbers), np.nanmax(numbers)
        ticks = {f"{low:.3g}": 0.0, f"{high:.3g}": 1.0}
        scale = np.log if getattr(distribution, "log", False) else np.asarray
        heights = (scale(numbers) - scale(low)) / (scale(high) - scale(low))
    for text, height in ticks.items():
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
        axes.annotate(
            text, (number, height), (5, 0), textcoords="offset points", fontsize=8.5, va="center", bbox=box, zorder=5
        )
    return heights


def _tick(choice: object) -> str:
    return str(choice)[:14]


def _mappable(shades: Normalize) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(shades, _COLORS)


def _finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE and np.isfinite(trial.values[0])]
    return sorted(complete, key=lambda trial: trial.number)


def _in_state(trials: Sequence[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [trial for trial in trials if trial.state == state]


def _error(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _varied_keys(trials: Sequence[FrozenTrial]) -> list[str]:
    """Return the searched keys in which the trials differ, in their order."""
    keys = dict.fromkeys(key for trial in trials for key in trial.params)
    return [key for key in keys if len({str(trial.params[key]) for trial in trials if key in trial.params}) > 1]


def pareto_front(trials: Sequence[Trial], front: Sequence[int]) -> Figure:
    """Plot error against latency of every finished trial, and name the trials of the Pareto front."""
    figure, ((axes,),) = subplots("validation error and latency: nothing is better than the front in both", 5)
    points = {trial.name: (trial.latency_ms or 0.0, trial.val_rmse_normalized) for trial in trials}
    best = {trial.name: points[trial.name] for trial in trials if trial.number in front}
    axes.scatter(*zip(*points.values(), strict=True), color=MUTED, label="trials")
    axes.plot(*zip(*sorted(best.values()), strict=True), "o-", color=PALETTE[0], label="Pareto front")
    for name, point in best.items():
        axes.annotate(name, point, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("one forecast, ms")
    axes.set_ylabel(_ERROR)
    axes.legend(frameon=False)
    return figure
