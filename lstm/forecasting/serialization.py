"""Saving and loading forecasters: `model.safetensors` for the weights, `forecaster.json` for the rest, no pickle."""

import hashlib
import json
from pathlib import Path
from typing import Any, NoReturn, get_args

import numpy as np
import torch

from lstm.atomic import write_atomic
from lstm.config.data import DataSpec
from lstm.config.model import EnsembleMethod, ModelConfig
from lstm.data.scaling import PanelNormalizer
from lstm.errors import CheckpointError, ConfigError, DataError
from lstm.forecasting.conformal import Conformal
from lstm.forecasting.parts import ForecasterParts
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint
from lstm.networks.network import ForecastNetwork

_DESCRIPTION, _WEIGHTS = "forecaster.json", "model.safetensors"
_DAMAGE_ERRORS = (KeyError, TypeError, AttributeError, IndexError, ValueError, AssertionError, RuntimeError)
_MAX_ERROR_CHARS = 200  # of an error quoted in a message


def save(parts: ForecasterParts, folder: Path) -> None:
    """Write both files. The metadata of `model.safetensors` hold the checksum of `forecaster.json`."""
    tensors = {
        f"{number}.{key}": tensor
        for number, member in enumerate(parts.members)
        for key, tensor in member.state_dict().items()
    }
    content = json.dumps(describe(parts), indent=1, allow_nan=False).encode()
    write_atomic(folder / _DESCRIPTION, content)
    meta = {"members": len(parts.members), "description_sha256": hashlib.sha256(content).hexdigest()}
    save_checkpoint(folder / _WEIGHTS, tensors, meta)


def describe(parts: ForecasterParts) -> dict[str, Any]:
    """Return everything but the weights, JSON-ready: the content of `forecaster.json`."""
    return {
        "name": parts.name,
        "data": parts.spec.model_dump(mode="json"),
        "levels": parts.categories,
        "left_out": list(parts.left_out),
        "normalizer": parts.normalizer.to_dict(),
        "members": [member.config.model_dump(mode="json") for member in parts.members],
        "n_known": parts.members[0].n_known,
        "series": list(parts.series),
        "weights": list(parts.weights),
        "method": parts.method,
        "intervals": parts.intervals.to_dict(),
        "lineage": parts.lineage,
    }


def load(folder: Path) -> ForecasterParts:
    """Read what `save` wrote, onto the CPU.

    Raises:
        CheckpointError: a file is missing, damaged, or of an earlier version.
    """
    path = folder / _DESCRIPTION
    try:
        content = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{folder}: holds no forecaster ({_DESCRIPTION}: {error}).") from None
    tensors, meta = load_checkpoint(folder / _WEIGHTS)
    if meta.get("description_sha256") != hashlib.sha256(content).hexdigest():
        raise CheckpointError(f"{path}: is damaged: its content is not what was saved. Restore it from a copy.")
    try:
        parts = _restore(json.loads(content, parse_constant=_reject_constant), tensors, folder)
        _check_consistent(parts)
        return parts
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except _DAMAGE_ERRORS as error:
        cause = str(error).partition("\n")[0][:_MAX_ERROR_CHARS]
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {cause}).") from None


def _restore(state: dict[str, Any], tensors: dict[str, torch.Tensor], folder: Path) -> ForecasterParts:
    """Return the parts from the content of both files."""
    spec = DataSpec.parse(state["data"], where=_DESCRIPTION)
    configs = [ModelConfig.parse(config, where=_DESCRIPTION) for config in state["members"]]
    columns = range(len(spec.target))
    sizes = (state["n_known"], len(state["series"]))
    members = tuple(ForecastNetwork(config, columns, *sizes).eval() for config in configs)
    for number, member in enumerate(members):
        _load_weights(member, tensors, f"{number}.", folder / _WEIGHTS)
    return ForecasterParts(
        name=state["name"],
        spec=spec,
        categories=state["levels"],
        left_out=tuple(state["left_out"]),
        series=tuple(state["series"]),
        normalizer=PanelNormalizer.from_dict(state["normalizer"]),
        members=members,
        weights=tuple(state["weights"]),
        method=state["method"],
        intervals=Conformal.from_dict(state["intervals"]),
        lineage=state["lineage"],
    )


def _load_weights(member: ForecastNetwork, tensors: dict[str, torch.Tensor], prefix: str, path: Path) -> None:
    weights = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    try:
        member.load_state_dict(weights)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights don't fit its configuration ({str(error).splitlines()[-1].strip()})."
        ) from None


def _check_consistent(parts: ForecasterParts) -> None:
    """Check that the parts fit together, since a forecast would fail on them or silently use them.

    Raises:
        ValueError: they don't.
    """
    count, center, scale = len(parts.members), parts.normalizer.center, parts.normalizer.scale
    if not len(parts.weights) == count > 0:
        raise ValueError(
            f"there must be one weight per member, and at least one, but there are {len(parts.weights)} and {count}"
        )
    methods = get_args(EnsembleMethod)
    if parts.method not in methods:
        raise ValueError(f"method {parts.method!r} is not one of {', '.join(methods)}")
    shape = (99, parts.horizon, len(parts.spec.target))
    if parts.intervals.quantile_offsets.shape != shape:
        raise ValueError(f"intervals must be of shape {shape}, but are of {parts.intervals.quantile_offsets.shape}")
    if parts.intervals.quantiles != parts.quantiles:
        raise ValueError(f"intervals are of quantiles {parts.intervals.quantiles}, but members have {parts.quantiles}")
    rows = {len(parts.normalizer.names), len(center), len(scale)}
    if len(rows) > 1 or center.ndim != 2 or center.shape != scale.shape:
        raise ValueError("normalizer: each name must have a row of center and of scale")
    if not all(
        np.isfinite(numbers).all() for numbers in (parts.weights, parts.intervals.quantile_offsets, center, scale)
    ):
        raise ValueError("weights, intervals and normalizer must be finite")


def _reject_constant(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")
