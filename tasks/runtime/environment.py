"""What the bits of a result depend on, beside data, configuration and seeds: processor, torch, code."""

import functools
import hashlib
import platform
from pathlib import Path

import torch

_LIBRARY = Path(__file__).resolve().parents[2] / "lstm"


def environment() -> dict[str, str]:
    """Name and value of each part, the same in every process of one machine and installation.

    `threads` are those that forecasts are scored with; on the CPU a network is trained with one, whatever they are.
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
    """Of the library: another version may train otherwise."""
    digest = hashlib.sha256()
    for path in sorted(_LIBRARY.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()


@functools.cache
def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
