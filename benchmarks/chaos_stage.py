"""The stage of benchmarks/chaos.py: a Prefect server, a worker, and an MLflow server, each of which may be killed."""

import functools
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
NAME = "chaos"
FLOW, SEARCH_WORKER, WORKER, PREFECT, MLFLOW = KINDS = (
    "the flow",
    "a worker of the search",
    "the Prefect worker",
    "the Prefect server",
    "the MLflow server",
)
_MARK = "LSTM_CHAOS"  # in the environment of every process of the stage
_PATIENCE = 180  # seconds until a server answers
_ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
Json = dict[str, Any]


class Stage:
    """Servers with stores in a folder of their own. Sets this process's environment, and looks through their eyes."""

    def __init__(self, folder: Path) -> None:
        """Start them, and deploy `train`."""
        from flows.local_stack.environment import mlflow_environment, server_environment, worker_environment
        from tasks.runtime.network import free_port
        from tasks.settings import set_default_environment

        self.folder, self.mark = folder, uuid.uuid4().hex
        self.ports = {kind: free_port() for kind in (PREFECT, MLFLOW, WORKER)}
        self.api = f"http://127.0.0.1:{self.ports[PREFECT]}/api"
        mlflow = f"http://127.0.0.1:{self.ports[MLFLOW]}"
        for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PREFECT_", "LSTM_"))]:
            del os.environ[name]
        set_default_environment()
        os.environ |= {
            _MARK: self.mark,
            "LSTM_HOME": str(folder / "mlruns"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # prefect and mlflow start uvicorn by name
            "PREFECT_HOME": str(folder / "prefect"),
            "PYTHONPATH": str(ROOT),
        }
        python = [sys.executable, "-m"]
        listening = ["--host", "127.0.0.1", "--port"]
        self._commands = {
            PREFECT: [*python, "prefect", "server", "start", *listening, str(self.ports[PREFECT])],
            MLFLOW: [*python, "mlflow", "server", *listening, str(self.ports[MLFLOW]), "--workers", "1"],
            WORKER: [*python, "prefect", "worker", "start", "--pool", "lstm", "--with-healthcheck"],
        }
        self._urls = {
            PREFECT: f"{self.api}/health",
            MLFLOW: f"{mlflow}/health",
            WORKER: f"http://127.0.0.1:{self.ports[WORKER]}/health",
        }
        self._environments = {
            PREFECT: server_environment("127.0.0.1", self.ports[PREFECT]),
            MLFLOW: mlflow_environment(),
            WORKER: {
                **worker_environment(self.api),
                "MLFLOW_TRACKING_URI": mlflow,
                "PREFECT_WORKER_QUERY_SECONDS": "1",
                "PREFECT_WORKER_WEBSERVER_PORT": str(self.ports[WORKER]),
                "PWD": str(ROOT),
            },
        }
        os.environ.update({"MLFLOW_TRACKING_URI": mlflow, "PREFECT_API_URL": self.api})
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.start(MLFLOW, PREFECT)
        for command in (["work-pool", "create", "lstm", "--type", "process"], ["deploy", "--name", "train"]):
            command = [*python, "prefect", "--no-prompt", *command]
            done = subprocess.run(command, cwd=ROOT, env=self._environments[WORKER], capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stdout + done.stderr)
        self.start(WORKER)

    def start(self, *kinds: str) -> None:
        """Start servers or the worker, and wait until they answer."""
        from flows.services.processes import start

        for kind in kinds:
            log = self.folder / f"{kind.replace(' ', '-')}.log"
            self._running[kind] = start(self._commands[kind], log, self._environments[kind])
        for kind in kinds:
            wait_for(functools.partial(_answers, self._urls[kind]), f"{kind} to answer")

    def kill(self, kind: str, process: psutil.Process | None = None) -> None:
        """SIGKILL. Of a server all its processes: one whose parent is gone would hold the port."""
        if process is not None:
            process.kill()
        elif kind == WORKER:  # not the flow runs that it has started
            self._running[kind].kill()
        else:
            os.killpg(self._running[kind].pid, signal.SIGKILL)
        if process is None:
            self._running[kind].wait()

    def close(self) -> list[str]:
        """End the servers and the worker as a user would; the processes that are left after that, and are killed."""
        for process in [self._running[kind] for kind in (WORKER, PREFECT, MLFLOW) if kind in self._running]:
            for number in (signal.SIGTERM, signal.SIGKILL):  # Prefect's worker may go on asking for its server
                if process.poll() is None:
                    os.killpg(process.pid, number)
                    with suppress(subprocess.TimeoutExpired):
                        process.wait(10)
        deadline = time.monotonic() + 60
        while (left := list(self.processes())) and time.monotonic() < deadline:
            time.sleep(0.2)
        problems = []
        for process in left:
            with suppress(psutil.NoSuchProcess):
                problems.append(f"process {process.pid} is left: {' '.join(process.cmdline())[:200]}")
                process.kill()
        for process in self._running.values():
            process.wait()
        return problems

    def processes(self, *words: str) -> Iterator[psutil.Process]:
        """The stage's living processes whose command line holds all these words."""
        for process in psutil.process_iter():
            try:
                command = " ".join(process.cmdline())
                alive = process.status() != psutil.STATUS_ZOMBIE and process.pid != os.getpid()
                if alive and all(word in command for word in words) and process.environ().get(_MARK) == self.mark:
                    yield process
            except psutil.Error:
                continue

    def victims(self, kind: str) -> list[psutil.Process]:
        """The processes of the flow, or of the search's workers."""
        return list(self.processes("prefect.engine" if kind == FLOW else "tasks.search.worker"))

    def submit(self, config: Path, overrides: list[str]) -> str:
        """Start the deployment once more; the flow run's id."""
        deployment = self._ask("deployments/name/train/train")["id"]
        parameters = {"config": str(config), "overrides": overrides}
        return str(self._ask(f"deployments/{deployment}/create_flow_run", {"parameters": parameters})["id"])

    def state(self, flow_run: str) -> str:
        """SCHEDULED, PENDING, RUNNING, COMPLETED, …"""
        return str(self._ask(f"flow_runs/{flow_run}")["state_type"])

    def crash(self, flow_run: str) -> None:
        """Say that it is over, as one does in Prefect's UI."""
        self._ask(f"flow_runs/{flow_run}/set_state", {"state": {"type": "CRASHED"}, "force": True})

    def has_ended(self, flow_run: str) -> bool:
        return self.state(flow_run) in _ENDED

    def unended(self) -> int:
        """Flow runs of any state between scheduled and ended."""
        states = {"type": {"any_": ["PENDING", "RUNNING", "CANCELLING"]}}
        return len(self._ask("flow_runs/filter", {"flow_runs": {"state": states}}))

    def _ask(self, path: str, body: Json | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.api}/{path}", data, {"Content-Type": "application/json"})
        for left in reversed(range(5)):
            try:
                with urllib.request.urlopen(request, timeout=30) as answer:
                    return json.load(answer)
            except OSError:
                if not left:
                    raise
                time.sleep(1)

    def champion_on_disk(self) -> str:
        """What is wrong with the champion as the stores have it, whatever server is down; empty: nothing."""
        from tasks.registry.checksum import CHECKSUM_TAG, checksum
        from tasks.registry.models import load_downloaded

        database = self.folder / "mlruns" / "mlflow.db"
        # Not read only: whoever is the first to read after a writer was killed undoes what that one had half written.
        connection = sqlite3.connect(f"file:{database}?mode=rw", uri=True, timeout=30)
        try:
            query = (
                "SELECT v.version, coalesce(v.storage_location, v.source), t.value FROM registered_model_aliases a "
                "JOIN model_versions v ON v.name = a.name AND v.version = a.version "
                "JOIN model_version_tags t ON t.name = v.name AND t.version = v.version AND t.key = ? "
                "WHERE a.name = ? AND a.alias = 'champion'"
            )
            row = connection.execute(query, (CHECKSUM_TAG, NAME)).fetchone()
        finally:
            connection.close()
        if row is None:
            return "no version has the alias champion"
        version, source, seal = row
        place = self.folder / "mlruns" / "artifacts" / source.removeprefix("mlflow-artifacts:/")
        load_downloaded(place, f"{NAME}/{version}")
        return "" if checksum(place) == seal else f"{NAME}/{version} is not what was registered"

    def champion_served(self) -> str:
        """The same through the server, as a user would load it."""
        from tasks.registry.models import load_forecaster

        _, version = load_forecaster(f"{NAME}@champion")
        return "" if version else "the champion can't be loaded"


def wait_for(what: Callable[[], object], named: str, patience: float = _PATIENCE) -> None:
    """Until it is so.

    Raises:
        SystemExit: it is not within the patience.
    """
    deadline = time.monotonic() + patience
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"waited {patience:.0f} s for {named}")
        time.sleep(0.2)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
