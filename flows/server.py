"""A Prefect server for the length of one command, where none is configured.

It is started before the heavy imports, so that both happen at the same time.
"""

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from lstm.errors import ConfigError
from tasks.settings import folder, home, prefect_api_url

_PATIENCE = 120  # seconds; a new database takes twenty


@contextmanager
def prefect_server() -> Iterator[None]:
    """Start a server on a free port of the loopback and point this process at it; end it on the way out.

    Nothing is started where `PREFECT_API_URL` or the active profile names a server. The server may
    still be coming up when the block is entered: call `wait_until_ready` before the first flow.
    """
    if prefect_api_url():
        wait_until_ready(patience=10)
        yield
        return
    port = _free_port()
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    environment = {
        "PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home() / 'prefect.db'}",
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        **os.environ,
    }
    command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    with (folder("logs") / "prefect-server.log").open("ab") as log:
        server = subprocess.Popen(
            command, env=environment, stdout=log, stderr=log, start_new_session=True, preexec_fn=_end_with_parent
        )
    try:
        yield
    finally:
        server.terminate()
        try:
            server.wait(timeout=3)
        except subprocess.TimeoutExpired:
            server.kill()
        del os.environ["PREFECT_API_URL"]


def wait_until_ready(patience: float = _PATIENCE) -> None:
    """Return when the server that this process points at answers.

    Raises:
        ConfigError: it does not answer in time.
    """
    url = f"{prefect_api_url()}/health"
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except urllib.error.HTTPError:
            return  # it answers; what it thinks of the request is prefect's to say
        except OSError:
            time.sleep(0.1)
    raise ConfigError(
        f"the Prefect server at {url} does not answer. Start it, or unset PREFECT_API_URL; what `lstm train` starts by "
        f"itself writes to {folder('logs') / 'prefect-server.log'}."
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _end_with_parent() -> None:
    """On Linux the kernel ends the server when this process dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG
