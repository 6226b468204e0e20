"""A forecaster's networks as ONNX files, where that is exact: for programs without torch, and for less latency.

    FOLDER/member-0.onnx …    a network each
    FOLDER/forecaster.json    what `Forecaster.save` writes there, and below "onnx" how the files are to be used

A network reads, batch first and of any size:

    past    (batch, sequence_length, columns) float32   rows of "columns", normalised; a missing covariate is 0
    known   (batch, horizon, n_known) float32           the last n_known columns at the steps ahead; absent where none
    series  (batch,) int64                              place in "series" from 1, 0: not there; with an embedding only

and puts out `out` (batch, horizon, targets, numbers) float32, normalised: number `point` is the point forecast. The
forecaster's is the `method` of all members' with `weights`. Normalised is `(x - center) / scale`, of targets with `log`
their logarithm, by the row of the series in "normalizer", which lists the columns at "scaled" in that order.

Every file is run by ONNX Runtime before it is handed out: one that is not the network to 1e-5 is refused.
"""

import importlib
import json
import math
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from lstm.config.model import ModelConfig
from lstm.data.layout import Layout
from lstm.errors import ConfigError
from lstm.forecasting import serialization
from lstm.forecasting.forecaster import Forecaster
from lstm.networks import outputs
from lstm.networks.network import ForecastNetwork

TOLERANCE = 1e-5  # of a difference to torch, relative where a number is over 1
_OPSET = 17  # the first with layer normalisation
_BATCHES = (1, 7)  # to compare at; neither is the size that was traced
_TRACED = 3
_SHOWN = 200  # characters of an error


@dataclass(frozen=True)
class ExportedNetwork:
    """A network's file, and how far it is from torch."""

    file: str
    difference: float  # the largest, as `TOLERANCE` counts it


def export_onnx(forecaster: Forecaster, folder: str | Path) -> tuple[ExportedNetwork, ...]:
    """Write one ONNX file a member, and `forecaster.json`, into a new folder: all of them or nothing.

    Raises:
        ConfigError: onnx or onnxruntime is not installed, the folder is there already or can't be written, or a
            network has no ONNX form that is exact.
    """
    folder = Path(folder)
    for name in ("onnx", "onnxruntime"):
        _package(name)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"--out {folder}: is there already. Name another folder, or remove it.")
        near = next(parent for parent in folder.absolute().parents if parent.is_dir())
        with TemporaryDirectory(prefix=".onnx-", dir=near) as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            made = tuple(_exported(member, number, whole) for number, member in enumerate(forecaster.members))
            text = json.dumps(_description(forecaster, made), indent=1, allow_nan=False)
            (whole / "forecaster.json").write_text(text, encoding="utf-8")
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(whole, folder)
    except OSError as error:
        raise ConfigError(f"--out {folder}: can't be written ({error.strerror or error}).") from None
    return made


def _description(forecaster: Forecaster, made: tuple[ExportedNetwork, ...]) -> dict[str, Any]:
    layout = Layout.of(forecaster.spec, forecaster.categories)
    members = [
        {
            "file": one.file,
            "sequence_length": member.config.sequence_length,
            "inputs": list(_inputs(member, 1)),
            "point": outputs.point_index(member.config),
            "difference": one.difference,
        }
        for one, member in zip(made, forecaster.members, strict=True)
    ]
    how = {
        "horizon": forecaster.horizon,
        "columns": list(layout.columns),
        "n_known": layout.n_known,
        "scaled": list(layout.scaled),
        "opset": _OPSET,
        "members": members,
    }
    return {**serialization.describe(forecaster), "onnx": how}


def _exported(network: ForecastNetwork, number: int, folder: Path) -> ExportedNetwork:
    """Write a network's file, and run it beside the network."""
    who = f"network {number} ({_told(network.config)})"
    path = folder / f"member-{number}.onnx"
    network = network.eval()
    try:
        _write(network, path)
        difference = max(_difference(network, path, size) for size in _BATCHES)
    except OSError:
        raise
    except Exception as error:  # exporter and runtime have dozens of their own
        said = " ".join(str(error).split())[:_SHOWN]
        raise ConfigError(f"{who} can't be exported: it has no ONNX form ({said}). Leave that option out.") from None
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"{who} can't be exported: its ONNX form must be within {TOLERANCE:g} of torch, but is {difference:.2g} "
            "away. Use it by torch."
        )
    return ExportedNetwork(path.name, difference)


def _write(network: ForecastNetwork, path: Path) -> None:
    """By tracing: torch.export takes a minute for a recursive head of 48 steps, and makes nothing faster of it."""
    given = _inputs(network, _TRACED)
    axes = {name: {0: "batch"} for name in (*given, "out")}
    with _quiet_and_plain():
        torch.onnx.export(
            _Named(network, tuple(given)).eval(),  # the exporter puts it, and the network, back into this mode
            tuple(given.values()),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(given),
            output_names=["out"],
            dynamic_axes=axes,
        )


class _Named(nn.Module):
    """A network with the inputs that it uses, in the order of their names."""

    def __init__(self, network: ForecastNetwork, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *given: Tensor) -> Tensor:
        named = dict(zip(self.names, given, strict=True))
        past = named["past"]
        nothing = past.new_zeros(past.shape[0], self.network.config.horizon, 0)
        out: Tensor = self.network(past, named.get("known", nothing), named.get("series"))
        return out


@contextmanager
def _quiet_and_plain() -> Iterator[None]:
    """No warnings of the exporter (it is checked, not trusted), and attention step by step: ONNX has no fused form."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def _inputs(network: ForecastNetwork, batch: int) -> dict[str, Tensor]:
    """Like real ones: random walks of the size that normalised columns have, and known and unknown series."""
    config, generator = network.config, torch.Generator().manual_seed(batch)
    steps, width = config.sequence_length + config.horizon, config.input_size or 0
    walk = torch.randn(batch, steps, width, generator=generator).cumsum(dim=1) / math.sqrt(steps / 2)
    given = {"past": walk[:, : config.sequence_length].contiguous()}
    if network.n_known:
        given["known"] = walk[:, config.sequence_length :, width - network.n_known :].contiguous()
    if config.series_embedding:
        given["series"] = torch.arange(batch) % (network.n_series + 1)
    return given


def _difference(network: ForecastNetwork, path: Path, batch: int) -> float:
    """The largest between torch and ONNX Runtime; infinite where one of them is no number."""
    given, runtime = _inputs(network, batch), _package("onnxruntime")
    with torch.inference_mode():
        ours = _Named(network, tuple(given))(*given.values()).double()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what it can't do it raises
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    theirs = torch.from_numpy(session.run(["out"], {name: one.numpy() for name, one in given.items()})[0]).double()
    if theirs.shape != ours.shape:
        raise ValueError(f"it puts out {tuple(theirs.shape)} in place of {tuple(ours.shape)}")
    return float(((theirs - ours).abs() / ours.abs().clamp_min(1)).nan_to_num(nan=math.inf).max())


def _told(config: ModelConfig) -> str:
    """What of a network's configuration decides on its operations."""
    told = f"cell {config.cell}, head {config.head}, anchor {config.anchor}, loss {config.trained_loss}"
    options = ("lags", "channel_independent", "series_embedding", "residual", "layer_norm", "batch_norm")
    return ", ".join([told, *(name for name in options if getattr(config, name))])


def _package(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"an export needs the package {name!r}, which is not installed. Run: pip install onnx onnxruntime"
        ) from None
