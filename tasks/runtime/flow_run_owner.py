"""Which process runs a Prefect flow run, and how one whose process was killed is set to Crashed."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from lstm.atomic import write_atomic
from lstm.errors import StoreError
from tasks.runtime.process_owner import heartbeat, is_process_dead, this_process
from tasks.settings import home, prefect_api_url, without_password

_TIMEOUT_S = 10  # of a request to the Prefect server
_MESSAGE = "its process was killed"


@contextmanager
def owned_flow_run(flow_run_id: object) -> Iterator[None]:
    """Record this process as the owner of a flow run while the block runs; do nothing without an id (no Prefect).

    Comes first in a flow, so that a kill at any time can be detected, also before there is an MLflow run.
    """
    if not flow_run_id:
        yield
        return
    mark = _owner_folder() / str(flow_run_id)
    with suppress(OSError):  # later writes report a full disk
        write_atomic(mark, this_process().encode(), durable=False)
    try:
        with heartbeat(lambda: os.utime(mark)):
            yield
    finally:
        mark.unlink(missing_ok=True)


def flow_runs_by_liveness() -> tuple[set[str], set[str]]:
    """Return the ids of recorded flow runs: of processes that are alive or unknown, and of dead ones."""
    alive, dead = set[str](), set[str]()
    for mark in _owner_folder().glob("[!.]*"):
        with suppress(OSError, ValueError):  # it has just ended
            last_heartbeat = datetime.fromtimestamp(mark.stat().st_mtime, UTC).isoformat()
            (dead if is_process_dead(mark.read_text(encoding="utf-8"), last_heartbeat) else alive).add(mark.name)
    return alive, dead


def mark_crashed(flow_run_id: str) -> None:
    """Set an unfinished flow run and its task runs to Crashed, and delete the record of its owner.

    Raises:
        StoreError: no Prefect server is configured, or it does not answer. The record is kept then.
    """
    url = _require_server()
    with suppress(ValueError):  # not a Prefect id
        _set_crashed(UUID(flow_run_id), url)
    (_owner_folder() / flow_run_id).unlink(missing_ok=True)


def _set_crashed(flow_run_id: UUID, url: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Crashed

    # If Prefect was imported before the address was set, it would start a server of its own.
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        try:
            state = client.read_flow_run(flow_run_id).state
        except ObjectNotFound:  # it belongs to another server
            return
        if state is None or not (state.is_running() or state.is_pending() or state.is_cancelling()):
            return
        of_flow_run = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        for task_run in client.read_task_runs(flow_run_filter=of_flow_run):
            if task_run.state is not None and not task_run.state.is_final():
                client.set_task_run_state(task_run.id, Crashed(message=_MESSAGE), force=True)
        client.set_flow_run_state(flow_run_id, Crashed(message=_MESSAGE), force=True)


def _require_server() -> str:
    """Return the address of the Prefect server after checking that it answers: the client would retry for long."""
    url = prefect_api_url()
    if url is None:
        raise StoreError("PREFECT_API_URL: is not set. Set it to the Prefect server that has the flow runs.")
    try:
        urllib.request.urlopen(f"{url}/health", timeout=_TIMEOUT_S).close()
    except urllib.error.HTTPError:
        pass  # it answers; Prefect's client reports what is wrong
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise StoreError(f"{without_password(url)}: the Prefect server does not answer ({reason}).") from None
    return url


def _owner_folder() -> Path:
    return home() / "work" / "owners"
