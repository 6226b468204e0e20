"""Raise the busy timeout of MLflow's SQLite store, for times when another process has it locked."""

import logging
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine

TIMEOUT_S = 120
_PRAGMA = "PRAGMA busy_timeout"


def raise_busy_timeout() -> None:
    """Make all sessions of this process wait `TIMEOUT_S` for a lock. Idempotent.

    MLflow sets 20 seconds at the start of each session, whatever the store's address says (`mlflow.store.db.utils`).
    """
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # it logs errors that it raises too
    if not event.contains(Engine, "before_cursor_execute", _replace_timeout):
        event.listen(Engine, "before_cursor_execute", _replace_timeout, retval=True)


def _replace_timeout(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:
    if statement.startswith(_PRAGMA):
        statement = f"{_PRAGMA} = {TIMEOUT_S * 1000}"
    return statement, parameters
