"""Weights and JSON in one safetensors file, written whole or not at all. No pickle is ever read."""

import hashlib
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


def write_atomic(path: Path, content: bytes, durable: bool = True) -> None:
    """Write beside `path` and move into place: readers see the old file or the new one. `durable`: after a power cut,
    too, since it is flushed to the disk before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], durable: bool = True
) -> None:
    """Save tensors and a JSON-ready description under any file name."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(meta, allow_nan=False)
    described = {"format": _FORMAT, "meta": text, "sha256": _checksum(contiguous, text)}
    write_atomic(Path(path), save(contiguous, metadata=described), durable)


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
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged, or no saved model ({error}).") from None
    if "format" not in described:
        raise CheckpointError(f"{path}: holds weights, but not of this package.")
    if described["format"] != _FORMAT or described.get("sha256") != _checksum(tensors, described.get("meta", "")):
        raise CheckpointError(f"{path}: is damaged: its content is not what was saved. Restore it from a copy.")
    return tensors, json.loads(described["meta"])


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """sha256 over names, shapes and bits of the tensors, and the description."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _is_pickle(path: Path) -> bool:
    """A pickle starts with 0x80 or '(', torch.save's archive with 'PK'; safetensors has its JSON at byte 8."""
    with path.open("rb") as file:
        start = file.read(9)
    return (start[:1] in (b"\x80", b"(") or start[:2] == b"PK") and start[8:] != b"{"
