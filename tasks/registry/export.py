"""Export a registered model to ONNX."""

from pathlib import Path

from lstm.forecasting.onnx_export import ExportedNetwork, export_onnx
from tasks.registry.models import load_forecaster


def export(model: str, out: Path) -> tuple[str, tuple[ExportedNetwork, ...]]:
    """Write the networks of `model` as ONNX files, with what is needed to use them.

    Args:
        model: `NAME`, `NAME@alias`, `NAME/version`, or a folder.
        out: folder to create.

    Returns:
        `NAME/3` (or the folder), and the exported networks.

    Raises:
        InputError: there is no such model, the folder can't be created, a package is missing, or a network has no
            exact ONNX form.
    """
    forecaster, version = load_forecaster(model)
    return version, export_onnx(forecaster, out)
