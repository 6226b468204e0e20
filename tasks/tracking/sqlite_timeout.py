"""How long MLflow's SQLite store is waited for while another process has it locked."""

import logging
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

SECONDS = 120
_ASKED = "PRAGMA busy_timeout"


def be_patient() -> None:
    """From now on wait `SECONDS` in this process, where MLflow gives up after twenty: it sets that at the start of each
    session, whatever the address of the store says (`mlflow.store.db.utils`). Called twice, it changes nothing more."""
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # its errors are raised, too, and told once
    if not event.contains(Engine, "before_cursor_execute", _patiently):
        event.listen(Engine, "before_cursor_execute", _patiently, retval=True)


def _patiently(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
    if statement.startswith(_ASKED):
        statement = f"{_ASKED} = {SECONDS * 1000}"
    return statement, parameters
