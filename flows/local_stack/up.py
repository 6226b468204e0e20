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
from flows.services.process_guard import run_guarded
from flows.services.processes import start, stop_trees, terminate_children
from flows.services.supervisor import Service, ServiceError, wait_until_healthy, watch
from tasks.runtime.instance_lock import single_instance
from tasks.runtime.network import free_port, open_listener
from tasks.settings import store_folder, store_is_empty, without_password

_PYTHON = (sys.executable, "-P", "-m")  # -P: don't import from the working directory
_DEPLOY_TIMEOUT_S = 180.0
_FLOW_STOP_S, _STOP_S = 6.0, 3.0  # time to end: flow runs, and all others


@dataclass(frozen=True)
class _Endpoints:
    """Host and ports of the servers."""

    host: str
    prefect_port: int
    mlflow_port: int
    mlflow: str | None  # server named by MLFLOW_TRACKING_URI: then none is started

    def url(self, port: int) -> str:
        """Return the URL by which this machine reaches a port of `host`."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)
        return f"http://{f'[{host}]' if ':' in host else host}:{port}"

    @property
    def urls(self) -> dict[str, str]:
        """URLs that users open."""
        return {"prefect": self.url(self.prefect_port), "mlflow": self.mlflow or self.url(self.mlflow_port)}


def up(host: str, prefect_port: int, mlflow_port: int, print_line: Callable[[str], None]) -> int:
    """Run all services until SIGINT or SIGTERM and return the exit code: 1 if a service does not stay up, else 0.

    Args:
        host: address that both servers listen on.
        prefect_port: port of the Prefect server.
        mlflow_port: port of the MLflow server; no server is started if MLFLOW_TRACKING_URI names one.
        print_line: prints a line of progress: a healthy service, a restart.

    Raises:
        ConfigError: a port is taken, other machines could connect without a password, another `lstm up` runs on the
            same stores, or the working directory has no prefect.yaml.
    """
    check_folder()
    check_authentication(host)
    tracking = os.environ.get("MLFLOW_TRACKING_URI", "")
    remote = without_password(tracking) if tracking.startswith(("http://", "https://")) else None
    endpoints = _Endpoints(host, prefect_port, mlflow_port, remote)
    with single_instance(endpoints.urls), open_listener(host, prefect_port, "--prefect-port") as listener:
        if remote is None:
            open_listener(host, mlflow_port, "--mlflow-port").close()
        return run_guarded(lambda: _run(endpoints, listener, print_line))


def _run(endpoints: _Endpoints, listener: socket.socket, print_line: Callable[[str], None]) -> int:
    started = time.monotonic()
    running: list[Service] = []
    deployment = None

    def launch(service: Service) -> None:
        service.start()
        running.append(service)

    try:
        launch(_prefect_service(endpoints, listener))
        deployment = _start_deployment(endpoints)
        launch(_worker_service(endpoints))
        if endpoints.mlflow is None:
            _make_store()
            launch(_mlflow_service(endpoints))
        wait_until_healthy(running, print_line)
        _finish_deployment(deployment, print_line)
        urls = f"Prefect {endpoints.urls['prefect']}, MLflow {endpoints.urls['mlflow']}"
        print_line(f"all is healthy after {time.monotonic() - started:.1f} s: {urls} (Ctrl-C ends it)")
        print_line(f"for prefect's commands elsewhere: export PREFECT_API_URL={endpoints.urls['prefect']}/api")
        watch(running, print_line)
    except KeyboardInterrupt:
        print_line("ending: flow runs first")
        raise
    finally:
        _stop(running, deployment)
    return 0


def _stop(running: list[Service], deployment: "subprocess.Popen[bytes] | None") -> None:
    """Stop flow runs first, while worker and server can record it: the worker would kill them unrecorded."""
    workers = [service.process for service in running if service.name == "worker"]
    servers = [service.process for service in running if service.name != "worker"]
    for worker in workers:
        terminate_children(worker, _FLOW_STOP_S)
    stop_trees([*workers, *([deployment] if deployment else [])], _STOP_S)
    stop_trees(servers, _STOP_S)


def _prefect_service(endpoints: _Endpoints, listener: socket.socket) -> Service:
    return Service(
        name="prefect",
        command=[*_PYTHON, "flows.local_stack.prefect_services", "server", str(listener.fileno())],
        environment=server_environment(endpoints.host, endpoints.prefect_port),
        health=f"{endpoints.urls['prefect']}/api/health",
        shown=endpoints.urls["prefect"],
        log=store_folder("logs") / "prefect-server.log",
        inherit=[listener.fileno()],
    )


def _mlflow_service(endpoints: _Endpoints) -> Service:
    command = [
        *_PYTHON,
        "mlflow",
        "server",
        "--host",
        endpoints.host,
        "--port",
        str(endpoints.mlflow_port),
        "--workers",
        "1",
    ]
    url = endpoints.url(endpoints.mlflow_port)
    return Service(
        name="mlflow",
        command=[*command, "--app-name", "basic-auth"] if mlflow_authenticates() else command,
        environment=mlflow_environment(),
        health=f"{url}/health",
        shown=url,
        log=store_folder("logs") / "mlflow.log",
    )


def _worker_service(endpoints: _Endpoints) -> Service:
    health = {"PREFECT_WORKER_WEBSERVER_HOST": "127.0.0.1", "PREFECT_WORKER_WEBSERVER_PORT": str(free_port())}
    return Service(
        name="worker",
        command=[*_PYTHON, "flows.local_stack.prefect_services", "worker"],
        environment={**worker_environment(f"{endpoints.urls['prefect']}/api"), **health},
        health=f"http://127.0.0.1:{health['PREFECT_WORKER_WEBSERVER_PORT']}/health",
        shown="takes the flow runs of the work pool lstm",
        leaves=True,
        log=store_folder("logs") / "worker.log",
    )


def _make_store() -> None:
    """Create the MLflow store's tables in one process, before the server starts."""
    if store_is_empty():
        log = store_folder("logs") / "mlflow.log"
        command = [sys.executable, "-P", "-c", "from tasks.tracking.runs import client; client()"]
        if code := start(command, log, os.environ).wait():
            raise ServiceError(f"the MLflow store can't be created (exit code {code}): see {log}.")


def _start_deployment(endpoints: _Endpoints) -> "subprocess.Popen[bytes]":
    environment = worker_environment(f"{endpoints.urls['prefect']}/api")
    return start([*_PYTHON, "flows.deployments"], store_folder("logs") / "deployments.log", environment)


def _finish_deployment(process: "subprocess.Popen[bytes]", print_line: Callable[[str], None]) -> None:
    log = store_folder("logs") / "deployments.log"
    try:
        code = process.wait(_DEPLOY_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise ServiceError(f"{FILE}: could not be applied within {_DEPLOY_TIMEOUT_S:.0f} s: see {log}.") from None
    if code:
        raise ServiceError(f"{FILE}: could not be applied (exit code {code}): see {log}.")
    print_line(f"{FILE} applied")
