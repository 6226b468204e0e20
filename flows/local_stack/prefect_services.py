"""Prefect processes of `lstm up`: `python -m flows.local_stack.prefect_services server SOCKET` and `… worker`."""

import runpy
import socket
import sys


def server(descriptor: int) -> None:
    """Run the Prefect server on a socket owned by the supervisor, so that requests queue during a restart."""
    import uvicorn

    listener = socket.socket(fileno=descriptor)
    config = uvicorn.Config("prefect.server.api.server:create_app", factory=True, log_level="warning")
    uvicorn.Server(config).run([listener])


def worker() -> None:
    """Run a worker of the process work pool. The slow imports come first, while the server may still be starting."""
    import prefect.cli.worker
    import prefect.workers.process  # noqa: F401

    from flows.deployments import POOL, make_pool
    from flows.services.prefect_server import wait_until_ready

    wait_until_ready()
    make_pool()
    sys.argv = ["prefect", "--no-prompt", "worker", "start", "--pool", POOL, "--with-healthcheck"]
    runpy.run_module("prefect", run_name="__main__")


if __name__ == "__main__":
    server(int(sys.argv[2])) if sys.argv[1] == "server" else worker()
