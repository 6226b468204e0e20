"""Export of a forecaster's networks to ONNX, for programs without torch and for lower latency.

    FOLDER/member-0.onnx …    one file per network
    FOLDER/forecaster.json    the content that `Forecaster.save` writes, and under "onnx" how to use the files

A network reads these inputs, batch first, of any batch size:

    past    (batch, sequence_length, columns) float32   values of "columns", normalised; a missing covariate is 0
    known   (batch, horizon, n_known) float32           the last n_known columns at the steps ahead; only if n_known > 0
    series  (batch,) int64                              position in "series" from 1, 0: unknown; only with an embedding

Its output `out`, (batch, horizon, targets, outputs) float32, is normalised; the point forecast is output number
`point`. The forecaster's forecast combines all members by `method` with `weights`. Values are normalised as
`(x - center) / scale`, targets with `log` after taking the logarithm, with the series' row of "normalizer"; "scaled"
lists the columns in its order.

ONNX Runtime runs every file before it is handed out. An export that differs from torch by more than 1e-5 is refused.
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

TOLERANCE = 1e-5  # largest difference from torch, relative for numbers over 1
_OPSET = 17  # the first with layer normalization
_BATCHES = (1, 7)  # sizes compared with torch; both differ from the traced one
_TRACED_BATCH = 3
_MAX_ERROR_CHARS = 200  # of an error quoted in a message


@dataclass(frozen=True)
class ExportedNetwork:
    """The ONNX file of one network."""

    file: str
    difference: float  # largest difference from torch, measured as `TOLERANCE` is


def export_onnx(forecaster: Forecaster, folder: str | Path) -> tuple[ExportedNetwork, ...]:
    """Write one ONNX file per member and `forecaster.json` into a new folder, all of them or nothing.

    Raises:
        ConfigError: onnx or onnxruntime is not installed, the folder exists or can't be written, or a network has no
            exact ONNX form.
    """
    folder = Path(folder)
    for name in ("onnx", "onnxruntime"):
        _import_package(name)
    try:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise ConfigError(f"--out {folder}: exists already. Name another folder, or remove it.")
        parent_folder = next(parent for parent in folder.absolute().parents if parent.is_dir())
        with TemporaryDirectory(prefix=".onnx-", dir=parent_folder) as scratch:
            whole = Path(scratch) / "whole"
            whole.mkdir()
            files = tuple(_export_network(member, number, whole) for number, member in enumerate(forecaster.members))
            text = json.dumps(_describe(forecaster, files), indent=1, allow_nan=False)
            (whole / "forecaster.json").write_text(text, encoding="utf-8")
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(whole, folder)
    except OSError as error:
        raise ConfigError(f"--out {folder}: can't be written ({error.strerror or error}).") from None
    return files


def _describe(forecaster: Forecaster, files: tuple[ExportedNetwork, ...]) -> dict[str, Any]:
    """Return the content of `forecaster.json`: that of `Forecaster.save`, and `onnx`."""
    layout = Layout.of(forecaster.spec, forecaster.categories)
    members = [
        {
            "file": file.file,
            "sequence_length": member.config.sequence_length,
            "inputs": list(_example_inputs(member, 1)),
            "point": outputs.point_index(member.config),
            "difference": file.difference,
        }
        for file, member in zip(files, forecaster.members, strict=True)
    ]
    usage = {
        "horizon": forecaster.horizon,
        "columns": list(layout.columns),
        "n_known": layout.n_known,
        "scaled": list(layout.scaled),
        "opset": _OPSET,
        "members": members,
    }
    return {**serialization.describe(forecaster), "onnx": usage}


def _export_network(network: ForecastNetwork, number: int, folder: Path) -> ExportedNetwork:
    """Write the file of a network and compare its output with torch."""
    label = f"network {number} ({_describe_config(network.config)})"
    path = folder / f"member-{number}.onnx"
    network = network.eval()
    try:
        _write(network, path)
        difference = max(_max_difference(network, path, size) for size in _BATCHES)
    except OSError:
        raise
    except Exception as error:  # exporter and runtime raise dozens of types
        cause = " ".join(str(error).split())[:_MAX_ERROR_CHARS]
        raise ConfigError(f"{label} can't be exported: it has no ONNX form ({cause}). Leave that option out.") from None
    if not difference <= TOLERANCE:
        raise ConfigError(
            f"{label} can't be exported: its ONNX form must be within {TOLERANCE:g} of torch, but is {difference:.2g} "
            "away. Use it with torch."
        )
    return ExportedNetwork(path.name, difference)


def _write(network: ForecastNetwork, path: Path) -> None:
    """Write the ONNX file by tracing: torch.export needs a minute for a recursive head of 48 steps, without gain."""
    inputs = _example_inputs(network, _TRACED_BATCH)
    axes = {name: {0: "batch"} for name in (*inputs, "out")}
    with _export_mode():
        torch.onnx.export(
            _NamedInputs(network, tuple(inputs)).eval(),  # the exporter restores this mode
            tuple(inputs.values()),
            str(path),
            dynamo=False,
            opset_version=_OPSET,
            input_names=list(inputs),
            output_names=["out"],
            dynamic_axes=axes,
        )


class _NamedInputs(nn.Module):
    """A network that takes exactly the inputs it uses, by position, in the order of `names`."""

    def __init__(self, network: ForecastNetwork, names: tuple[str, ...]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Tensor) -> Tensor:
        named = dict(zip(self.names, inputs, strict=True))
        past = named["past"]
        empty = past.new_zeros(past.shape[0], self.network.config.horizon, 0)
        out: Tensor = self.network(past, named.get("known", empty), named.get("series"))
        return out


@contextmanager
def _export_mode() -> Iterator[None]:
    """Silence the exporter's warnings (its result is checked) and unfuse attention (ONNX has no fused operator)."""
    enabled = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(enabled)


def _example_inputs(network: ForecastNetwork, batch: int) -> dict[str, Tensor]:
    """Return realistic inputs by name: random walks on the normalised scale, known and unknown series."""
    config, generator = network.config, torch.Generator().manual_seed(batch)
    steps, width = config.sequence_length + config.horizon, config.input_size or 0
    walk = torch.randn(batch, steps, width, generator=generator).cumsum(dim=1) / math.sqrt(steps / 2)
    inputs = {"past": walk[:, : config.sequence_length].contiguous()}
    if network.n_known:
        inputs["known"] = walk[:, config.sequence_length :, width - network.n_known :].contiguous()
    if config.series_embedding:
        inputs["series"] = torch.arange(batch) % (network.n_series + 1)
    return inputs


def _max_difference(network: ForecastNetwork, path: Path, batch: int) -> float:
    """Return the largest difference between torch and ONNX Runtime, as `TOLERANCE`; infinite if one of them is NaN."""
    inputs, runtime = _example_inputs(network, batch), _import_package("onnxruntime")
    with torch.inference_mode():
        expected = _NamedInputs(network, tuple(inputs))(*inputs.values()).double()
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised anyway
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    actual = torch.from_numpy(session.run(["out"], arrays)[0]).double()
    if actual.shape != expected.shape:
        raise ValueError(f"its output has shape {tuple(actual.shape)}, not {tuple(expected.shape)}")
    return float(((actual - expected).abs() / expected.abs().clamp_min(1)).nan_to_num(nan=math.inf).max())


def _describe_config(config: ModelConfig) -> str:
    """Return the options of a network that decide which operations it uses."""
    main = f"cell {config.cell}, head {config.head}, anchor {config.anchor}, loss {config.trained_loss}"
    options = ("lags", "channel_independent", "series_embedding", "residual", "layer_norm", "batch_norm")
    return ", ".join([main, *(name for name in options if getattr(config, name))])


def _import_package(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError:
        raise ConfigError(
            f"an export needs the package {name!r}, which is not installed. Run: pip install onnx onnxruntime"
        ) from None
