"""`lstm up` as its user sees it: start, Ctrl-C, kills, and restarts of services that die."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass

import psutil
import pytest

from flows.services import supervisor
from flows.services.supervisor import Service, ServiceError
from tasks.runtime.network import free_port, open_listener
from tests.support.servers import add_scripts_to_path, request
from tests.support.workspace import LSTM, Place

SECRETS = {
    "PREFECT_SERVER_API_AUTH_STRING": "admin:prefect-password-73",
    "MLFLOW_FLASK_SERVER_SECRET_KEY": "flask-secret-73-flask-secret",
    "MLFLOW_AUTH_ADMIN_PASSWORD": "mlflow-password-73",
}
DEPLOYED = """
pull:
  - prefect.deployments.steps.set_working_directory: {directory: "{{ $PWD }}"}
deployments:
  - name: nap
    entrypoint: naps.py:nap
    concurrency_limit: {limit: 1, collision_strategy: ENQUEUE}
    work_pool: {name: lstm}
"""
FLOW = """
import subprocess, time
from pathlib import Path
from prefect import flow

@flow(persist_result=False)
def nap(seconds: float, note: str) -> None:
    child = subprocess.Popen(["sleep", "600"])
    Path(note).write_text(str(child.pid))
    time.sleep(seconds)
    child.kill()
    child.wait()
"""
AUTOMATION = """
automations:
  - name: nothing
    trigger: {type: event, posture: Reactive, expect: [never]}
    actions: [{type: do-nothing}]
"""


@dataclass
class Up:
    """A running `lstm up` in a workspace."""

    place: Place
    prefect: int
    mlflow: int
    process: subprocess.Popen[str]

    @property
    def api(self) -> str:
        return f"http://127.0.0.1:{self.prefect}/api"

    def output(self) -> str:
        return (self.place.folder / "output.log").read_text()

    def until(self, condition: Callable[[], object], timeout: float = 120.0) -> None:
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline and self.process.poll() is None, self.output()
            time.sleep(0.1)

    def nap(self, seconds: float, account: str = "") -> str:
        """Start a flow run; return its id when it runs."""
        note = self.place.folder / "note"
        note.unlink(missing_ok=True)
        _, deployment = request(f"{self.api}/deployments/name/nap/nap", account=account)
        body = {"parameters": {"seconds": seconds, "note": str(note)}, "state": {"type": "SCHEDULED"}}
        status, run = request(f"{self.api}/deployments/{deployment['id']}/create_flow_run", body, account=account)
        assert status == 201, run
        self.until(note.exists)
        return str(run["id"])

    def below(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def command(prefect: int, mlflow: int) -> list[str]:
    return [*LSTM, "up", "--prefect-port", str(prefect), "--mlflow-port", str(mlflow)]


@contextmanager
def up(place: Place, **secrets: str) -> Iterator[Up]:
    """Run `lstm up` until all services are healthy."""
    ports = free_port(), free_port()
    environment = add_scripts_to_path({**place.environment, **secrets})
    with (place.folder / "output.log").open("w") as output:
        process = subprocess.Popen(
            command(*ports), cwd=place.folder, env=environment, stdout=output, stderr=output, text=True
        )
    it = Up(place, *ports, process)
    try:
        it.until(lambda: "all is healthy" in it.output(), 180)
        yield it
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A folder to deploy from, with a flow that sleeps and has a child process."""
    place = Place(tmp_path_factory.mktemp("up"))
    (place.folder / "prefect.yaml").write_text(DEPLOYED)
    (place.folder / "automations.yaml").write_text(AUTOMATION)
    (place.folder / "naps.py").write_text(FLOW)
    return place


def still_running(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Return the processes that still run after `timeout` seconds."""
    return psutil.wait_procs(processes, timeout)[1]


def refused(place: Place, *arguments: str, **environment: str) -> str:
    """The one line of a refusal."""
    done = subprocess.run(
        [*LSTM, "up", *arguments],
        cwd=place.folder,
        env={**place.environment, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


@contextmanager
def sleeping() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is none of `lstm up`'s business."""
    with subprocess.Popen(["sleep", "300"]) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.service
def test_what_is_killed_is_started_again_and_the_flow_run_goes_on_behind_a_password(folder):
    account = SECRETS["PREFECT_SERVER_API_AUTH_STRING"]
    with up(folder, **SECRETS) as it, sleeping() as bystander:
        below = it.below()
        assert refused(folder).startswith("lstm: `lstm up` is running on")
        tracking = f"http://127.0.0.1:{it.mlflow}/api/2.0/mlflow/experiments/search?max_results=1"
        assert [request(f"{it.api}/admin/version")[0], request(tracking)[0]] == [401, 401]
        assert request(f"{it.api}/admin/version", account=account)[0] == 200
        assert request(tracking, account=f"admin:{SECRETS['MLFLOW_AUTH_ADMIN_PASSWORD']}")[0] == 200
        login = {"PREFECT_API_URL": it.api, "PREFECT_API_AUTH_STRING": "admin:wrong"}
        train = [*LSTM, "train", str(folder.write())]
        done = subprocess.run(train, env={**folder.environment, **login}, cwd=folder.folder, capture_output=True)
        assert (done.returncode, b"refuses the login (401)" in done.stderr) == (2, True), done.stderr
        run = it.nap(12, account)
        arguments = " ".join(" ".join(process.cmdline()) for process in it.below())
        assert f" server --host 127.0.0.1 --port {it.mlflow} " in arguments
        server = next(
            process for process in below if "flows.local_stack.prefect_services server" in " ".join(process.cmdline())
        )
        server.kill()
        it.until(lambda: "prefect   was killed by signal 9; started again" in it.output())
        it.until(lambda: it.output().count(f"prefect   http://127.0.0.1:{it.prefect}") == 2)
        parent = next(process for process in it.below() if " mlflow server " in " ".join(process.cmdline()))
        mlflow = [parent, *parent.children(recursive=True)]
        assert len(mlflow) > 1
        parent.kill()
        it.until(lambda: it.output().count(f"mlflow    http://127.0.0.1:{it.mlflow}") == 2)
        assert still_running(mlflow, 0) == []  # its child did not keep the port
        state = f"{it.api}/flow_runs/{run}"
        it.until(lambda: request(state, account=account)[1]["state"]["type"] == "COMPLETED", 60)
        logs = "".join(log.read_text() for log in (folder.folder / "mlruns" / "logs").iterdir())
        assert [secret for secret in SECRETS.values() if secret in it.output() + logs + arguments] == []
        interrupted = it.nap(600, account)
        below = it.below()
        it.process.send_signal(signal.SIGINT)
        assert it.process.wait(20) == 0, it.output()
        assert still_running(below, 0.5) == []
        assert bystander.poll() is None
    with closing(sqlite3.connect(folder.folder / "mlruns" / "prefect.db")) as database:
        state = database.execute("select state_type from flow_run where id = ?", [interrupted]).fetchone()
    assert state == ("CRASHED",)


@pytest.mark.service
@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted by Linux's child subreapers")
def test_a_kill_leaves_no_orphan_and_the_next_start_is_none_the_wiser(folder):
    with up(folder) as it:
        assert "prefect.yaml applied" in it.output()
        it.nap(600)
        below = it.below()
        kinds = " ".join(" ".join(process.cmdline()) for process in below)
        assert all(
            part in kinds for part in ("mlflow.server", "flows.local_stack.prefect_services worker", "sleep 600")
        )
        it.process.kill()
        assert still_running(below, 25) == []
        assert "Traceback" not in it.output()
        assert refused(folder, "--host", "0.0.0.0")  # for want of passwords, not because one is running


def test_what_dies_again_and_again_ends_everything_and_names_its_log(tmp_path):
    lines: list[str] = []
    log = tmp_path / "brittle.log"
    brittle = Service("brittle", [sys.executable, "-c", "exit(3)"], os.environ, "http://127.0.0.1:9", "nowhere", log)
    brittle.start()
    with pytest.raises(ServiceError) as caught:
        while True:
            brittle.check(lines.append)
            time.sleep(0.02)
    assert str(caught.value) == f"brittle ended with exit code 3, the 3rd time within 60 s: see {log}."
    assert lines == [f"brittle   ended with exit code 3; started again (log: {log})"] * 2


@pytest.mark.slow
def test_what_is_stuck_is_killed_and_started_again(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "_HEALTH_INTERVAL_S", 0.1)
    monkeypatch.setattr(supervisor, "_MAX_UNANSWERED", 2)
    port, lines = free_port(), []
    command = [sys.executable, "-m", "http.server", str(port), "--bind", "127.0.0.1", "--directory", str(tmp_path)]
    stuck = Service("stuck", command, os.environ, f"http://127.0.0.1:{port}", "here", tmp_path / "stuck.log")
    stuck.start()

    def check_until(count: int) -> None:
        deadline = time.monotonic() + 60
        while len(lines) < count and time.monotonic() < deadline:
            stuck.check(lines.append)
            time.sleep(0.02)

    try:
        check_until(1)
        for _ in range(4):
            time.sleep(0.2)
            stuck.check(lines.append)
        assert lines == ["stuck     here"]
        os.kill(stuck.process.pid, signal.SIGSTOP)
        check_until(4)
        assert lines[1:] == [
            "stuck     has not answered 2 times in a row, and is killed",
            f"stuck     was killed by signal 9; started again (log: {stuck.log})",
            "stuck     here",
        ]
    finally:
        stuck.process.kill()
        stuck.process.wait()


def test_nobody_else_is_let_in_without_a_password(folder):
    message = refused(folder, "--host", "0.0.0.0", MLFLOW_AUTH_ADMIN_PASSWORD="a-password-of-73")
    assert (
        "--host 0.0.0.0: other machines reach it, and PREFECT_SERVER_API_AUTH_STRING, MLFLOW_FLASK_SERVER_SEC"
        in message
    )
    assert "a-password-of-73" not in message


def test_a_port_that_is_taken_is_named_with_the_way_out(folder):
    with open_listener("127.0.0.1", 0, "") as taken:
        port = taken.getsockname()[1]
        message = refused(folder, "--prefect-port", str(port))
    assert message == (
        f"lstm: 127.0.0.1:{port}: can't be listened on (Address already in use). "
        "Choose another --prefect-port or --host.\n"
    )


def test_a_folder_without_deployments_is_refused(place):
    assert "prefect.yaml: no such file. Change to the folder of your deployments" in refused(place)
    for content, message in (("deployments: [", "can't be read"), ("name: x", "has no `deployments`")):
        (place.folder / "prefect.yaml").write_text(content)
        assert f"prefect.yaml: {message}" in refused(place)
