"""The folder of a trial: its weights, its validation forecast and its result. Imports torch and the library only.

A finished trial has `result.json` and, unless it was pruned, `network.safetensors` and `validation.npy`. A trial that
has not finished has `progress.safetensors`, from which its training continues.
"""

import json
from pathlib import Path
from typing import Any

from lstm.errors import CheckpointError
from lstm.networks.checkpoint import load_checkpoint

Result = dict[str, Any]
RESULT, PROGRESS = "result.json", "progress.safetensors"
OUTPUTS = ("network.safetensors", "validation.npy")


def result_of(folder: Path) -> Result | None:
    """What the trial of that folder came to; None: it has not ended, or its files are not what was written."""
    try:
        result: Result = json.loads((folder / RESULT).read_bytes())
        sizes = {name: (folder / name).stat().st_size for name in result["sizes"]}
        return result if sizes == result["sizes"] and result["state"] in ("done", "pruned") else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def history_of(folder: Path) -> list[dict[str, float]]:
    """The epochs of the trial of that folder, ended or not."""
    ended = result_of(folder)
    return partial_history(folder) if ended is None else list(ended["history"])


def partial_history(folder: Path) -> list[dict[str, float]]:
    """The epochs of an unended trial."""
    try:
        history: list[dict[str, float]] = load_checkpoint(folder / PROGRESS)[1]["history"]
    except (CheckpointError, KeyError):
        return []
    return history
