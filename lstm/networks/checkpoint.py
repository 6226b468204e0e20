"""Weights and JSON in one safetensors file, written whole or not at all. No pickle is ever read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lstm.errors import CheckpointError

_FORMAT = "lstm/1"


def write_atomic(path: Path, content: bytes) -> None:
    """Write beside `path`, flush to the disk, and move into place: readers see the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save_checkpoint(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Save tensors and a JSON-ready description under any file name."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    described = {"format": _FORMAT, "meta": json.dumps(meta, allow_nan=False)}
    write_atomic(Path(path), save(contiguous, metadata=described))


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What `save_checkpoint` wrote: tensors on the CPU, and the description.

    Raises:
        CheckpointError: the file is missing, a pickle, damaged, or of another origin.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.")
    if _is_pickle(path):
        raise CheckpointError(f"{path}: is a pickle, which can run code when loaded. Save the model anew with .save().")
    try:
        with safe_open(path, framework="pt") as file:
            described = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path}: is damaged, or no saved model ({error}).") from None
    if described.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: holds weights, but not of this package (format {described.get('format')!r}).")
    return tensors, json.loads(described["meta"])


def _is_pickle(path: Path) -> bool:
    """A pickle starts with 0x80 or '(', torch.save's archive with 'PK'; safetensors has its JSON at byte 8."""
    with path.open("rb") as file:
        start = file.read(9)
    return (start[:1] in (b"\x80", b"(") or start[:2] == b"PK") and start[8:] != b"{"
