"""Start servers and send them requests."""

import base64
import json
import os
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows.services.processes import answers, start, stop_trees


@contextmanager
def run_server(command: list[str], url: str, log: Path, environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """Run a server that answers at `url`, and end it with all its children."""
    process = start(command, log, environment, folder=folder)
    try:
        deadline = time.monotonic() + 180
        while not answers(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield
    finally:
        stop_trees([process], timeout=5)


def add_scripts_to_path(environment: dict[str, str]) -> dict[str, str]:
    """Return `environment` with this interpreter's scripts on PATH: mlflow and prefect start uvicorn by name."""
    return {**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def request(url: str, body: Any = None, kind: str = "application/json", account: str = "") -> tuple[int, Any]:
    """Return status and content of the response. A `body` makes the request a POST; `account` is NAME:PASSWORD."""
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    headers = {"Content-Type": kind}
    if account:
        headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as response:
            return response.status, _content(response.read())
    except urllib.error.HTTPError as error:
        return error.code, _content(error.read())


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
