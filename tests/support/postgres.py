"""A PostgreSQL server for tests, run by an unprivileged user."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest

from tasks.runtime.network import free_port

PASSWORD = "Ge/heim@73%"  # characters that a URL must quote
QUOTED = quote(PASSWORD, safe="")
SECRETS = (PASSWORD, QUOTED, "Ge/heim", "heim@73", "secretkey73", "wrongkey73")


@contextmanager
def postgres_server() -> Iterator[str]:
    """Start a server and yield its URL, `postgresql+psycopg://…`. Skips the test where PostgreSQL is not installed."""
    programs, port = _programs(), free_port()
    home = Path(tempfile.mkdtemp(prefix="postgres-"))  # the server's user can't read pytest's folders
    user = {"user": "postgres", "group": "postgres"} if os.getuid() == 0 else {}  # PostgreSQL refuses to run as root
    if user:
        shutil.chown(home, "postgres", "postgres")

    def run(*command: str) -> None:
        subprocess.run(command, check=True, cwd=home, stdout=subprocess.DEVNULL, **user)

    (home / "password").write_text(PASSWORD)
    data, options = str(home / "data"), f"-p {port} -c listen_addresses=127.0.0.1 -k '' -c fsync=off"
    try:
        run(f"{programs}/initdb", "-D", data, "-U", "reader", "-A", "scram-sha-256", f"--pwfile={home}/password")
        run(f"{programs}/pg_ctl", "-D", data, "-w", "-l", str(home / "log"), "-o", options, "start")
        try:
            yield f"postgresql+psycopg://reader:{QUOTED}@127.0.0.1:{port}/postgres"
        finally:
            run(f"{programs}/pg_ctl", "-D", data, "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home)


def missing(package: str) -> None:
    """Skip the test, or fail it if LSTM_REQUIRE_SERVICES is set."""
    if os.environ.get("LSTM_REQUIRE_SERVICES"):
        pytest.fail(f"LSTM_REQUIRE_SERVICES is set, but {package} is not installed")
    pytest.skip(f"{package} is not installed")


def _programs() -> Path:
    """Return the folder of the newest installed server's programs."""
    servers = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if not servers:
        missing("the system's package postgresql")
    return servers[-1].parent
