"""What must hold of a disturbed search, for benchmarks/chaos.py: it is the undisturbed one, trial by trial."""

from collections.abc import Iterator
from pathlib import Path

import optuna
import torch


def differences(ours: optuna.Study, theirs: optuna.Study, folder: Path, undisturbed: Path) -> list[str]:
    """How a search differs from the one that nobody disturbed, a line each; both with the folder of their trials."""
    wrong = []
    if [trial.number for trial in ours.trials] != [trial.number for trial in theirs.trials]:
        wrong.append(f"{len(ours.trials)} trials, where {len(theirs.trials)} were planned")
    for mine, other in zip(ours.trials, theirs.trials, strict=False):
        wrong += [f"trial {mine.number} {line}" for line in _of_trial(mine, other, folder, undisturbed)]
    if ours.best_value != theirs.best_value:
        wrong.append(f"the best error is {ours.best_value}, undisturbed {theirs.best_value}")
    return wrong


def _of_trial(
    mine: optuna.trial.FrozenTrial, other: optuna.trial.FrozenTrial, folder: Path, undisturbed: Path
) -> Iterator[str]:
    from lstm.networks.checkpoint import load_checkpoint

    if mine.datetime_complete is None or (mine.params, mine.values) != (other.params, other.values):
        yield f"is {mine.state.name} with {mine.values}, not {other.values}"
        return
    name = f"trial-{mine.number:03d}"
    if (folder / name / "result.json").stat().st_mtime > mine.datetime_complete.timestamp():
        yield "went on after its end"
    folders = (folder / name, undisturbed / name)
    weights, expected = (load_checkpoint(path / "network.safetensors")[0] for path in folders)
    if not all(torch.equal(weights[key], expected[key]) for key in expected):
        yield "has other weights than undisturbed"
