"""Protection against unauthorised requests, pickles, changed artifacts and leaked passwords."""

import ast
import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path

import pytest

from lstm.errors import CheckpointError, ConfigError
from tasks import settings
from tasks.registry.checksum import CHECKSUM_TAG, checksum
from tasks.registry.models import download_artifacts, load_forecaster
from tasks.registry.versions import version_tags
from tasks.runtime.network import is_loopback
from tasks.serving import app as serving_app
from tasks.serving import server
from tasks.tracking import runs
from tests.support.paths import ROOT
from tests.support.registered_model import registered

SOURCES = sorted(path for floor in ("lstm", "tasks", "flows") for path in (ROOT / floor).rglob("*.py"))
TOKEN = "a-token-for-the-tests-73"

# --- what the code may not do

PICKLES = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
FORBIDDEN = {
    *("eval", "exec", "builtins.eval", "builtins.exec", "__import__", "os.system", "os.popen"),
    *("pd.read_pickle", "torch.load", "torch.jit.load", "yaml.unsafe_load", "yaml.full_load"),
    *("mktemp", "tempfile.mktemp"),
}
SAFE_LOADERS = {"_UniqueKeys", "SafeLoader", "CSafeLoader"}


def offences(source: str) -> list[str]:
    """Return the calls of a module that could run code from a file."""
    return [f"line {node.lineno}: {problem}" for node in ast.walk(ast.parse(source)) if (problem := offence(node))]


def offence(node: ast.AST) -> str:
    if isinstance(node, ast.Import | ast.ImportFrom):
        named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
        return next((name for name in named if name.partition(".")[0] in PICKLES), "")
    if not isinstance(node, ast.Call):
        return ""
    text, given = ast.unparse(node.func), {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
    if text in FORBIDDEN:
        return text
    if given.get("allow_pickle", "False") != "False":
        return f"{text} with pickles"
    loader = ast.unparse(node.args[1]) if len(node.args) > 1 else given.get("Loader", "")
    if text in ("yaml.load", "yaml.load_all") and loader.rpartition(".")[2] not in SAFE_LOADERS:
        return f"{text} with loader {loader or 'unsaid'}"
    return f"{text} through a shell" if given.get("shell", "False") != "False" else ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_reads_a_pickle_or_runs_what_it_reads(path):
    assert offences(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from cloudpickle import loads",
        "import joblib.parallel",
        "np.load('x', allow_pickle=True)",
        "np.load('x', allow_pickle=allowed)",
        "torch.load('x')",
        "torch.load('x', weights_only=True)",
        "pd.read_pickle('x')",
        "yaml.load(text, yaml.Loader)",
        "yaml.load(text)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "builtins.eval(text)",
        "exec(text)",
        "os.system(text)",
        "subprocess.run(text, shell=True)",
        "tempfile.mktemp()",
    ],
)
def test_the_search_for_unsafe_code_detects_it(source):
    assert len(offences(source)) == 1


def test_the_search_for_unsafe_code_passes_what_is_safe():
    safe = "network.eval()\nnp.load('x', allow_pickle=False)\nyaml.load(text, _UniqueKeys)\nyaml.safe_load(text)"
    assert offences(safe) == []


def test_the_loader_of_configurations_is_a_safe_one():
    import yaml

    from lstm.load_config import _UniqueKeys

    assert issubclass(_UniqueKeys, yaml.SafeLoader)
    with pytest.raises(yaml.YAMLError):
        yaml.load("!!python/object/apply:os.getcwd []", _UniqueKeys)


def test_mlflow_is_told_to_read_no_pickle(monkeypatch):
    monkeypatch.delenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION")
    settings.set_default_environment()
    assert os.environ["MLFLOW_ALLOW_PICKLE_DESERIALIZATION"] == "false"


# --- who may connect


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"])
def test_a_loopback_address_is_known(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "", "0", "10.0.0.1", "::ffff:10.0.0.1", "no.name.invalid", "a" * 300]
)
def test_any_other_address_is_not_loopback(host):
    assert not is_loopback(host)


def refused(host: str) -> str:
    with pytest.raises(ConfigError) as caught:
        server.serve("shops", host, 0, 1, print)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1"])
def test_a_public_address_is_not_served_without_a_token(monkeypatch, host):
    monkeypatch.delenv("LSTM_SERVE_TOKEN", raising=False)
    message = refused(host)
    assert message.startswith(f"--host {host}: ") and "export LSTM_SERVE_TOKEN=$(openssl rand -hex 32)" in message


@pytest.mark.parametrize(
    "token", ["", "short-and-weak", "with a space in the token", "Umlaut-wie-ä-im-Token", "tab\t" * 9]
)
def test_a_weak_token_is_refused_and_not_shown(monkeypatch, token):
    monkeypatch.setenv("LSTM_SERVE_TOKEN", token)
    message = refused("127.0.0.1")
    assert message.startswith("LSTM_SERVE_TOKEN: must be 16 or more ASCII characters")
    assert not token or token not in message


def answered(path: str, *headers: tuple[bytes, bytes], kind: str = "http") -> list[dict]:
    """Return the messages that the bearer middleware sends in front of an app that answers every request."""
    sent = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        sent.append(message)

    scope = {"type": kind, "method": "POST", "path": path, "headers": list(headers)}
    asyncio.run(serving_app.BearerAuth(app, TOKEN)(scope, None, send))
    return sent


BEARER = (b"authorization", f"Bearer {TOKEN}".encode())


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [(b"authorization", b"")],
        [(b"authorization", b"Bearer")],
        [(b"authorization", b"Bearer wrong")],
        [(b"authorization", f"Basic {TOKEN}".encode())],
        [(b"authorization", TOKEN.encode())],
        [(b"authorization", f"Bearer {TOKEN}x".encode())],
        [(b"authorization", b"Bearer \xff\xfe")],
        [BEARER, (b"authorization", b"Bearer wrong")],
    ],
)
def test_a_request_without_the_token_gets_401_in_one_line(headers):
    start, body = answered("/invocations", *headers)
    assert start["status"] == 401 and (b"www-authenticate", b"Bearer") in start["headers"]
    assert body["body"].count(b"\n") == 0 and TOKEN.encode() not in body["body"]


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
def test_a_request_with_the_token_is_answered(scheme):
    (answer,) = answered("/invocations", (b"authorization", f"{scheme} {TOKEN}".encode()))
    assert answer["status"] == 200


def test_only_health_endpoints_need_no_token():
    assert [answered(path)[0]["status"] for path in ("/ping", "/health", "/version")] == [200] * 3
    closed = ("/ping/", "/ping/../invocations", "//ping", "/docs", "/openapi.json", "/PING", "/")
    assert [answered(path)[0]["status"] for path in closed] == [401] * 7
    assert answered("/ping", kind="websocket") == [{"type": "websocket.close", "code": 1008}]


# --- passwords in addresses


@pytest.fixture
def environment(monkeypatch) -> Iterator[dict[str, str]]:
    for name in ("URI", "USERNAME", "PASSWORD"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "-")
    yield os.environ


@pytest.mark.parametrize(
    ("uri", "left", "user", "password"),
    [
        ("https://ann:p%40ss%2Fword@host:5000/mlflow", "https://host:5000/mlflow", "ann", "p@ss/word"),
        ("http://ann:p@ss@host", "http://host", "ann", "p@ss"),
        ("http://ann@host", "http://host", "ann", ""),
        ("http://host/a@b", "http://host/a@b", "-", "-"),
        ("postgresql://ann:secret@host/mlflow", "postgresql://ann:secret@host/mlflow", "-", "-"),
        ("http://[broken", "http://[broken", "-", "-"),
    ],
)
def test_the_login_of_a_tracking_server_leaves_its_address(environment, uri, left, user, password):
    environment["MLFLOW_TRACKING_URI"] = uri
    settings.set_default_environment()
    values = [environment[f"MLFLOW_TRACKING_{name}"] for name in ("URI", "USERNAME", "PASSWORD")]
    assert values == [left, user, password]


# --- what was registered is what is loaded


@pytest.fixture(scope="module")
def version(tmp_path_factory) -> Iterator[Path]:
    """The folder of version 1 in the store."""
    with registered(tmp_path_factory.mktemp("sealed")) as folder:
        yield folder


@pytest.fixture
def artefact(version, tmp_path) -> Iterator[Path]:
    """The folder of version 1, restored after the test."""
    shutil.copytree(version, tmp_path / "copy")
    yield version
    shutil.rmtree(version)
    shutil.copytree(tmp_path / "copy", version)


def test_a_version_gets_its_checksum_at_registration(version):
    tagged = version_tags("shops", 1)[CHECKSUM_TAG]
    command = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"  # docs/security.md
    printed = subprocess.run(["bash", "-c", command], cwd=version, capture_output=True, text=True, check=True).stdout
    assert tagged == checksum(version) == printed.split()[0]
    assert load_forecaster("shops/1")[1] == "shops/1"


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


SPOILT = {
    "a bit of the weights": lambda folder: flipped(next(folder.rglob("model.safetensors"))),
    "a truncated file": lambda folder: os.truncate(next(folder.rglob("model.safetensors")), 1000),
    "both files of another forecaster": lambda folder: (folder / "artifacts/forecaster/forecaster.json").write_text(
        "{}"
    ),
    "code that is carried": lambda folder: (folder / "code/lstm/errors.py").write_text("print('mine')"),
    "the entry": lambda folder: (folder / "pyfunc_model.py").write_text("print('mine')"),
    "the description": lambda folder: (folder / "MLmodel").write_text("{}"),
    "one file more": lambda folder: (folder / "code/torch.py").write_text("print('mine')"),
    "one file less": lambda folder: (folder / "requirements.txt").unlink(),
    "a link to other code": lambda folder: (folder / "code/torch").symlink_to(folder / "code/lstm"),
    "a name": lambda folder: (folder / "pyfunc_model.py").rename(folder / "pyfunc_models.py"),
}


@pytest.mark.parametrize("what", SPOILT)
def test_a_changed_artifact_is_an_error_before_it_is_read(artefact, monkeypatch, what):
    SPOILT[what](artefact)
    monkeypatch.setattr("lstm.forecasting.forecaster.Forecaster.load", lambda *_: pytest.fail("was read"))
    with pytest.raises(CheckpointError, match=r"^shops/1: its files are not those that were registered") as caught:
        load_forecaster("shops")
    message = str(caught.value)
    assert (
        "\n" not in message
        and version_tags("shops", 1)[CHECKSUM_TAG][:12] in message
        and "lstm train CONFIG" in message
    )


def test_a_changed_artifact_is_neither_served_nor_promoted(artefact, monkeypatch):
    from tasks.registry.promotion import promote

    SPOILT["code that is carried"](artefact)
    monkeypatch.setattr(server, "_run", lambda *_: pytest.fail("was served"))
    with pytest.raises(CheckpointError, match="shops/1: its files are not those that were registered"):
        server.serve("shops/1", "127.0.0.1", 0, 1, print)
    with pytest.raises(CheckpointError, match="shops/1: its files are not those that were registered"):
        promote("shops", "1", force=True)


def test_caches_in_the_store_are_neither_counted_nor_run(artefact, tmp_path):
    cache = artefact / "code/lstm/__pycache__"
    cache.mkdir()
    (cache / "errors.cpython-311.pyc").write_bytes(b"planted")
    (artefact / "registered_model_meta").write_text("model_name: shops")
    copy = download_artifacts("shops/1", str(tmp_path / "fetched"))
    assert not list(copy.rglob("__pycache__")) and not (copy / "registered_model_meta").exists()


def test_a_version_without_a_checksum_is_loaded_but_its_code_is_not_run(version, tmp_path):
    client = runs.client()
    number = client.create_model_version("shops", version.as_uri(), await_creation_for=0).version
    assert load_forecaster(f"shops/{number}")[1] == f"shops/{number}"
    with pytest.raises(CheckpointError, match=rf"^shops/{number}: has no tag artefact_sha256.*lstm train CONFIG$"):
        server.serve(f"shops/{number}", "127.0.0.1", 0, 1, print)


# --- make audit


@pytest.fixture
def audit(monkeypatch):
    loader = SourceFileLoader("audit", str(ROOT / ".ci" / "audit"))
    module = module_from_spec(spec_from_loader("audit", loader))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    loader.exec_module(module)
    return module


HOLE = [{"name": "jinja2", "version": "2.4.1", "vulns": [{"id": "GHSA-1", "fix_versions": ["3"]}]}]
UNKNOWN = [{"name": "torch", "skip_reason": "Dependency not found"}]


def test_an_audit_that_knows_no_package_says_that_nothing_was_checked(audit, monkeypatch, capsys):
    monkeypatch.setattr(audit, "audited", lambda *_: UNKNOWN)
    assert audit.main() == 0
    assert "nothing was checked" in capsys.readouterr().out


def test_a_vulnerability_fails_the_audit_unless_it_is_allowed_with_a_reason(audit, monkeypatch, capsys):
    monkeypatch.setattr(audit, "audited", lambda *_: HOLE + UNKNOWN)
    assert audit.main() == 1
    assert "jinja2 2.4.1: GHSA-1, mended in 3" in capsys.readouterr().out
    monkeypatch.setitem(audit.ALLOWED, "GHSA-1", "never renders a stranger's template")
    assert audit.main() == 0
    assert "allowed: jinja2 2.4.1: GHSA-1, mended in 3 (never renders" in capsys.readouterr().out
