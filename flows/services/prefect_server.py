"""Start a Prefect server for one command, if none is configured."""

import base64
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from flows.services.processes import start, stop
from lstm.errors import ConfigError
from tasks.runtime.instance_lock import running_instance
from tasks.runtime.network import free_port
from tasks.settings import home, prefect_api_url, store_folder

_TIMEOUT_S = 120  # a new database takes twenty seconds


@contextmanager
def prefect_server() -> Iterator[None]:
    """Start a server on a free loopback port, make this process its client, and stop it at the end of the block.

    No server is started if `PREFECT_API_URL` or the active profile names one, or if `lstm up` runs one on the same
    stores. The server may still be starting when the block is entered: call `wait_until_ready` before the first flow.
    """
    if prefect_api_url():
        wait_until_ready(timeout=10)
        yield
        return
    if url := running_instance().get("prefect"):  # of `lstm up`: two servers must not share one SQLite database
        with _client_settings(url):
            wait_until_ready(timeout=30)
            yield
        return
    port = free_port()
    with _client_settings(f"http://127.0.0.1:{port}"):
        environment = {**database_settings(), "PREFECT_SERVER_API_HOST": "127.0.0.1", **os.environ}
        command = [sys.executable, "-P", "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
        command += ["--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
        server = start(command, store_folder("logs") / "prefect-server.log", environment)
        try:
            yield
        finally:
            stop(server, timeout=3)


def database_settings() -> dict[str, str]:
    """Return the setting that names the database of Prefect servers started by this project."""
    return {"PREFECT_API_DATABASE_CONNECTION_URL": f"sqlite+aiosqlite:///{home() / 'prefect.db'}"}


@contextmanager
def _client_settings(address: str) -> Iterator[None]:
    os.environ["PREFECT_API_URL"] = f"{address}/api"
    password = os.environ.get("PREFECT_SERVER_API_AUTH_STRING")
    if password and "PREFECT_API_AUTH_STRING" not in os.environ:
        os.environ["PREFECT_API_AUTH_STRING"] = password
    try:
        yield
    finally:
        del os.environ["PREFECT_API_URL"]


def wait_until_ready(timeout: float = _TIMEOUT_S) -> None:
    """Wait until the configured Prefect server answers.

    Raises:
        ConfigError: the server does not answer within `timeout` seconds, or refuses the login.
    """
    url = f"{prefect_api_url()}/health"
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(url, timeout=5).close()
            return _check_login()
        except urllib.error.HTTPError:
            return  # it answers: the first flow reports what is wrong
        except OSError:
            time.sleep(0.1)
    raise ConfigError(
        f"the Prefect server at {url} does not answer. Start it, or unset PREFECT_API_URL. A server that `lstm train` "
        f"has started writes to {store_folder('logs') / 'prefect-server.log'}."
    )


def _check_login() -> None:
    """Raise ConfigError if the server refuses the login: its health endpoint needs none."""
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
        pass  # the first flow reports it
