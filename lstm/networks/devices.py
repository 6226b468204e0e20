"""Devices and precisions: which one a network is trained on, and whether this machine has it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import torch
from torch import nn

from lstm.errors import ConfigError

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
_MIXED_PRECISION_PAYS = 32_768  # hidden_size x batch_size from which half precision is faster (benchmarks/gpu.py)
_CUBLAS_WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS reads it once; deterministic algorithms require it


def pick_device(name: str) -> torch.device:
    """Return the device of that name; `auto` takes CUDA, then MPS, then the CPU.

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        has_mps = torch.backends.mps.is_available()
        return torch.device("cuda" if torch.cuda.is_available() else "mps" if has_mps else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    except (RuntimeError, AssertionError):
        raise ConfigError(f"device={name!r} is not on this machine. Use auto, or cpu.") from None
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse a precision that the device can't train an LSTM in.

    Raises:
        ConfigError: `bf16` or `fp16` on a device that is not CUDA, or on a GPU without them.
    """
    if precision not in _DTYPES:
        return
    if device.type != "cuda":
        raise ConfigError(f"precision={precision!r} needs a CUDA device, but this is {device}. Use auto or fp32.")
    if not supports(_DTYPES[precision], device):
        raise ConfigError(f"precision={precision!r} needs a GPU that computes in it, but {device} can't. Use auto.")


def autocast_dtype(precision: str, device: torch.device, size: int) -> torch.dtype | None:
    """Return the dtype that autocast computes in; None: float32 throughout, the only precision of CPU and MPS.

    On CUDA `auto` takes bf16, or else fp16, if `size` (hidden_size x batch_size) is large enough to gain from it.

    Raises:
        ConfigError: see `check_precision`.
    """
    check_precision(precision, device)
    if precision != "auto":
        return _DTYPES.get(precision)
    if device.type != "cuda" or size < _MIXED_PRECISION_PAYS:
        return None
    return next((dtype for dtype in _DTYPES.values() if supports(dtype, device)), None)


@cache
def supports(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a small LSTM runs forward and backward under autocast to `dtype` on `device`: tried once a process."""
    with torch.random.fork_rng(devices=[]):
        lstm = nn.LSTM(8, 8)  # drawn on the CPU, so that the global generator stays as it was
    try:
        lstm = lstm.to(device)
        with torch.enable_grad(), torch.autocast(device.type, dtype):
            lstm(torch.zeros(2, 3, 8, device=device))[0].sum().backward()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return True


@contextmanager
def deterministic_algorithms(enabled: bool) -> Iterator[None]:
    """Use deterministic algorithms of torch and cuDNN within the block if `enabled`, and restore the flags after it."""
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    workspace = os.environ.get(_CUBLAS_WORKSPACE)
    if enabled:
        os.environ.setdefault(_CUBLAS_WORKSPACE, ":4096:8")
        torch.use_deterministic_algorithms(True, warn_only=False)
        torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=warn_only)
        torch.backends.cudnn.benchmark = before[1]
        if workspace is None:
            os.environ.pop(_CUBLAS_WORKSPACE, None)
