"""A Prefect server for the length of one command, where none is configured.

It is started before the heavy imports, so that both happen at the same time.
"""

import base64
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from flows.services.processes import end, start
from lstm.errors import ConfigError
from tasks.runtime.instance_lock import running
from tasks.runtime.network import free_port
from tasks.settings import folder, home, prefect_api_url

_PATIENCE = 120  # seconds; a new database takes twenty


@contextmanager
def prefect_server() -> Iterator[None]:
    """Start a server on a free port of the loopback and point this process at it; end it on the way out.

    Nothing is started where `PREFECT_API_URL` or the active profile names a server, or where `lstm up` runs one on the
    same stores. The server may still be coming up when the block is entered: call `wait_until_ready` before the first
    flow.
    """
    if prefect_api_url():
        wait_until_ready(patience=10)
        yield
        return
    if url := running().get("prefect"):  # by `lstm up`: two servers on one SQLite database get in each other's way
        with _pointed_at(url):
            wait_until_ready(patience=30)
            yield
        return
    port = free_port()
    with _pointed_at(f"http://127.0.0.1:{port}"):
        environment = {**database(), "PREFECT_SERVER_API_HOST": "127.0.0.1", **os.environ}
        command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        server = start(command, folder("logs") / "prefect-server.log", environment)
        try:
            yield
        finally:
            end(server, patience=3)


def database() -> dict[str, str]:
    """The setting of the database of the Prefect servers that this project starts."""
    return {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home() / 'prefect.db'}"}


@contextmanager
def _pointed_at(address: str) -> Iterator[None]:
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if password and "PREFECT_API_AUTH_STRING" not in os.environ:
        os.environ["PREFECT_API_AUTH_STRING"] = password
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]


def wait_until_ready(patience: float = _PATIENCE) -> None:
    """Return when the server that this process points at answers.

    Raises:
        ConfigError: it does not answer in time, or refuses the login.
    """
    url = f"{prefect_api_url()}/health"
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return _check_login()
        except urllib.error.HTTPError:
            return  # it answers; what it thinks of the request is prefect's to say
        except OSError:
            time.sleep(0.1)
    raise ConfigError(
        f"the Prefect server at {url} does not answer. Start it, or unset PREFECT_API_URL; what `lstm train` starts by "
        f"itself writes to {folder('logs') / 'prefect-server.log'}."
    )


def _check_login() -> None:
    """Health is told to everybody: another address says whether this process may do anything."""
    password = os.environ.get("PREFECT_API_AUTH_STRING", "")
    login = {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"} if password else {}
    request = urllib.request.Request(f"{prefect_api_url()}/admin/version", headers=login)
    try:
        urllib.request.urlopen(request, timeout=5).close()
    except urllib.error.HTTPError as error:
        if error.code == 401:
            raise ConfigError(
                f"the Prefect server at {prefect_api_url()} refuses the login (401). Set PREFECT_API_AUTH_STRING to "
                "what the server has as PREFECT_SERVER_API_AUTH_STRING."
            ) from None
    except OSError:
        pass  # it has just answered; the first flow will tell
