"""Checkpoints: weights and JSON in one safetensors file, written atomically. Pickles are refused."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lstm.atomic import write_atomic
from lstm.errors import CheckpointError

_FORMAT = "lstm/1"


def save_checkpoint(
    path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any], durable: bool = True
) -> None:
    """Save tensors and JSON-ready metadata under any file name."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(meta, allow_nan=False)
    metadata = {"format": _FORMAT, "meta": text, "sha256": _checksum(contiguous, text)}
    write_atomic(Path(path), save(contiguous, metadata=metadata), durable)


def load_checkpoint(path: str | Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Load what `save_checkpoint` wrote: tensors on the CPU, and the metadata.

    Raises:
        CheckpointError: the file is missing, a pickle, damaged, or not of this package.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file.")
    if _is_pickle(path):
        raise CheckpointError(f"{path}: is a pickle, which can run code when loaded. Save the model anew with .save().")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except (SafetensorError, OSError, RuntimeError, ValueError) as error:
        raise CheckpointError(f"{path}: is damaged, or no saved model ({error}).") from None
    if "format" not in metadata:
        raise CheckpointError(f"{path}: holds weights, but not of this package.")
    if metadata["format"] != _FORMAT or metadata.get("sha256") != _checksum(tensors, metadata.get("meta", "")):
        raise CheckpointError(f"{path}: is damaged: its content is not what was saved. Restore it from a copy.")
    return tensors, json.loads(metadata["meta"])


def add_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors under the names `PREFIX.NAME`."""
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def strip_prefix(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with `PREFIX.`, without it."""
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def _checksum(tensors: Mapping[str, Tensor], text: str) -> str:
    """Return the sha256 over names, shapes and bits of the tensors, and the metadata."""
    digest = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        digest.update(f"{name}{tuple(tensors[name].shape)}".encode())
        digest.update(tensors[name].numpy().tobytes())
    return digest.hexdigest()


def _is_pickle(path: Path) -> bool:
    """Whether a file starts like a pickle (0x80 or '(') or an archive of torch.save ('PK').

    A safetensors file may start with the same bytes, but has '{' at byte 8.
    """
    with path.open("rb") as file:
        start = file.read(9)
    return (start[:1] in (b"\x80", b"(") or start[:2] == b"PK") and start[8:] != b"{"
