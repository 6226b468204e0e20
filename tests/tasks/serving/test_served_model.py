"""The packaged model: files without a pickle that load without this repository."""

import ast
import json
import pickletools
import subprocess
import sys
from importlib.metadata import packages_distributions
from io import StringIO
from pathlib import Path

import mlflow
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import scoring_server

from lstm.forecasting.forecaster import Forecaster
from tasks.serving import app
from tests.support.registered_model import history, registered, without_this_repository

TEXT = {"", ".cpp", ".json", ".py", ".txt", ".yaml"}


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """The folder of a registered version in the store."""
    with registered(tmp_path_factory.mktemp("served")) as folder:
        yield folder


@pytest.fixture(scope="module")
def model(version):
    """The version, loaded as the scoring server does."""
    return mlflow.pyfunc.load_model(str(version))


def invoke(model, body, kind="application/json"):
    """Send a request through the handler of MLflow's scoring server; return status and JSON."""
    sent = body if isinstance(body, str) else json.dumps(body)
    try:
        answer = scoring_server.invocations(sent.encode(), kind, model, model.metadata.get_input_schema())
    except MlflowException as error:
        return error.get_http_status_code(), json.loads(error.serialize_as_json())
    return answer.status, json.loads(answer.response)


def split(frame):
    return {"dataframe_split": json.loads(frame.to_json(orient="split", index=False))}


def is_pickle(content):
    """Return whether the content starts with a pickle of any protocol."""
    try:
        return len(list(pickletools.genops(content))) > 1
    except ValueError:
        return False


def test_no_file_of_a_version_is_a_pickle(version):
    files = [path for path in version.rglob("*") if path.is_file()]
    assert {path.relative_to(version).parts[0] for path in files} >= {"MLmodel", "artifacts", "code", "pyfunc_model.py"}
    assert [path for path in files if path.suffix not in TEXT | {".safetensors"}] == []
    assert [path for path in files if is_pickle(path.read_bytes())] == []
    for path in files:
        if path.suffix in TEXT:
            path.read_text(encoding="utf-8")
    assert sorted(path.name for path in files if path.suffix == ".safetensors") == ["model.safetensors"]


def test_the_check_for_pickles_detects_one():
    import pickle

    assert all(is_pickle(pickle.dumps({"a": [1.5]}, protocol)) for protocol in range(6))


ELSEWHERE = """
import importlib.util, json, sys
editable = [one for one in sys.meta_path if getattr(one, "__module__", "").startswith("__editable__")]
for one in editable:  # installed from a checkout: as if it were not
    sys.meta_path.remove(one)
found = {name: importlib.util.find_spec(name) is not None for name in ("lstm", "tasks", "flows")}
import pandas as pd
folder, source, way = sys.argv[1:]
history = pd.read_json(source, dtype=False, convert_dates=False)
if way == "mlflow":
    import mlflow, mlflow.pyfunc, torch
    unpickled = []
    sys.addaudithook(lambda event, found: unpickled.append(found) if event == "pickle.find_class" else None)
    made = mlflow.pyfunc.load_model(folder).predict(history, {"horizon": 4, "levels": [80]})
else:
    sys.modules["mlflow"], unpickled = None, []
    sys.path.insert(0, folder + "/code")
    from lstm.forecasting.forecaster import Forecaster
    made = Forecaster.load(folder + "/artifacts/forecaster").forecast(history, 4, [80])
import lstm
print(json.dumps({"found": found, "lstm": lstm.__file__, "unpickled": len(unpickled),
                  "forecast": [value.hex() for value in made[["forecast", "lo-80", "hi-80"]].to_numpy().ravel()]}))
"""


@pytest.mark.slow
@pytest.mark.parametrize("way", ["mlflow", "folder"])
def test_a_version_loads_without_this_repository_and_gives_the_same_bits(version, tmp_path, way):
    history().to_json(tmp_path / "history.json", orient="records")
    environment = {**without_this_repository(), "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "OMP_NUM_THREADS": "1"}
    arguments = [sys.executable, "-P", "-c", ELSEWHERE, str(version), "history.json", way]
    done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["found"] == {"lstm": False, "tasks": False, "flows": False}
    assert Path(answer["lstm"]).is_relative_to(version / "code")
    assert answer["unpickled"] == 0
    here = Forecaster.load(version / "artifacts" / "forecaster").forecast(history(), 4, [80])
    assert answer["forecast"] == [value.hex() for value in here[["forecast", "lo-80", "hi-80"]].to_numpy().ravel()]


def test_the_forecaster_and_the_pyfunc_give_the_same_bits(version, model):
    direct = Forecaster.load(version / "artifacts" / "forecaster").forecast(history(), 3, [50, 90])
    served = model.predict(history(), {"horizon": 3, "levels": [50, 90]})
    pd.testing.assert_frame_equal(served, direct, check_exact=True)
    pd.testing.assert_frame_equal(
        model.predict(history()),
        Forecaster.load(version / "artifacts" / "forecaster").forecast(history()),
        check_exact=True,
    )


@pytest.mark.slow
def test_the_requirements_name_every_package_that_the_code_imports(version):
    names = "'\\n'.join(name for name in sys.modules if name.startswith('lstm'))"
    script = f"import sys, lstm.forecasting.forecaster; print({names})"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=version / "code", capture_output=True, text=True, check=True, timeout=120
    )
    wanted = set()
    for name in done.stdout.split():
        path = version / "code" / name.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                wanted |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                wanted.add(node.module.partition(".")[0])
    packages = packages_distributions()
    wanted = {packages[name][0].lower() for name in wanted - {"lstm"} if name not in sys.stdlib_module_names}
    lines = (version / "requirements.txt").read_text(encoding="utf-8").split()
    assert all("==" in line for line in lines)
    assert {"torch", "numpy", "pandas"} < wanted <= {line.partition("==")[0] for line in lines}


def test_the_input_example_is_small_and_passes_the_scoring_code(version, model):
    example = (version / "serving_input_example.json").read_text(encoding="utf-8")
    assert len(example) < 20_000
    status, answer = invoke(model, example)
    assert status == 200
    assert len(answer["predictions"]) == 2 * 6


@pytest.mark.slow
def test_the_input_example_passes_mlflow_models_predict(version, tmp_path):
    out = tmp_path / "made.json"
    example = str(version / "serving_input_example.json")
    mlflow.models.predict(str(version), input_path=example, output_path=str(out), env_manager="local")
    assert len(json.loads(out.read_text(encoding="utf-8"))["predictions"]) == 2 * 6


def test_the_signature_says_types_and_params(model):
    schema = {column.name: str(column.type) for column in model.metadata.get_input_schema()}
    kinds = ["DataType.string", "DataType.string", "DataType.double", "DataType.double"]
    assert schema == dict(zip(("time", "shop", "sales", "visitors"), kinds, strict=True))
    params = {param.name: (param.default, param.shape) for param in model.metadata.get_params_schema()}
    assert params == {"horizon": (6, None), "levels": ([80, 95], (-1,))}
    forecasts = model.predict(history())
    assert list(forecasts.columns) == [column.name for column in model.metadata.get_output_schema()]


def test_every_form_of_a_request_gives_the_same_forecast(model):
    frame = history()
    text = StringIO()
    frame.to_csv(text, index=False)
    shuffled = frame.sample(frac=1, random_state=0)[["visitors", "shop", "time", "sales"]]
    answers = [
        invoke(model, split(frame)),
        invoke(model, split(shuffled)),
        invoke(model, {"dataframe_records": json.loads(frame.to_json(orient="records"))}),
        invoke(model, text.getvalue(), "text/csv"),
        invoke(model, text.getvalue(), "text/csv; charset=utf-8"),
    ]
    assert [status for status, _ in answers] == [200] * 5
    first = answers[0][1]["predictions"]
    assert list(first[0]) == ["series", "time", "forecast", "lo-80", "hi-80", "lo-95", "hi-95"]
    assert first[0]["time"] == "2024-04-10T00:00:00+00:00"
    for _, answer in answers[1:]:
        assert [row["forecast"] for row in answer["predictions"]] == pytest.approx([row["forecast"] for row in first])


def test_lstm_serve_writes_the_same_json_as_mlflow(model):
    forecasts = app.StrictModel(model).predict(history())
    written, expected = StringIO(), StringIO()
    app.write_forecasts(forecasts, written)
    scoring_server.predictions_to_json(model.predict(history()), expected)
    assert written.getvalue() == expected.getvalue()
    assert len(written.getvalue()) > 1000


REFUSED = {
    "too little history": (lambda f: f.groupby("shop").tail(23), "series 'north': a forecast needs 24 rows of history"),
    "an unknown series": (lambda f: f.replace("north", "west"), "series 'west' was not there in training."),
    "a missing covariate": (lambda f: f.drop(columns="visitors"), "history: column 'visitors' is not there."),
    "no rows": (lambda f: f[:0], "history: holds no rows."),
    "a time that is none": (lambda f: f.assign(time="soon"), "history: column 'time', row 1: 'soon' is no time."),
    "no value at all": (lambda f: f.assign(sales=float("nan")), "history: target 'sales' has no value in any row."),
    "a row twice": (lambda f: pd.concat([f, f[:1]]), "history: rows 1 and 61: series 'north' has"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_data_are_answered_with_400_and_one_line(model, name):
    change, message = REFUSED[name]
    status, answer = invoke(model, split(change(history())))
    assert status == 400
    assert answer["message"].startswith(message)
    assert "\n" not in answer["message"] and len(answer["message"]) < 600
    assert "stack_trace" not in answer


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"horizon": 0}, "horizon"),
        ({"horizon": -3}, "horizon"),
        ({"levels": [80, 101]}, "levels must be whole percents from 1 to 99, but got 101."),
    ],
)
def test_params_out_of_bounds_are_answered_with_400(model, params, message):
    status, answer = invoke(model, {**split(history()), "params": params})
    assert status == 400 and message in answer["message"] and "\n" not in answer["message"]
