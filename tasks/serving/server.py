"""Serve a registered model over HTTP with MLflow's scoring server."""

import json
import os
import shutil
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from mlflow.models import Model
from mlflow.pyfunc import FLAVOR_NAME
from uvicorn.supervisors import Multiprocess

from lstm.errors import CheckpointError, ConfigError
from tasks.registry.models import download_artifacts, is_folder, load_downloaded, model_name, resolve_version
from tasks.registry.packaging import MODEL_CODE
from tasks.runtime.network import is_loopback, open_listener
from tasks.serving.app import FOLDER, TOKEN, WORKERS

_APP = "tasks.serving.app:create_app"
_MIN_TOKEN_LENGTH = 16
_WORKER_TIMEOUT_S = 120  # a worker that is busy with a large request answers no health check meanwhile


def serve(model: str, host: str, port: int, workers: int, on_ready: Callable[[str], None]) -> None:
    """Answer requests until SIGINT or SIGTERM.

    Args:
        model: `NAME` (its champion), `NAME@alias`, or `NAME/version`.
        host: address to listen on; `0.0.0.0` for all IPv4 addresses.
        port: to listen on; 0: any free port.
        workers: number of server processes.
        on_ready: called once the server answers, with a line that holds its address and an example request.

    Raises:
        CheckpointError: there is no such model, its artifacts are damaged or not those that were registered, or `model`
            is a folder.
        StoreError: the version's artifacts can't be downloaded.
        ConfigError: the address can't be listened on, or other machines reach it and no token is set; the token is too
            short; or `workers` is below 1.
    """
    if workers < 1:
        raise ConfigError(f"`--workers >= 1` must hold, but got {workers}.")
    _check_token(host)
    if is_folder(model):
        raise CheckpointError(
            f"{model}: is a folder, and MLflow serves what is registered. Name a registered model, or load the folder "
            "in Python: Forecaster.load(folder).forecast(frame)."
        )
    version = f"{model_name(model)}/{resolve_version(model)}"
    with (
        open_listener(host, port, "--port") as listener,
        TemporaryDirectory(prefix="lstm-serve-", ignore_cleanup_errors=True) as scratch,
    ):
        folder = download_artifacts(version, scratch, runs_code=True)
        load_downloaded(folder, version)  # fail here, before any worker starts
        use_current_code(folder)
        os.environ |= {FOLDER: str(folder), WORKERS: str(workers)}
        url = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        threading.Thread(target=_announce, args=(url, version, folder, on_ready), daemon=True).start()
        _run(listener, workers)


def use_current_code(folder: Path) -> None:
    """Replace the model code in a version's copy by this release's.

    The server's process has imported this release's `lstm`. Code of an older version would not find its modules in it,
    whereas this release loads the forecasters of older ones.
    """
    code_path = Model.load(str(folder)).flavors[FLAVOR_NAME]["model_code_path"]
    shutil.copyfile(MODEL_CODE, folder / Path(code_path).name)


def _check_token(host: str) -> None:
    """Check the token's form; without a token only a loopback address is allowed."""
    hint = f"Make one: export {TOKEN}=$(openssl rand -hex 32)"
    token = os.environ.get(TOKEN)
    if token is None:
        if not is_loopback(host):
            raise ConfigError(f"--host {host}: other machines reach it, and {TOKEN} is not set. {hint}")
    elif len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigError(
            f"{TOKEN}: must be {_MIN_TOKEN_LENGTH} or more ASCII characters without a space; the value is not shown. "
            f"{hint}"
        )


def _run(listener: socket.socket, workers: int) -> None:
    config = uvicorn.Config(
        _APP, factory=True, workers=workers, log_level="warning", timeout_worker_healthcheck=_WORKER_TIMEOUT_S
    )
    server = uvicorn.Server(config)
    try:
        if workers > 1:
            Multiprocess(config, [listener]).run()
        else:
            server.run([listener])
    except KeyboardInterrupt:  # uvicorn raises it again after a clean shutdown
        pass


def _announce(url: str, version: str, folder: Path, on_ready: Callable[[str], None]) -> None:
    local = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
    while not _answers(f"{local}/ping"):
        time.sleep(0.1)
    on_ready(f"{version} answers at {local}/invocations: {_example_request(local, folder)}")


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False


def _example_request(url: str, folder: Path) -> str:
    """Return a curl command that sends the version's input example."""
    example = folder / "serving_input_example.json"
    data = f"@{example}" if example.is_file() else json.dumps({"dataframe_records": []})
    token = f'-H "Authorization: Bearer ${TOKEN}" ' if TOKEN in os.environ else ""
    return f"curl {url}/invocations {token}-H 'Content-Type: application/json' -d {data}"
