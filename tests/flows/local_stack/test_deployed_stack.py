"""The uses on real servers: a served champion, and compose.yaml's Prefect, MLflow and worker, run without docker."""

import json
import os
import shlex
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest
import yaml
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from flows.services.processes import start, stop_trees
from tasks.runtime.network import free_port
from tasks.search.gpu_limits import gpu_limit_name
from tests.support.paths import ROOT
from tests.support.postgres import postgres_server
from tests.support.servers import add_scripts_to_path, request, run_server
from tests.support.workspace import Place

pytestmark = pytest.mark.service


def test_the_served_champion_answers_with_forecasts(trained):
    place, _ = trained
    port = free_port()
    store = f"sqlite:///{place.folder / 'mlruns' / 'mlflow.db'}"
    environment = {**add_scripts_to_path(place.environment), "MLFLOW_TRACKING_URI": store}
    environment |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "PYTHONPATH": ""}
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/shops@champion"]
    command += ["--env-manager", "local", "--port", str(port)]
    history = pd.read_csv(place.folder / "shops.csv").groupby("shop").tail(30)
    split = json.loads(history.to_json(orient="split", index=False))
    address = f"http://127.0.0.1:{port}"
    with run_server(command, f"{address}/ping", place.folder / "serve.log", environment, place.folder.parent):
        status, answer = request(f"{address}/invocations", {"dataframe_split": split})
        assert status == 200
        forecasts = pd.DataFrame(answer["predictions"])
        assert list(forecasts.columns) == ["series", "time", "forecast", "lo-80", "hi-80", "lo-95", "hi-95"]
        assert forecasts.groupby("series").size().to_dict() == {"north": 6, "south": 6}
        params = {"horizon": 2, "levels": [50]}
        status, answer = request(f"{address}/invocations", {"dataframe_split": split, "params": params})
        assert (status, len(answer["predictions"])) == (200, 4)
        assert "lo-50" in answer["predictions"][0]
        status, by_csv = request(f"{address}/invocations", history.to_csv(index=False), "text/csv")
        assert status == 200
        assert [row["forecast"] for row in by_csv["predictions"]] == pytest.approx(forecasts["forecast"].tolist())
        short = json.loads(history.groupby("shop").tail(3).to_json(orient="split", index=False))
        status, answer = request(f"{address}/invocations", {"dataframe_split": short})
        assert status == 400
        assert "needs 24 rows of history" in answer["message"]
    (place.folder / "serve.log").unlink()


@dataclass(frozen=True)
class Composed:
    """The services of compose.yaml on this machine, with other ports, folders and another address of PostgreSQL."""

    services: dict[str, Any]
    changes: dict[str, str]
    environment: dict[str, str]

    def command(self, name: str) -> list[str]:
        first, *rest = shlex.split(self._here(self.services[name]["command"]))
        return [sys.executable, *rest] if first == "python" else [sys.executable, "-m", first, *rest]

    def variables(self, name: str) -> dict[str, str]:
        environment = {key: self._here(value) for key, value in self.services[name]["environment"].items()}
        return {**self.environment, **environment}

    def _here(self, text: str) -> str:
        for there, here in self.changes.items():
            text = text.replace(there, here)
        assert "${" not in text, text
        return text


@dataclass(frozen=True)
class Deployed:
    """Addresses and accounts of the running services."""

    api: str
    tracking: str
    accounts: dict[str, str]

    def prefect(self, path: str, body: Any = None) -> Any:
        status, answer = request(f"{self.api}/{path}", body, account=self.accounts["prefect"])
        assert status < 300, answer
        return answer

    def runs(self, **state: Any) -> list[dict[str, Any]]:
        wanted = {"flow_runs": {"state": {key: {"any_": value} for key, value in state.items()}}} if state else {}
        return list(self.prefect("flow_runs/filter", {"sort": "START_TIME_ASC", **wanted}))


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """Run the commands of compose.yaml in the order of their dependencies."""
    folder = tmp_path_factory.mktemp("composed")
    ports = {name: free_port() for name in ("prefect", "mlflow", "worker")}
    with postgres_server() as address, ExitStack() as stack:
        composed = compose(folder, ports, address)
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}

        def launch(name: str, path: str) -> None:
            log, variables = folder / f"{name}.log", composed.variables(name)
            stack.enter_context(run_server(composed.command(name), urls[name] + path, log, variables, ROOT))

        launch("prefect", "/api/health")
        launch("mlflow", "/health")
        deploy = start(composed.command("deploy"), folder / "deploy.log", composed.variables("deploy"), folder=ROOT)
        assert deploy.wait(180) == 0, (folder / "deploy.log").read_text()
        launch("worker", "/health")
        accounts = {"prefect": VARIABLES["PREFECT_AUTH"], "mlflow": f"admin:{VARIABLES['MLFLOW_PASSWORD']}"}
        yield Deployed(f"{urls['prefect']}/api", urls["mlflow"], accounts)


VARIABLES = {
    "PREFECT_AUTH": "lstm:prefect-73-prefect",
    "MLFLOW_SECRET": "secret-73-secret-73",
    "MLFLOW_PASSWORD": "mlflow-73-mlflow",
}


def compose(folder: Path, ports: dict[str, int], address: str) -> Composed:
    content = yaml.safe_load((ROOT / "compose.yaml").read_text())
    engine = create_engine(address, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in content["configs"]["databases"]["content"].split(";")[:-1]:
            connection.exec_driver_sql(statement)
    engine.dispose()
    url = make_url(address)
    database = url.render_as_string(hide_password=False).partition("://")[2].rpartition("/")[0]
    (folder / "auth.ini").write_text(content["configs"]["accounts"]["content"].replace("/state", str(folder)))
    there = {f"${{{name}}}": value for name, value in VARIABLES.items()}
    there |= {"lstm:${POSTGRES_PASSWORD}@postgres:5432": database, "0.0.0.0": "127.0.0.1", "8080": str(ports["worker"])}
    there |= {"/etc/mlflow-auth.ini": str(folder / "auth.ini"), "/state": str(folder)}
    for name, port in (("prefect", 4200), ("mlflow", 5000)):
        there |= {f"--port {port}": f"--port {ports[name]}", f"{name}:{port}": f"127.0.0.1:{ports[name]}"}
        there |= {f":{port}": f":{ports[name]}"}
    hidden = ("MLFLOW_", "PREFECT_", "LSTM_")
    inherited = add_scripts_to_path({key: value for key, value in os.environ.items() if not key.startswith(hidden)})
    stores = {"LSTM_HOME": str(folder / "mlruns"), "PREFECT_HOME": str(folder / "prefect"), "PWD": str(ROOT)}
    return Composed(content["services"], there, {**inherited, **stores, "PYTHONPATH": str(ROOT)})


HOLD = """
import sys, time
from pathlib import Path
from tasks.search.gpu_limits import gpu_limits

with gpu_limits(["cuda:0", "cuda:0"]):
    Path(sys.argv[1]).touch()
    time.sleep(600)
"""


@pytest.fixture(scope="module", autouse=True)
def second_search(deployed: Deployed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Kill the first of two searches that need one GPU; yield the file that the second writes when it holds the GPU."""
    folder = tmp_path_factory.mktemp("gpu")
    limit = {"name": gpu_limit_name("cuda:0"), "limit": 1, "active": True}
    deployed.prefect("v2/concurrency_limits/", limit)
    environment = {**os.environ, "PREFECT_API_URL": deployed.api, "PREFECT_API_AUTH_STRING": VARIABLES["PREFECT_AUTH"]}

    def search(name: str) -> subprocess.Popen[bytes]:
        return start([sys.executable, "-c", HOLD, str(folder / name)], folder / f"{name}.log", environment)

    searches = [search("first")]
    try:
        until((folder / "first").exists)
        searches.append(search("second"))
        time.sleep(6)  # its imports, and a request
        assert not (folder / "second").exists()
        searches[0].kill()
        yield folder / "second"
    finally:
        stop_trees(searches, timeout=1)


def until(condition: Callable[[], Any], timeout: float = 180.0) -> Any:
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not met within {timeout:.0f} s"
        time.sleep(0.5)
    return value


def test_compose_asks_for_passwords_and_knows_all_deployments(deployed):
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert request(f"{deployed.api}/admin/version")[0] == 401
    assert request(deployed.tracking + search)[0] == 401
    assert request(deployed.tracking + search, account=deployed.accounts["mlflow"])[0] == 200
    deployments = {deployment["name"]: deployment for deployment in deployed.prefect("deployments/filter", {})}
    schedules = {name: deployment["schedules"] for name, deployment in deployments.items()}
    crons = {name: [each["schedule"]["cron"] for each in rows] for name, rows in schedules.items()}
    assert crons == {"train": ["0 3 * * 1"], "forecast": ["5 * * * *"], "monitor": ["30 6 * * *"], "backtest": []}
    assert deployments["train"]["global_concurrency_limit"]["limit"] == 1
    assert deployments["train"]["concurrency_options"]["collision_strategy"] == "ENQUEUE"
    names = {automation["name"] for automation in deployed.prefect("automations/filter", {})}
    assert names == {"crash silent flow runs", "crash flow runs that never start", "train on drift"}
    assert until(lambda: deployed.runs(type=["SCHEDULED"])), "the cron schedules of prefect.yaml make no runs"


def first_run_logged(deployed: Deployed) -> bool:
    """Whether a training has reached MLflow."""
    experiment = f"{deployed.tracking}/api/2.0/mlflow/experiments/get-by-name?experiment_name=shops"
    return request(experiment, account=deployed.accounts["mlflow"])[0] == 200


def test_a_drift_event_starts_a_training_and_a_scheduled_one_queues_behind_it(deployed, tmp_path):
    place = Place(tmp_path)
    config = str(place.write())
    overrides = [f"data.source={place.folder / 'shops.csv'}", "search.trials=1", "model.epochs=1"]
    drift = {
        "id": str(uuid.uuid4()),
        "occurred": datetime.now(UTC).isoformat(),
        "event": "lstm.drift.detected",
        "resource": {"prefect.resource.id": "lstm.model.shops", "prefect.resource.name": "shops"},
        "payload": {"name": "shops", "reason": "the errors have moved", "config": config, "overrides": overrides},
    }
    deployed.prefect("events", [drift, {**drift, "id": str(uuid.uuid4())}])  # said twice, heard once
    (first,) = until(lambda: deployed.runs(type=["RUNNING"]))
    assert first["parameters"] == {"config": config, "overrides": overrides, "reason": "the errors have moved"}
    train = deployed.prefect("deployments/name/train/train")
    soon = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    state = {"type": "SCHEDULED", "state_details": {"scheduled_time": soon}}
    body = {"parameters": {"config": config, "overrides": overrides}, "state": state}
    second = deployed.prefect(f"deployments/{train['id']}/create_flow_run", body)["id"]
    queued = until(lambda: [run["id"] for run in deployed.runs(name=["AwaitingConcurrencySlot"])])
    assert queued == [second]
    until(lambda: first_run_logged(deployed))
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # a zombie, too
            if "prefect.engine" in process.cmdline():
                process.kill()
    until(lambda: [run for run in deployed.runs() if run["id"] == second and run["state_type"] == "RUNNING"])
    runs = {run["id"]: run for run in deployed.runs()}
    assert runs[first["id"]]["state_type"] == "CRASHED"  # by its worker, at once
    assert runs[first["id"]]["end_time"] <= runs[second]["start_time"]


def test_a_gpu_is_free_again_when_the_search_that_held_it_was_killed(second_search):
    until(second_search.exists, 150)
    assert second_search.exists()
