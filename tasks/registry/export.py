"""A registered model → ONNX files in a folder."""

from pathlib import Path

from lstm.forecasting.onnx_export import Exported, export_onnx
from tasks.registry.models import load_forecaster


def export(model: str, out: Path) -> tuple[str, tuple[Exported, ...]]:
    """Write the networks of `model` as ONNX, and all that their user needs beside; say which version it was.

    Args:
        model: `NAME`, `NAME@alias`, `NAME/version`, or a folder.
        out: a folder that is not there yet.

    Raises:
        InputError: there is no such model, the folder can't be made, a package is missing, or a network has no exact
            ONNX form.
    """
    forecaster, version = load_forecaster(model)
    return version, export_onnx(forecaster, out)
