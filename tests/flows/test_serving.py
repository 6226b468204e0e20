"""`lstm serve` as its callers see it: forecasts, refusals in one line, and an end without orphans."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from lstm.forecasting.forecaster import Forecaster
from tasks.tracking import runs
from tests.support.paths import ROOT
from tests.support.registered_model import MANY, history, of_many_shops, register, without_this_repository

pytestmark = pytest.mark.service


@dataclass(frozen=True)
class Served:
    """A running server and the line that it printed."""

    process: subprocess.Popen[str]
    line: str  # printed on stdout
    log: Path

    @property
    def url(self) -> str:
        address = re.search(r"http://[\d.]+:\d+", self.line)
        assert address, self.line
        return address[0]

    def post(self, body: Any, kind: str = "application/json") -> tuple[int, str]:
        """Return status and body of the response."""
        sent = body if isinstance(body, str) else json.dumps(body)
        request = urllib.request.Request(f"{self.url}/invocations", sent.encode(), {"Content-Type": kind})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def forecasts(self, body: Any, kind: str = "application/json") -> pd.DataFrame:
        """Return the table of the response."""
        status, answer = self.post(body, kind)
        assert status == 200, answer
        return pd.DataFrame(json.loads(answer)["predictions"])


@dataclass(frozen=True)
class Place:
    """Stores with a registered version, and the command to serve it."""

    folder: Path
    version: Path  # folder of its artifacts

    def command(self, *arguments: str) -> dict[str, Any]:
        home = {"LSTM_HOME": str(self.folder / "mlruns"), "TMPDIR": str(self.folder / "tmp"), "PYTHONPATH": str(ROOT)}
        Path(home["TMPDIR"]).mkdir(exist_ok=True)
        environment = {**without_this_repository(), **home, "OMP_NUM_THREADS": "1"}
        return {
            "args": [sys.executable, "-m", "flows.cli.app", "serve", *arguments],
            "cwd": self.folder,
            "env": environment,
            "text": True,
        }

    @contextmanager
    def serving(self, *arguments: str) -> Iterator[Served]:
        log = self.folder / "serve.log"
        with log.open("w") as errors:
            process = subprocess.Popen(**self.command(*arguments), stdout=subprocess.PIPE, stderr=errors)
        try:
            assert process.stdout is not None
            yield Served(process, process.stdout.readline(), log)
        finally:
            process.terminate()
            process.wait(60)
            process.stdout.close()

    def refused(self, *arguments: str) -> str:
        """What the command says before it ends with 2."""
        done = subprocess.run(**self.command(*arguments), capture_output=True, timeout=120)
        assert done.returncode == 2, done.stderr
        return done.stderr


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    work = tmp_path_factory.mktemp("serving")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setenv("LSTM_HOME", str(work / "mlruns"))
        runs.client.cache_clear()
        version = register(work)
        patch.setenv("MLFLOW_TRACKING_URI", "-")  # which MLflow has set: taken back with the rest
    runs.client.cache_clear()
    return Place(work, version)


@pytest.fixture(scope="module")
def server(place):
    with place.serving("shops", "--port", "0") as served:
        yield served
    assert "Traceback" not in served.log.read_text()


def split(frame: pd.DataFrame, **more: Any) -> dict[str, Any]:
    return {"dataframe_split": json.loads(frame.to_json(orient="split", index=False)), **more}


def test_one_line_says_what_answers_where_and_how_to_ask_it(server):
    assert server.line.startswith("shops/1 answers at http://127.0.0.1:")
    command = server.line.partition(": ")[2].strip()
    assert command.startswith("curl ")
    done = subprocess.run(["bash", "-c", f"{command} --silent --fail"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and len(json.loads(done.stdout)["predictions"]) == 12


def test_every_form_of_a_request_gives_the_forecasts_of_the_library(server, place):
    frame = history()
    answers = [
        server.forecasts(split(frame)),
        server.forecasts({"dataframe_records": json.loads(frame.to_json(orient="records"))}),
        server.forecasts(frame.to_csv(index=False), "text/csv"),
    ]
    direct = Forecaster.load(place.version / "artifacts" / "forecaster").forecast(frame)
    for forecasts in answers:
        assert list(forecasts.columns) == list(direct.columns)
        assert forecasts["series"].tolist() == direct["series"].tolist()
        assert pd.to_datetime(forecasts["time"]).tolist() == direct["time"].tolist()
        np.testing.assert_allclose(forecasts.drop(columns=["series", "time"]), direct.drop(columns=["series", "time"]))


def test_params_choose_horizon_and_levels(server):
    forecasts = server.forecasts(split(history(), params={"horizon": 2, "levels": [50]}))
    assert list(forecasts.columns) == ["series", "time", "forecast", "lo-50", "hi-50"]
    assert forecasts.groupby("series").size().to_dict() == {"north": 2, "south": 2}


def test_steps_beyond_the_trained_horizon_are_marked(server):
    forecasts = server.forecasts(split(history(), params={"horizon": 9, "levels": [80]}))
    trained = server.forecasts(split(history(), params={"levels": [80]}))
    assert forecasts["rolled"].tolist() == ([False] * 6 + [True] * 3) * 2
    assert forecasts.loc[~forecasts["rolled"], "forecast"].tolist() == trained["forecast"].tolist()
    assert np.isfinite(forecasts["forecast"]).all()


def test_ten_thousand_series_in_one_request_are_those_of_the_library(server, place):
    frame = of_many_shops()
    forecasts = server.forecasts(frame.to_csv(index=False), "text/csv")
    direct = Forecaster.load(place.version / "artifacts" / "forecaster").forecast(frame)
    assert len(forecasts) == 6 * MANY and forecasts["series"].nunique() == MANY
    assert forecasts["series"].tolist() == direct["series"].tolist()
    np.testing.assert_allclose(forecasts["forecast"], direct["forecast"], rtol=1e-9)


def changed(**columns: Any) -> dict[str, Any]:
    return split(history().assign(**columns))


def with_cell(text: str) -> str:
    """A request in which one number reads `text`."""
    frame = history().assign(sales=lambda f: f["sales"].where(f.index != f.index[3], 123456.5))
    return json.dumps(split(frame)).replace("123456.5", text)


JSON, CSV = "application/json", "text/csv"
BAD: dict[str, tuple[Any, str, int, str]] = {
    "too little history": (split(history(23)), JSON, 400, "series 'north': a forecast needs 24 rows of history"),
    "an unknown series": (split(history().replace("north", "west")), JSON, 400, "series 'west' was not there in train"),
    "an unknown series of numbers": (changed(shop=[5] * 30 + [6] * 30), JSON, 400, "series '5' was not there"),
    "a missing covariate": (split(history().drop(columns="visitors")), JSON, 400, "history: column 'visitors' is not"),
    "it in CSV": (history().drop(columns="visitors").to_csv(index=False), CSV, 400, "history: column 'visitors' is no"),
    "text for a number": (changed(sales="many"), JSON, 400, "history: column 'sales', row 1: 'many' is no number."),
    "it in CSV, too": (history().assign(sales="many").to_csv(index=False), CSV, 400, "history: column 'sales', row 1:"),
    "a list for a number": (changed(sales=[[1]] * 60), JSON, 400, "history: column 'sales', row 1: [1] is no number."),
    "a number for a time": (changed(time=range(60)), JSON, 400, "history: column 'time', row 1: 0 is a number"),
    "no time": (changed(time=None), JSON, 400, "history: column 'time', row 1: the time is empty or NA."),
    "no series": (changed(shop=None), JSON, 400, "history: column 'shop', row 1: the id is empty or NA."),
    "NaN alone": (changed(sales=None), JSON, 400, "history: target 'sales' has no value in any row."),
    "infinity": (with_cell("Infinity"), JSON, 400, "history: column 'sales', row 4: inf is not finite."),
    "a column twice": (
        {"dataframe_split": {"columns": ["time", "shop", "sales", "sales"], "data": [["a", "b", 1, 2]]}},
        JSON,
        400,
        "history: column 'sales' is there twice.",
    ),
    "no rows": (split(history()[:0]), JSON, 400, "history: holds no rows."),
    "no rows in CSV": ("time,shop,sales,visitors\n", CSV, 400, "history: holds no rows."),
    "no records": ({"dataframe_records": []}, JSON, 400, "history: column 'time' is not there."),
    "nothing": ("", JSON, 400, "Invalid input. Ensure that input is a valid JSON"),
    "no CSV": ("", CSV, 400, "Failed to parse input as a Pandas DataFrame."),
    "ragged CSV": ("time,shop\n1,2,3\n4,5,6,7\n", CSV, 400, "Failed to parse input as a Pandas DataFrame."),
    "ragged rows": ({"dataframe_split": {"columns": ["time"], "data": [[1, 2]]}}, JSON, 400, "Invalid input."),
    "malformed JSON": ('{"dataframe_split": ', JSON, 400, "Invalid input. Ensure that input is a valid JSON formatted"),
    "a list": ([1], JSON, 400, "Invalid input. The input must be a JSON dictionary with exactly one"),
    "no form": ({"frame": []}, JSON, 400, "The input must be a JSON dictionary with exactly one"),
    "another content type": ("<table/>", "text/xml", 415, "This predictor only supports"),
    "another character set": ("time\n", "text/csv; charset=latin-1", 415, "The scoring server only supports UTF-8"),
    "a horizon of 0": (changed() | {"params": {"horizon": 0}}, JSON, 400, ""),
    "a horizon of text": (changed() | {"params": {"horizon": "six"}}, JSON, 400, "Invalid parameters found: "),
    "a level of 101": (changed() | {"params": {"levels": [101]}}, JSON, 400, "levels must be whole percents from 1 to"),
    "a level alone": (changed() | {"params": {"levels": 80}}, JSON, 400, "Invalid parameters found: "),
    "an unknown param": (changed() | {"params": {"horizn": 3}}, JSON, 400, "params: 'horizn' is unknown. Did you mean"),
    "params in a list": (changed() | {"params": [3]}, JSON, 400, "Parameters must be a dictionary."),
}


BAD_JSON = {
    "nested lists": "[" * 100_000 + "]" * 100_000,
    "nested objects": '{"dataframe_split":' * 5_000 + "1" + "}" * 5_000,
    "a column that is a list": '{"dataframe_split": {"columns": ["time", ["a"]], "data": [[1, 2]]}}',
    "a number that no float holds": json.dumps(split(history().assign(sales=10**400))),
}


@pytest.mark.parametrize("body", BAD_JSON.values(), ids=BAD_JSON)
def test_what_breaks_the_parser_is_bad_input_too(server, body):
    status, answer = server.post(body)
    message = json.loads(answer)["message"]
    assert status == 400 and "\n" not in message and "unexpected" not in message, answer


@pytest.mark.parametrize("name", BAD)
def test_a_bad_request_is_told_in_one_line_and_harms_nothing(server, name):
    body, kind, status, expected = BAD[name]
    got, answer = server.post(body, kind)
    assert got == status, answer
    message = json.loads(answer)["message"] if got == 400 else answer
    assert message.startswith(expected)
    assert "\n" not in message and len(message) < 600
    assert "Traceback" not in answer and "stack_trace" not in answer
    assert len(server.forecasts(split(history()))) == 12
    assert "Traceback" not in server.log.read_text()


def test_a_request_without_a_content_type_is_answered_with_415(server):
    command = ["curl", "--silent", "-H", "Content-Type:", "-d", "a", "-w", "%{http_code}", f"{server.url}/invocations"]
    response = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert response.endswith("415") and "The request has no Content-Type." in response


def test_a_missing_value_within_the_gap_rule_is_no_error(server):
    forecasts = server.forecasts(with_cell("NaN"))
    assert len(forecasts) == 12 and np.isfinite(forecasts["forecast"]).all()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_server_and_its_workers(place, number):
    before = set((place.folder / "tmp").glob("lstm-serve-*"))
    with place.serving("shops@champion", "--port", "0", "--workers", "2") as served:
        family = psutil.Process(served.process.pid).children(recursive=True)
        assert len(family) >= 2
        assert len(served.forecasts(split(history()))) == 12
        os.kill(served.process.pid, number)
        assert served.process.wait(60) == 0
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
    assert served.log.read_text() == ""
    assert set((place.folder / "tmp").glob("lstm-serve-*")) == before


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends orphans on Linux alone")
def test_workers_end_when_the_server_is_killed(place):
    with place.serving("shops/1", "--port", "0", "--workers", "2") as served:
        family = psutil.Process(served.process.pid).children(recursive=True)
        served.process.kill()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []


def test_what_can_not_be_served_is_told(place, server):
    assert "there is no registered model 'shop'" in place.refused("shop")
    assert "has no alias 'best'" in place.refused("shops@best")
    assert "there is no version '7' of 'shops'" in place.refused("shops/7")
    assert "is a folder, and MLflow serves what is registered" in place.refused(str(place.folder))
    port = server.url.rpartition(":")[2]
    assert f"127.0.0.1:{port}: can't be listened on (Address already in use)" in place.refused("shops", "--port", port)
    assert "`--workers >= 1` must hold" in place.refused("shops", "--workers", "0")


def test_artifacts_that_are_gone_are_told_and_no_server_starts(place):
    away = place.version.with_name("away")
    place.version.rename(away)
    try:
        message = place.refused("shops", "--port", "0")
    finally:
        away.rename(place.version)
    assert message.startswith("lstm: shops/1: its artifacts at ") and "can't be fetched" in message
    assert message.count("\n") == 1
