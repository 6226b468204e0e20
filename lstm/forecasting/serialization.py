"""A forecaster's folder: `model.safetensors` and `forecaster.json`, tensors and JSON, no pickle."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar, get_args

import numpy as np
import torch

from lstm.config.data import DataSpec
from lstm.config.model import EnsembleMethod, ModelConfig
from lstm.data.scaling import PanelNormalizer
from lstm.errors import CheckpointError, ConfigError, DataError
from lstm.forecasting.conformal import Conformal
from lstm.networks.checkpoint import load_checkpoint, save_checkpoint, write_atomic
from lstm.networks.network import ForecastNetwork

if TYPE_CHECKING:
    from lstm.forecasting.forecaster import Forecaster

Made = TypeVar("Made", bound="Forecaster")
_DESCRIPTION, _WEIGHTS = "forecaster.json", "model.safetensors"
_BROKEN = (KeyError, TypeError, AttributeError, IndexError, ValueError, AssertionError, RuntimeError)
_SHOWN = 200  # characters of an error


def save(made: "Forecaster", folder: Path) -> None:
    """Write both files; the weights' file holds the checksum of the description."""
    tensors = {
        f"{number}.{key}": tensor
        for number, member in enumerate(made.members)
        for key, tensor in member.state_dict().items()
    }
    content = json.dumps(description(made), indent=1, allow_nan=False).encode()
    write_atomic(folder / _DESCRIPTION, content)
    meta = {"members": len(made.members), "description_sha256": hashlib.sha256(content).hexdigest()}
    save_checkpoint(folder / _WEIGHTS, tensors, meta)


def description(made: "Forecaster") -> dict[str, Any]:
    """All but the weights, JSON-ready."""
    return {
        "name": made.name,
        "data": made.spec.model_dump(mode="json"),
        "levels": made.levels,
        "left_out": list(made.left_out),
        "normalizer": made.normalizer.to_dict(),
        "members": [member.config.model_dump(mode="json") for member in made.members],
        "n_known": made.members[0].n_known,
        "series": list(made.series),
        "weights": list(made.weights),
        "method": made.method,
        "intervals": made.intervals.to_dict(),
        "lineage": made.lineage,
    }


def load(kind: type[Made], folder: Path) -> Made:
    """Read what `save` wrote, on the CPU, bit for bit.

    Raises:
        CheckpointError: a file is missing or damaged, or of an earlier version.
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
        made = kind(**_restored(json.loads(content, parse_constant=_refuse), tensors, folder))
        _check(made)
        return made
    except (ConfigError, DataError) as error:
        raise CheckpointError(f"{folder}: {error}") from None
    except _BROKEN as error:
        said = str(error).partition("\n")[0][:_SHOWN]
        raise CheckpointError(f"{path}: is damaged ({type(error).__name__}: {said}).") from None


def _restored(state: dict[str, Any], tensors: dict[str, torch.Tensor], folder: Path) -> dict[str, Any]:
    """A forecaster's fields."""
    spec = DataSpec.parse(state["data"], where=_DESCRIPTION)
    configs = [ModelConfig.parse(config, where=_DESCRIPTION) for config in state["members"]]
    columns = range(len(spec.target))
    sizes = (state["n_known"], len(state["series"]))
    members = tuple(ForecastNetwork(config, columns, *sizes).eval() for config in configs)
    for number, member in enumerate(members):
        _load_weights(member, tensors, f"{number}.", folder / _WEIGHTS)
    return {
        "name": state["name"],
        "spec": spec,
        "levels": state["levels"],
        "left_out": tuple(state["left_out"]),
        "series": tuple(state["series"]),
        "normalizer": PanelNormalizer.from_dict(state["normalizer"]),
        "members": members,
        "weights": tuple(state["weights"]),
        "method": state["method"],
        "intervals": Conformal.from_dict(state["intervals"]),
        "lineage": state["lineage"],
    }


def _load_weights(member: ForecastNetwork, tensors: dict[str, torch.Tensor], prefix: str, path: Path) -> None:
    own = {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}
    try:
        member.load_state_dict(own)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path}: its weights don't fit its configuration ({str(error).splitlines()[-1].strip()})."
        ) from None


def _check(made: "Forecaster") -> None:
    """What a forecast would stumble over, or silently use."""
    count, center, scale = len(made.members), made.normalizer.center, made.normalizer.scale
    if not len(made.weights) == count > 0:
        raise ValueError(
            f"there must be as many weights as members, and one, but there are {len(made.weights)} and {count}"
        )
    methods = get_args(EnsembleMethod)
    if made.method not in methods:
        raise ValueError(f"method {made.method!r} is none of {', '.join(methods)}")
    shape = (99, made.horizon, len(made.spec.target))
    if made.intervals.radius.shape != shape:
        raise ValueError(f"intervals must be of shape {shape}, but are of {made.intervals.radius.shape}")
    if made.intervals.quantiles != made.quantiles:
        raise ValueError(f"intervals are of quantiles {made.intervals.quantiles}, but members have {made.quantiles}")
    rows = {len(made.normalizer.names), len(center), len(scale)}
    if len(rows) > 1 or center.ndim != 2 or center.shape != scale.shape:
        raise ValueError("normalizer: each name must have a row of center and of scale")
    if not all(np.isfinite(numbers).all() for numbers in (made.weights, made.intervals.radius, center, scale)):
        raise ValueError("weights, intervals and normalizer must be finite")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
