"""`lstm up`: Prefect server, MLflow server, a worker and the deployments of prefect.yaml, until Ctrl-C."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from flows.deployments import FILE, check_folder
from flows.local_stack.environment import (
    check_authentication,
    mlflow_authenticates,
    mlflow_environment,
    server_environment,
    worker_environment,
)
from flows.services.process_guard import kept
from flows.services.processes import ask_children_to_end, end_trees, start
from flows.services.supervisor import Service, ServiceError, until_healthy, watch
from tasks.runtime.instance_lock import only_one
from tasks.runtime.network import free_port, listening
from tasks.settings import folder, store_is_empty, without_password

_PYTHON = (sys.executable, "-P", "-m")  # -P: what lies in the working directory is no module of ours
_PATIENCE = 180.0  # seconds for the deployments
_FLOW_GOODBYE, _GOODBYE = 6.0, 3.0  # seconds to end, of flow runs and of the others


@dataclass(frozen=True)
class _Place:
    """Where the servers listen."""

    host: str
    prefect_port: int
    mlflow_port: int
    mlflow: str | None  # the server that MLFLOW_TRACKING_URI names: then none is started

    def url(self, port: int) -> str:
        """How this machine reaches a port of `host`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def addresses(self) -> dict[str, str]:
        """What people open."""
        return {"prefect": self.url(self.prefect_port), "mlflow": self.mlflow or self.url(self.mlflow_port)}


def up(host: str, prefect_port: int, mlflow_port: int, said: Callable[[str], None]) -> int:
    """Run everything until SIGINT or SIGTERM, then return 0; 1 when something does not stay up.

    Args:
        host: address that both servers listen on.
        prefect_port: of the Prefect server.
        mlflow_port: of the MLflow server. None is started where MLFLOW_TRACKING_URI names one.
        said: told line by line what is healthy, what was started again, and that all is healthy.

    Raises:
        ConfigError: the address can't be listened on, or by others without authentication; another one runs; or there
            is no prefect.yaml here.
    """
    check_folder()
    check_authentication(host)
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    remote = without_password(tracking) if tracking.startswith(("http://", "https://")) else None
    place = _Place(host, prefect_port, mlflow_port, remote)
    with only_one(place.addresses), listening(host, prefect_port, "--prefect-port") as listener:
        if remote is None:
            listening(host, mlflow_port, "--mlflow-port").close()
        return kept(lambda: _run(place, listener, said))


def _run(place: _Place, listener: socket.socket, said: Callable[[str], None]) -> int:
    started = time.monotonic()
    running: list[Service] = []
    deploying = None

    def begin(service: Service) -> None:
        service.start()
        running.append(service)

    try:
        begin(_prefect(place, listener))
        deploying = _start_deploying(place)
        begin(_worker(place))
        if place.mlflow is None:
            _make_store()
            begin(_mlflow(place))
        until_healthy(running, said)
        _finish_deploying(deploying, said)
        urls = f"Prefect {place.addresses['prefect']}, MLflow {place.addresses['mlflow']}"
        said(f"all is healthy after {time.monotonic() - started:.1f} s: {urls} (Ctrl-C ends it)")
        said(f"for prefect's commands elsewhere: export PREFECT_API_URL={place.addresses['prefect']}/api")
        watch(running, said)
    except KeyboardInterrupt:
        said("ending: flow runs are told first")
        raise
    finally:
        _end(running, deploying)
    return 0


def _end(running: list[Service], deploying: "subprocess.Popen[bytes] | None") -> None:
    """Flow runs first, while there are a worker and a server to tell; the worker would kill them, and tell nobody."""
    workers = [service.process for service in running if service.name == "worker"]
    servers = [service.process for service in running if service.name != "worker"]
    for worker in workers:
        ask_children_to_end(worker, _FLOW_GOODBYE)
    end_trees([*workers, *([deploying] if deploying else [])], _GOODBYE)
    end_trees(servers, _GOODBYE)


def _prefect(place: _Place, listener: socket.socket) -> Service:
    return Service(
        name="prefect",
        command=[*_PYTHON, "flows.local_stack.prefect_services", "server", str(listener.fileno())],
        environment=server_environment(place.host, place.prefect_port),
        health=f"{place.addresses['prefect']}/api/health",
        shown=place.addresses["prefect"],
        log=folder("logs") / "prefect-server.log",
        inherit=[listener.fileno()],
    )


def _mlflow(place: _Place) -> Service:
    command = [*_PYTHON, "mlflow", "server", "--host", place.host, "--port", str(place.mlflow_port), "--workers", "1"]
    url = place.url(place.mlflow_port)
    return Service(
        name="mlflow",
        command=[*command, "--app-name", "basic-auth"] if mlflow_authenticates() else command,
        environment=mlflow_environment(),
        health=f"{url}/health",
        shown=url,
        log=folder("logs") / "mlflow.log",
    )


def _worker(place: _Place) -> Service:
    health = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(free_port())}
    return Service(
        name="worker",
        command=[*_PYTHON, "flows.local_stack.prefect_services", "worker"],
        environment={**worker_environment(f"{place.addresses['prefect']}/api"), **health},
        health=f"http://127.0.0.1:{health['PREFECT_WORKER_WEBSERVER_PORT']}/health",
        shown="takes the flow runs of the work pool lstm",
        leaves=True,
        log=folder("logs") / "worker.log",
    )


def _make_store() -> None:
    """Its tables, as every command makes them: whole, and by one process alone."""
    if store_is_empty():
        log = folder("logs") / "mlflow.log"
        command = [sys.executable, "-P", "-c", "from tasks.tracking.runs import client; client()"]
        if code := start(command, log, os.environ).wait():
            raise ServiceError(f"the MLflow store can't be made (exit code {code}): see {log}.")


def _start_deploying(place: _Place) -> "subprocess.Popen[bytes]":
    environment = worker_environment(f"{place.addresses['prefect']}/api")
    return start([*_PYTHON, "flows.deployments"], folder("logs") / "deployments.log", environment)


def _finish_deploying(process: "subprocess.Popen[bytes]", said: Callable[[str], None]) -> None:
    log = folder("logs") / "deployments.log"
    try:
        code = process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{FILE}: could not be applied within {_PATIENCE:.0f} s: see {log}.") from None
    if code:
        raise ServiceError(f"{FILE}: could not be applied (exit code {code}): see {log}.")
    said(f"{FILE} applied")
