"""What this machine has (versions, devices, stores), and what dead processes left on it."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lstm.errors import ConfigError, StoreError
from tasks.runtime.instance_lock import running
from tasks.settings import home, prefect_api_url, tracking_uri, without_password

_NO_PREFECT = "none configured: `lstm train` starts one for itself"
_PACKAGES = ("lstm", "torch", "prefect", "mlflow", "optuna", "pandas", "numpy", "pyarrow")


def report() -> dict[str, Any]:
    """JSON-ready findings, without a side effect but that the home folder is there.

    `problems` are lines about what dead processes left, which `repair` puts right; `interrupted` are searches that the
    same `lstm train` goes on with; `unreachable` says what does not answer, and then there may be more problems.
    """
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
            "prefect": prefect_api_url() or running().get("prefect") or _NO_PREFECT,
            "size_mb": round(_size(home()) / 1e6, 1),
        },
        **_health(),
    }


def _health() -> dict[str, Any]:
    from tasks.operations.reconcile import problems

    found: dict[str, Any] = {"problems": [], "interrupted": list(_interrupted()), "unreachable": ""}
    try:
        found["problems"] = [problem.line for problem in problems()]
    except (ConfigError, StoreError) as error:
        found["unreachable"] = str(error)
    return found


def _interrupted() -> Iterator[str]:
    """Searches with trials that nobody is at any more; those whose studies are in a database are not looked at."""
    journals = sorted((home() / "studies").glob("*/*/study.journal"))
    if not journals:
        return
    from tasks.search.leases import is_left
    from tasks.search.storage import database
    from tasks.search.study import load_study

    for journal in [] if database() else journals:
        name = f"{journal.parent.parent.name}/{journal.parent.name}"
        study = load_study(name, journal.parent)
        states = [] if study is None else study.get_trials(deepcopy=False)
        left = [trial.number for trial in states if trial.state.name == "RUNNING" and is_left(trial, None)]
        if left:
            yield f"search {name}: {len(left)} trials were cut off, and go on with the next `lstm train` of it"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
