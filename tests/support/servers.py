"""Servers that the tests of this folder start, and how they are asked."""

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

from flows.services.processes import answers, end_trees, start


@contextmanager
def running(command: list[str], url: str, log: Path, environment: Mapping[str, str], folder: Path) -> Iterator[None]:
    """A server that answers at `url`, ended with all its children."""
    process = start(command, log, environment, folder=folder)
    try:
        deadline = time.monotonic() + 180
        while not answers(url):
            assert process.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.3)
        yield
    finally:
        end_trees([process], patience=5)


def with_scripts(environment: dict[str, str]) -> dict[str, str]:
    """mlflow and prefect start uvicorn by name: what activating the virtual environment does."""
    return {**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}


def asked(url: str, body: Any = None, kind: str = "application/json", account: str = "") -> tuple[int, Any]:
    """Status and content of an answer. `body` makes it a POST; `account` is NAME:PASSWORD."""
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    headers = {"Content-Type": kind}
    if account:
        headers["Authorization"] = f"Basic {base64.b64encode(account.encode()).decode()}"
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.status, _content(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _content(error.read())


def _content(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode(errors="replace")
