"""A registered model behind HTTP: MLflow's own scoring server, from one command."""

import json
import os
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from uvicorn.supervisors import Multiprocess

from lstm.errors import CheckpointError, ConfigError
from tasks.registry.models import fetched, forecaster_in, is_folder, model_name, resolved
from tasks.runtime.network import is_loopback, listening
from tasks.serving.app import FOLDER, TOKEN, WORKERS

_APP = "tasks.serving.app:served"
_SHORTEST = 16  # characters of a token
_PATIENCE = 120.0  # seconds for a worker that is busy with a large request, before it is taken for dead


def serve(model: str, host: str, port: int, workers: int, said: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM; then the server and its workers end.

    Args:
        model: `NAME` (its champion), `NAME@alias`, or `NAME/version`.
        host: address to listen on; `0.0.0.0` for every one.
        port: to listen on; 0: any that is free.
        workers: processes that answer.
        said: told in one line, once the server answers, where it is and how to ask it.

    Raises:
        CheckpointError: there is no such model, its artifacts are damaged or not those that were registered, or `model`
            is a folder.
        StoreError: the version's artifacts can't be fetched.
        ConfigError: the address can't be listened on, or by others without a token; the token is weak; or there are no
            workers.
    """
    if workers < 1:
        raise ConfigError(f"`--workers >= 1` must hold, but got {workers}.")
    _check_token(host)
    if is_folder(model):
        raise CheckpointError(
            f"{model}: is a folder, and MLflow serves what is registered. Name a registered model, or load the folder "
            "in Python: Forecaster.load(folder).forecast(frame)."
        )
    version = f"{model_name(model)}/{resolved(model)}"
    with (
        listening(host, port, "--port") as listener,
        TemporaryDirectory(prefix="lstm-serve-", ignore_cleanup_errors=True) as scratch,
    ):
        folder = fetched(version, scratch, runs=True)
        forecaster_in(folder, version)  # what is damaged is told here, and not by each worker
        os.environ |= {FOLDER: str(folder), WORKERS: str(workers)}
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        threading.Thread(target=_announce, args=(url, version, folder, said), daemon=True).start()
        _run(listener, workers)


def _check_token(host: str) -> None:
    """Whoever can reach a server that asks for no token may ask it anything: then that is this machine alone."""
    make = f"Make one: export {TOKEN}=$(openssl rand -hex 32)"
    token = os.environ.get(TOKEN)
    if token is None:
        if not is_loopback(host):
            raise ConfigError(f"--host {host}: other machines reach it, and {TOKEN} is not set. {make}")
    elif len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{TOKEN}: must be {_SHORTEST} or more ASCII characters without a space; the value is not shown. {make}"
        )


def _run(listener: socket.socket, workers: int) -> None:
    config = uvicorn.Config(
        _APP, factory=True, workers=workers, log_level="warning", timeout_worker_healthcheck=int(_PATIENCE)
    )
    server = uvicorn.Server(config)
    try:
        if workers > 1:
            Multiprocess(config, [listener]).run()
        else:
            server.run([listener])
    except KeyboardInterrupt:  # which uvicorn raises again when it has ended
        pass


def _announce(url: str, version: str, folder: Path, said: Callable[[str], None]) -> None:
    local = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    while not _answers(f"{local}/ping"):
        time.sleep(0.1)
    said(f"{version} answers at {local}/invocations: {_example(local, folder)}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _example(url: str, folder: Path) -> str:
    """A request that works: the input example of the version itself is too long for a line, so it is named."""
    example = folder / "serving_input_example.json"
    data = f"@{example}" if example.is_file() else json.dumps({"dataframe_records": []})
    token = f'-H "Authorization: Bearer ${TOKEN}" ' if TOKEN in os.environ else ""
    return f"curl {url}/invocations {token}-H 'Content-Type: application/json' -d {data}"
