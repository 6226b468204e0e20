"""Report versions, devices, stores, and what dead processes left."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lstm.errors import ConfigError, StoreError
from tasks.operations.disk_cleanup import disk_size
from tasks.runtime.instance_lock import running_instance
from tasks.settings import home, prefect_api_url, tracking_uri, without_password

_NO_PREFECT = "none configured: `lstm train` starts one for itself"
_PACKAGES = ("lstm", "torch", "prefect", "mlflow", "optuna", "pandas", "numpy", "pyarrow")


def report() -> dict[str, Any]:
    """Return the JSON-ready report of `lstm doctor`. Creates the home folder, and changes nothing else.

    `problems` are descriptions of what `reconcile` repairs; `interrupted` are searches that the same `lstm train`
    continues; `unreachable` is the error of a store that does not answer, which may hide further problems.
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
        "packages": {name: _package_version(name) for name in _PACKAGES},
        "devices": devices,
        "stores": {
            "home": str(home()),
            "mlflow": without_password(tracking_uri()),
            "prefect": prefect_api_url() or running_instance().get("prefect") or _NO_PREFECT,
            "size_mb": round(disk_size(home()) / 1e6, 1),
        },
        **_health(),
    }


def _health() -> dict[str, Any]:
    from tasks.operations.reconcile import problems

    health: dict[str, Any] = {"problems": [], "interrupted": list(_interrupted()), "unreachable": ""}
    try:
        health["problems"] = [problem.line for problem in problems()]
    except (ConfigError, StoreError) as error:
        health["unreachable"] = str(error)
    return health


def _interrupted() -> Iterator[str]:
    """Yield a line for each search with orphaned trials. Studies in a database are not checked."""
    journals = sorted((home() / "studies").glob("*/*/study.journal"))
    if not journals:
        return
    from tasks.search.leases import is_orphaned
    from tasks.search.storage import database_url
    from tasks.search.study import load_study

    for journal in [] if database_url() else journals:
        name = f"{journal.parent.parent.name}/{journal.parent.name}"
        study = load_study(name, journal.parent)
        trials = [] if study is None else study.get_trials(deepcopy=False)
        orphaned = [trial for trial in trials if trial.state.name == "RUNNING" and is_orphaned(trial, None)]
        if orphaned:
            yield f"search {name}: {len(orphaned)} trials were interrupted; the next `lstm train` of it continues them"


def _package_version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
