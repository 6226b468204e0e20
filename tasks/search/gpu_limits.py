"""One search a GPU: a global concurrency limit of the Prefect server for each device of each machine."""

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from prefect.concurrency.sync import concurrency

_LEASE_S = 60.0  # seconds: the least that the server takes, after which a dead holder's GPU is free again


def gpu_limit_name(device: str) -> str:
    """The name of a GPU's limit: `lstm-HOST-cuda-0` for `cuda:0` of this machine."""
    kind, _, number = device.partition(":")
    return f"lstm-{socket.gethostname()}-{kind}-{number or 0}"


@contextmanager
def gpu_limits(devices: Sequence[str]) -> Iterator[None]:
    """Hold the limits of the GPUs among these devices; wait for as long as another run of any machine holds one.

    A limit that the server does not have is not waited for: Prefect's log says so in one line. `lstm up` makes one for
    each GPU that it sees; elsewhere `prefect gcl create NAME --limit 1` does.
    """
    names = sorted({gpu_limit_name(device) for device in devices if device.startswith("cuda")})
    if not names:
        yield
        return
    with concurrency(names, lease_duration=_LEASE_S):
        yield
