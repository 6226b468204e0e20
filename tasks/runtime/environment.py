"""The environment that the exact bits of a result depend on: processor, torch, threads, code."""

import functools
import hashlib
import platform
import subprocess
from pathlib import Path

import torch

_ROOT = Path(__file__).resolve().parents[2]
_LIBRARY = _ROOT / "lstm"


def environment() -> dict[str, str]:
    """Return name and value of each part; all processes of one machine and installation return the same.

    `threads` is the number that forecasts are scored with. On the CPU, networks are trained with one thread each.
    """
    gpu = {"gpu": torch.cuda.get_device_name(0)} if torch.cuda.is_available() else {}
    return {
        "cpu": f"{_processor()} ({torch.backends.cpu.get_cpu_capability()})",
        **gpu,
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
        "code_sha256": code_sha256(),
    }


@functools.cache
def code_sha256() -> str:
    """Return the sha256 over names and content of the library's source files."""
    digest = hashlib.sha256()
    for path in sorted(_LIBRARY.rglob("*.py")):
        digest.update(f"{path.relative_to(_LIBRARY)}\n".encode() + path.read_bytes())
    return digest.hexdigest()


@functools.cache
def git_commit() -> str:
    """Return the commit of this repository; empty outside of one."""
    command = ["git", "-C", str(_ROOT), "rev-parse", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


@functools.cache
def lock_sha256() -> str:
    """Return the sha256 of `requirements.lock`; empty if it is missing."""
    lock = _ROOT / "requirements.lock"
    return hashlib.sha256(lock.read_bytes()).hexdigest() if lock.exists() else ""


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
