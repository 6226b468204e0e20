"""One search per GPU: a global concurrency limit of the Prefect server for each GPU of each machine."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

_LEASE_S = 60.0  # the shortest that the server accepts; the GPU of a dead process is free after it


def gpu_limit_name(device: str) -> str:
    """Return the name of a GPU's limit: `lstm-HOST-cuda-0` for `cuda:0` of this machine."""
    name, _, number = device.partition(":")
    return f"lstm-{socket.gethostname()}-{name}-{number or 0}"


@contextmanager
def gpu_limits(devices: Sequence[str]) -> Iterator[None]:
    """Hold the limits of the GPUs among these devices; wait while other runs hold them.

    Prefect ignores a limit that does not exist, and logs that. `lstm up` creates one for each GPU of its machine; for
    other machines: `prefect gcl create NAME --limit 1`.
    """
    names = sorted({gpu_limit_name(device) for device in devices if device.startswith("cuda")})
    if not names:
        yield
        return
    with concurrency(names, lease_duration=_LEASE_S):
        yield
