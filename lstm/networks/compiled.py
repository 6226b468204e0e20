"""One LSTM layer as a compiled kernel for the CPU; where there is none, `nn.LSTM` as it stands.

    out, (h, c) = run_layer(layer, x, memory)       # as layer(x, memory), x (B, T, inputs)

`lstm_sequence.cpp` is a plain C library without torch's headers, so that the compiler is done after some seconds. It
is built at the first use, or by `build()` ahead of it, and kept in torch's folder for extensions
(`TORCH_EXTENSIONS_DIR`, else `~/.cache/torch_extensions`), under a name that holds the source, torch's version, the
flags and the processor. Without a compiler this is logged once, and `nn.LSTM` runs. `CXX` names the compiler.
`LSTM_COMPILED=0` turns the kernel off. `LSTM_COMPILED=1` turns it on where it has not been measured to be faster, too:
on processors without AVX2, where it is right, and nobody knows more.
"""

import ctypes
import hashlib
import logging
import os
import platform
import shlex
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

_SOURCE = Path(__file__).with_name("lstm_sequence.cpp")
_FLAGS = ("-std=c++17", "-O3", "-fno-strict-aliasing", "-fno-math-errno", "-fno-trapping-math", "-fPIC", "-shared")
_TUNED = (("-march=native", "-fopenmp"), ("-fopenmp",), ("-march=native",), ())  # the first that compiles
_LONGEST = 120  # seconds for a build, or to wait for another process's
_WIDEST = 256  # hidden units: beyond, the weights outgrow the second cache, and nn.LSTM is as fast
_log = logging.getLogger(__name__)
_lock = threading.Lock()
State = tuple[Tensor, Tensor]


class _Call(ctypes.Structure):
    """As in lstm_sequence.cpp."""

    _fields_ = (
        *((name, ctypes.c_long) for name in ("batch", "steps", "inputs", "size", "threads")),
        ("x", ctypes.c_void_p),
        ("x_row", ctypes.c_long),
        ("x_step", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("w_input", "w_hidden", "b_input", "b_hidden", "h0", "c0")),
        *((name, ctypes.c_void_p) for name in ("out", "h_end", "c_end", "saved")),
        ("d_out", ctypes.c_void_p),
        ("d_out_row", ctypes.c_long),
        ("d_out_step", ctypes.c_long),
        *((name, ctypes.c_void_p) for name in ("d_h_end", "d_c_end", "d_x", "d_h0", "d_c0")),
        *((name, ctypes.c_void_p) for name in ("d_w_input", "d_w_hidden", "d_b")),
    )


class _Library:
    """The shared library: its four functions, and what memory they want."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        self.forward = {torch.float32: library.lstm_forward_float, torch.float64: library.lstm_forward_double}
        self.backward = {torch.float32: library.lstm_backward_float, torch.float64: library.lstm_backward_double}
        for function in (*self.forward.values(), *self.backward.values()):
            function.restype = None
        self.vector_bytes, self.threaded = library.lstm_vector_bytes(), bool(library.lstm_threaded())

    def kept(self, x: Tensor, size: int) -> Tensor:
        """Empty memory for what the way back needs of (B, T, inputs): five numbers for each unit and step."""
        lanes = self.vector_bytes // x.element_size()
        return x.new_empty(x.shape[0] * x.shape[1] * -(-size // lanes) * lanes * 5)


class _Sequence(Function):
    """The layer as torch's autograd sees it: (B, T, inputs) and the states (B, hidden) or None."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        out, h, c, kept = _forward(given, keep=True)
        ctx.save_for_backward(*given, out, kept)
        return out, h, c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
        *given, out, kept = ctx.saved_tensors
        return _backward(given, out, kept, gradients, ctx.needs_input_grad)


def run_layer(layer: nn.Module, x: Tensor, memory: State | None) -> tuple[Tensor, State]:
    """What `layer(x, memory)` gives: (B, T, inputs) and None or h, c (1, B, hidden) -> (B, T, hidden) and h, c.

    The kernel runs it if it can: an LSTM of one layer and one direction, on the CPU, in float32 or float64.
    """
    library = _library() if _fits(layer, x, memory) else None
    if library is None or torch.get_num_threads() > (_threads(len(x)) if library.threaded else 1):
        return layer(x, memory)
    flat: Any = layer._flat_weights  # (4 H, inputs), (4 H, H) and two of (4 H,), as the layer itself takes them
    given = (x, *flat, *((None, None) if memory is None else (memory[0][0], memory[1][0])))
    if torch.is_grad_enabled() and any(one is not None and one.requires_grad for one in given):
        apply: Any = _Sequence.apply
        out, h, c = apply(*given)
    else:
        out, h, c, _ = _forward(given, keep=False)
    return out, (h[None], c[None])


def available() -> bool:
    """Whether the kernel is there and will be used; builds nothing."""
    try:
        return _wanted() and (_loaded(_path()) is not None)
    except (ValueError, RuntimeError):  # what the environment says of compiler and cache can't be read
        return False


def build() -> bool:
    """Build the kernel unless that has been done; whether it is there now. Some seconds; logs why not."""
    return _wanted() and _library() is not None


def _wanted() -> bool:
    switch = os.environ.get("LSTM_COMPILED")
    return switch != "0" if switch else "avx2" in _processor()


def _fits(layer: nn.Module, x: Tensor, memory: State | None) -> bool:
    if type(layer) is not nn.LSTM or torch.onnx.is_in_onnx_export() or not _wanted():
        return False
    simple = layer.num_layers == 1 and layer.batch_first and layer.bias
    simple = simple and not (layer.bidirectional or layer.proj_size or layer._forward_hooks or layer._forward_pre_hooks)
    tensors = (x, *layer._flat_weights, *(memory or ()))
    kinds = all(t.device.type == "cpu" and t.dtype == x.dtype and t.layout == torch.strided for t in tensors)
    shaped = x.dim() == 3 and x.shape[2] == layer.input_size and 0 not in x.shape
    shaped = shaped and all(state.shape == (1, x.shape[0], layer.hidden_size) for state in memory or ())
    plain = x.dtype in (torch.float32, torch.float64) and type(x) in (Tensor, nn.Parameter)
    return (
        simple and kinds and shaped and plain and layer.hidden_size <= _WIDEST and not torch.is_autocast_enabled("cpu")
    )


def _threads(batch: int) -> int:
    """So many find work, half of them at the least: the kernel splits nothing but the batch."""
    return min(16, max(2, batch // 8))


def _forward(given: Sequence[Any], keep: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    library, size = _ready(), given[2].shape[1]
    x, *others = _dense(given[0]), *map(_solid, given[1:])
    out = x.new_empty(x.shape[1], x.shape[0], size).transpose(0, 1)  # as nn.LSTM's: dropout draws in memory's order
    h, c = (x.new_empty(x.shape[0], size) for _ in range(2))
    kept = library.kept(x, size) if keep else None
    call = _call(x, others, size, out, kept)
    call.h_end, call.c_end = h.data_ptr(), c.data_ptr()
    library.forward[x.dtype](ctypes.byref(call))
    return out, h, c, kept


def _backward(
    given: Sequence[Any], out: Tensor, kept: Tensor, gradients: Sequence[Tensor | None], needs: Sequence[bool]
) -> tuple[Tensor | None, ...]:
    library, size = _ready(), out.shape[2]
    x, *others = _dense(given[0]), *map(_solid, given[1:])
    d_out, d_h, d_c = None if gradients[0] is None else _dense(gradients[0]), *map(_solid, gradients[1:])
    call = _call(x, others, size, out, kept)
    if d_out is not None:
        call.d_out, call.d_out_row, call.d_out_step = d_out.data_ptr(), *d_out.stride()[:2]
    wanted = (needs[0], *[any(needs[1:5])] * 3, *needs[5:])
    into = [
        x.new_empty(one.shape) if want else None for one, want in zip((x, *given[1:4], *given[5:]), wanted, strict=True)
    ]
    d_x, d_w_input, d_w_hidden, d_b, d_h0, d_c0 = into
    call.d_h_end, call.d_c_end, call.d_x, call.d_h0, call.d_c0 = map(_pointer, (d_h, d_c, d_x, d_h0, d_c0))
    call.d_w_input, call.d_w_hidden, call.d_b = map(_pointer, (d_w_input, d_w_hidden, d_b))
    library.backward[x.dtype](ctypes.byref(call))
    found = (d_x, d_w_input, d_w_hidden, d_b, None if d_b is None else d_b.clone(), d_h0, d_c0)
    return tuple(one if need else None for one, need in zip(found, needs, strict=True))


def _call(x: Tensor, others: Sequence[Any], size: int, out: Tensor, kept: Tensor | None) -> _Call:
    pointers = map(_pointer, (*others, out))
    strides = (x.data_ptr(), *x.stride()[:2])
    threads = torch.get_num_threads()
    return _Call(*x.shape, size, threads, *strides, *pointers, None, None, _pointer(kept))


def _pointer(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.data_ptr()


def _dense(x: Tensor) -> Tensor:
    """As it is if the last dimension lies dense, else copied."""
    return x if x.stride(2) == 1 or x.shape[2] == 1 else x.contiguous()


def _solid(tensor: Any) -> Any:
    return None if tensor is None else tensor.contiguous()


@cache
def _library() -> _Library | None:
    with _lock:
        try:
            path = _path()
            return _loaded(path) or _built(path)
        except (OSError, ValueError, RuntimeError, subprocess.SubprocessError) as error:
            _log.info("No compiled LSTM kernel, nn.LSTM runs in its place: %s", error)
            return None


def _ready() -> _Library:
    library = _library()
    assert library is not None  # nobody comes here without
    return library


def _loaded(path: Path) -> _Library | None:
    """None where it is not there or damaged, which is seen before it is opened: that could end the process."""
    try:
        whole = _sum_file(path).read_text() == hashlib.sha256(path.read_bytes()).hexdigest()
        return _Library(path) if whole else None
    except (OSError, AttributeError, ValueError):  # the next build replaces it
        return None


def _sum_file(path: Path) -> Path:
    return path.with_suffix(".sha256")


def _built(path: Path) -> _Library:
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock"), timeout=_LONGEST):
        library = _loaded(path)  # by another process, while this one waited
        if library is None:
            _compile(path)
            library = _Library(path)
    return library


def _compile(path: Path) -> None:
    """Where the last one was at work until now: nobody ever sees half a library, and a killed build leaves no lock."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        for tuned in _TUNED:
            command = [*_compiler(), *_FLAGS, *tuned, str(_SOURCE), *_openmp(tuned), "-o", str(made)]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_LONGEST)
            if done.returncode == 0:
                _sum_file(made).write_text(hashlib.sha256(made.read_bytes()).hexdigest())
                os.replace(_sum_file(made), _sum_file(path))
                os.replace(made, path)
                return
    raise OSError(f"{_compiler()[0]} fails: {done.stderr.strip()[-500:]}")


def _compiler() -> list[str]:
    return shlex.split(os.environ.get("CXX") or "c++")


def _openmp(tuned: tuple[str, ...]) -> list[str]:
    """Torch's own OpenMP, so that there is no second one with threads of its own."""
    bundled = Path(torch.__file__).with_name("lib").glob("libgomp*.so*")
    return [str(path) for path in bundled] if "-fopenmp" in tuned else []


@cache
def _path() -> Path:
    parts = (torch.__version__, platform.machine(), _processor(), *_FLAGS, *map(str, _TUNED), *_compiler())
    named = hashlib.sha256("\n".join((_SOURCE.read_text(encoding="utf-8"), *parts)).encode()).hexdigest()[:16]
    root = os.environ.get("TORCH_EXTENSIONS_DIR") or Path(
        os.environ.get("XDG_CACHE_HOME") or "~/.cache", "torch_extensions"
    )
    return Path(root).expanduser() / "lstm_sequence" / f"{named}.so"


@cache
def _processor() -> str:
    """What `-march=native` looks at: a folder that machines share may hold a library for each."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("\n\n")[0].splitlines()
    except OSError:
        return platform.processor()
    return "".join(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part")))
