"""Pictures of a search: how it went, which keys mattered, and what the good trials have in common.

All take the study's trials as `study.get_trials(deepcopy=False)` gives them; of several objectives the first counts,
which is the validation RMSE on the normalised scale.
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
from tasks.reporting.plotting import INK, MUTED, PALETTE, canvas, legend_below, log_if_wide, say

_FEWEST = 4  # finished trials that importances are estimated from
_CERTAIN = 30  # trials from which on they are more than a hint
_MOST_KEYS = 8  # axes of the parallel coordinates
_ERROR = "validation RMSE, normalised"
_COLORS = ListedColormap(colormaps["viridis"](np.linspace(0, 0.85, 256)))  # safe for the colour-blind; no pale end


def search_pictures(study: optuna.Study, name: str) -> dict[str, Figure]:
    """Every picture of a search by its name. `name` is the pipeline's."""
    trials = study.get_trials(deepcopy=False)
    return {
        "search_history": search_history(trials, name),
        "importance": importance(study, name),
        "parallel_coordinates": parallel_coordinates(trials, name),
    }


def search_history(trials: Sequence[FrozenTrial], name: str) -> Figure:
    """Error by trial, the best so far, and where pruned ones ended. `name` is the pipeline's."""
    finished, pruned = _finished(trials), _in_state(trials, TrialState.PRUNED)
    failed = len(_in_state(trials, TrialState.FAIL))
    title = f"{name}: search of {len(finished)} finished, {len(pruned)} pruned and {failed} failed trials"
    figure, ((axes,),) = canvas(title, 4.4)
    if not finished:
        say(axes, "no trial has finished")
        return figure
    numbers, errors = [one.number for one in finished], [_error(one) for one in finished]
    axes.plot(numbers, errors, "o", color=PALETTE[0], alpha=0.8, label="finished")
    planned = [one for one in finished if "member" in one.user_attrs]
    places = [one.number for one in planned], [_error(one) for one in planned]
    axes.plot(*places, "o", ms=11, color=INK, mfc="none", label="planned member" if planned else None)
    axes.step(numbers, np.minimum.accumulate(errors), where="post", color=PALETTE[2], linewidth=2, label="best so far")
    log_if_wide(axes, errors)
    _mark_pruned(axes, [one for one in pruned if one.intermediate_values], min(errors), max(errors))
    axes.set_xlabel("trial")
    axes.set_ylabel(_ERROR)
    axes.xaxis.get_major_locator().set_params(integer=True)
    legend_below(figure, axes)
    return figure


def _mark_pruned(axes: Axes, pruned: Sequence[FrozenTrial], low: float, high: float) -> None:
    """Crosses at the last error told; one far above the finished trials stands at the top, so that they stay apart."""
    told = [one.intermediate_values[max(one.intermediate_values)] for one in pruned]
    top = high + max(high - low, 0.05 * abs(high))
    shown = [min(error, top) if np.isfinite(error) else top for error in told]
    label = "pruned, at its last error" + (" (at the top: above)" if any(error >= top for error in shown) else "")
    if pruned:
        axes.plot([one.number for one in pruned], shown, "x", color=PALETTE[1], label=label)


def importances(study: optuna.Study) -> dict[str, float] | str:
    """Share of each searched key in the differences between finished trials, largest first; or why nobody can say.

    Mean decrease in impurity of a random forest, of the keys that every trial was asked for.
    """
    finished = _finished(study.get_trials(deepcopy=False))
    keys = [key for key in _varied(finished) if all(key in one.params for one in finished)]
    if len(finished) < _FEWEST:
        return f"importances need {_FEWEST} finished trials, and there are {len(finished)}"
    if len(keys) < 2:
        return f"importances need two keys that every trial was asked for and that differ, and there are {len(keys)}"
    # Of three evaluators this one named the key that mattered most often from 8 and from 20 trials, PED-ANOVA, Optuna's
    # own choice, the least often.
    evaluator = optuna.importance.MeanDecreaseImpurityImportanceEvaluator(seed=0)
    found = optuna.importance.get_param_importances(study, evaluator=evaluator, params=keys, target=_error)
    return {key: float(share) for key, share in sorted(found.items(), key=lambda one: -one[1])}


def importance(study: optuna.Study, name: str) -> Figure:
    """What `importances` finds, or says. `name` is the pipeline's."""
    found, count = importances(study), len(_finished(study.get_trials(deepcopy=False)))
    if isinstance(found, str):
        figure, ((axes,),) = canvas(f"{name}: which searched keys mattered", 1.6)
        say(axes, found)
        return figure
    figure, ((axes,),) = canvas(f"{name}: which searched keys mattered", 1.3 + 0.4 * len(found))
    shares = {key: 100 * share for key, share in reversed(found.items())}
    axes.barh(list(shares), list(shares.values()), color=PALETTE[0], height=0.62)
    for row, share in enumerate(shares.values()):
        axes.annotate(f"{share:.0f} %", (share, row), (6, 0), textcoords="offset points", va="center")
    axes.grid(visible=False, axis="y")
    axes.set_xlim(0, 110)
    axes.set_xticks(range(0, 101, 20))
    doubtful = "; so few give a hint at most" if count < _CERTAIN else ""
    axes.set_xlabel(f"share of importance, % (random forest over {count} finished trials{doubtful})")
    return figure


def parallel_coordinates(trials: Sequence[FrozenTrial], name: str) -> Figure:
    """Each finished trial as a line through its values of the searched keys, coloured by its error; the best one thick.

    A trial that was not asked for a key has a break there. `name` is the pipeline's.
    """
    finished = sorted(_finished(trials), key=_error, reverse=True)  # the best is drawn last, over the others
    keys = _varied(finished)[:_MOST_KEYS]
    figure, ((axes,),) = canvas(f"{name}: what the trials were, and what came of them", 4.6)
    if not keys:
        say(axes, "no searched key has different values among the finished trials")
        return figure
    errors = np.array([_error(one) for one in finished])
    places = {key: _heights(axes, number, key, finished) for number, key in enumerate(keys)}
    shades = Normalize(errors.min(), errors.max() if np.ptp(errors) > 0 else errors.min() + 1)
    for row, one in enumerate(finished):
        heights = [places[key][row] for key in keys]
        best = row == len(finished) - 1
        style = {"linewidth": 3.0, "alpha": 1.0, "zorder": 4} if best else {"linewidth": 1.4, "alpha": 0.75}
        label = f"the best: trial {one.number}" if best else None
        axes.plot(range(len(keys)), heights, marker="o", ms=4, color=_COLORS(shades(errors[row])), label=label, **style)
    drawn = figure.colorbar(_mappable(shades), ax=axes, pad=0.02)
    drawn.set_label(_ERROR)
    axes.grid(visible=False)
    axes.set(xlim=(-0.3, len(keys) - 0.3), ylim=(-0.06, 1.06), yticks=[])
    axes.spines[["left", "bottom"]].set_visible(False)
    axes.tick_params(bottom=False)
    axes.set_xticks(range(len(keys)), keys)
    axes.legend(loc="upper right", frameon=False, fontsize=9, bbox_to_anchor=(1, 1.12))
    return figure


def _heights(axes: Axes, number: int, key: str, trials: Sequence[FrozenTrial]) -> list[float]:
    """Where each trial's value lies on the key's axis, 0 to 1, NaN where it has none; the axis is drawn."""
    values = [one.params.get(key) for one in trials]
    distribution = next(one.distributions[key] for one in trials if key in one.distributions)
    axes.axvline(number, color=MUTED, linewidth=0.8, zorder=0)
    ticks: dict[str, float]
    if isinstance(distribution, CategoricalDistribution):
        met = [one for one in distribution.choices if one in values]
        ticks = {str(one)[:14]: index / max(len(met) - 1, 1) for index, one in enumerate(met)}
        heights = [np.nan if one is None else ticks[str(one)[:14]] for one in values]
    else:
        scaled = np.array([np.nan if one is None else float(one) for one in values])
        shown = {"": np.nan, f"{np.nanmin(scaled):.3g}": 0.0, f"{np.nanmax(scaled):.3g}": 1.0}
        ticks = {text: height for text, height in shown.items() if text}
        scaled = np.log(scaled) if getattr(distribution, "log", False) else scaled
        heights = list((scaled - np.nanmin(scaled)) / (np.nanmax(scaled) - np.nanmin(scaled)))
    for text, height in ticks.items():
        box = {"boxstyle": "round,pad=0.15", "facecolor": "white", "alpha": 0.85, "edgecolor": "none"}
        axes.annotate(
            text, (number, height), (5, 0), textcoords="offset points", fontsize=8.5, va="center", bbox=box, zorder=5
        )
    return heights


def _mappable(shades: Normalize) -> Any:
    from matplotlib.cm import ScalarMappable

    return ScalarMappable(shades, _COLORS)


def _finished(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    complete = [one for one in trials if one.state == TrialState.COMPLETE and np.isfinite(one.values[0])]
    return sorted(complete, key=lambda one: one.number)


def _in_state(trials: Sequence[FrozenTrial], state: TrialState) -> list[FrozenTrial]:
    return [one for one in trials if one.state == state]


def _error(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _varied(trials: Sequence[FrozenTrial]) -> list[str]:
    """The searched keys in which the trials differ, in their order."""
    keys = dict.fromkeys(key for one in trials for key in one.params)
    return [key for key in keys if len({str(one.params[key]) for one in trials if key in one.params}) > 1]


def pareto(trials: Sequence[Trial], front: Sequence[int]) -> Figure:
    """Error against latency of every finished trial, those named that no other beats in both."""
    figure, ((axes,),) = canvas("validation error and latency: nothing is better than the front in both", 5)
    places = {one.name: (one.latency_ms or 0.0, one.val_rmse) for one in trials}
    best = {one.name: places[one.name] for one in trials if one.number in front}
    axes.scatter(*zip(*places.values(), strict=True), color=MUTED, label="trials")
    axes.plot(*zip(*sorted(best.values()), strict=True), "o-", color=PALETTE[0], label="Pareto front")
    for name, place in best.items():
        axes.annotate(name, place, xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set_xlabel("one forecast, ms")
    axes.set_ylabel(_ERROR)
    axes.legend(frameon=False)
    return figure
