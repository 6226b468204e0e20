"""Flow runs of Prefect, by who is at them: one whose process was killed stays Running for Prefect."""

import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from lstm.errors import StoreError
from lstm.networks.checkpoint import write_atomic
from tasks.runtime.process_owner import heartbeat, is_dead, this_process
from tasks.settings import home, prefect_api_url, without_password

_PATIENCE = 10  # seconds for the Prefect server to answer
_WHY = "its process was killed"


@contextmanager
def owned_flow_run(flow_run_id: object) -> Iterator[None]:
    """For the length of a flow: put down which process is at it. Without an id (no Prefect) nothing is done.

    The first thing in a flow: what it is killed in later is then told from what is alive, long before it has an MLflow
    run.
    """
    if not flow_run_id:
        yield
        return
    mark = _marks() / str(flow_run_id)
    with suppress(OSError):  # a full disk is told by what needs it
        write_atomic(mark, this_process().encode(), durable=False)
    try:
        with heartbeat(lambda: os.utime(mark)):
            yield
    finally:
        mark.unlink(missing_ok=True)


def marked_flow_runs() -> tuple[set[str], set[str]]:
    """The ids of flow runs with a mark: those whose process is alive (or may be), and those whose process is dead."""
    alive, dead = set[str](), set[str]()
    for mark in _marks().glob("[!.]*"):
        with suppress(OSError, ValueError):  # it has just ended
            seen = datetime.fromtimestamp(mark.stat().st_mtime, UTC).isoformat()
            (dead if is_dead(mark.read_text(encoding="utf-8"), seen) else alive).add(mark.name)
    return alive, dead


def crash(flow_run_id: str) -> None:
    """Set a flow run that counts as running to Crashed, its task runs with it; forget whose it was.

    Raises:
        StoreError: no Prefect server is configured, or it does not answer. Nothing is forgotten then.
    """
    url = _answering()
    with suppress(ValueError):  # no id of Prefect's
        _crash(UUID(flow_run_id), url)
    (_marks() / flow_run_id).unlink(missing_ok=True)


def _crash(flow_run_id: UUID, url: str) -> None:
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
    from prefect.exceptions import ObjectNotFound
    from prefect.settings import PREFECT_API_URL, temporary_settings
    from prefect.states import Crashed

    # Said, since a Prefect that was imported before the address was known would start a server of its own.
    with temporary_settings({PREFECT_API_URL: url}), get_client(sync_client=True) as client:
        try:
            found = client.read_flow_run(flow_run_id).state
        except ObjectNotFound:  # of another server
            return
        if found is None or not (found.is_running() or found.is_pending() or found.is_cancelling()):
            return
        below = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
        for task_run in client.read_task_runs(flow_run_filter=below):
            if task_run.state is not None and not task_run.state.is_final():
                client.set_task_run_state(task_run.id, Crashed(message=_WHY), force=True)
        client.set_flow_run_state(flow_run_id, Crashed(message=_WHY), force=True)


def _answering() -> str:
    """The address of the Prefect server; the client itself would try again for long."""
    url = prefect_api_url()
    if url is None:
        raise StoreError("PREFECT_API_URL: is not set. The Prefect server that knows the flow runs is needed.")
    try:
        urllib.request.urlopen(f"{url}/health", timeout=_PATIENCE).close()
    except urllib.error.HTTPError:
        pass  # it answers; what it wants is for Prefect's client to find out
    except OSError as error:
        reason = getattr(error, "reason", error)
        raise StoreError(f"{without_password(url)}: the Prefect server does not answer ({reason}).") from None
    return url


def _marks() -> Path:
    return home() / "work" / "owners"
