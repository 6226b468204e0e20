"""What this machine has: versions, devices, stores."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tasks.settings import home, prefect_api_url, tracking_uri
from tasks.tracking import without_password

_PACKAGES = ("lstm", "torch", "prefect", "mlflow", "optuna", "pandas", "numpy", "pyarrow")


def report() -> dict[str, Any]:
    """JSON-ready findings, without a side effect but that the home folder is there."""
    import torch

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    devices = [f"cpu: {cores} cores"]
    devices += [f"cuda:{number}: {torch.cuda.get_device_name(number)}" for number in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps: Apple GPU")
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "devices": devices,
        "stores": {
            "home": str(home()),
            "mlflow": without_password(tracking_uri()),
            "prefect": prefect_api_url() or "none configured: `lstm train` starts one for itself",
            "size_mb": round(_size(home()) / 1e6, 1),
        },
    }


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
