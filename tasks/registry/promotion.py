"""Promotion, rollback and their lock: aliases move only over the champion that the candidate was judged against."""

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lstm.errors import InputError, StoreError
from tasks.registry.alias_swap import apply_pending_swap, swap_aliases
from tasks.registry.decision import GateDecision
from tasks.registry.models import load_forecaster, resolve_version
from tasks.registry.versions import alias_version, delete_alias, set_alias, tag_version, version_tags
from tasks.runtime.locks import database_lock, file_lock
from tasks.settings import home, tracking_uri

_MAX_ATTEMPTS = 5  # of judging a candidate while other processes move the champion
_LOCK_TIMEOUT_S = 120


@dataclass(frozen=True)
class ChampionChange:
    """A change of the champion by hand."""

    name: str
    version: int  # the champion
    previous: int | None  # the champion before
    notice: str = ""


def judge_and_promote(name: str, judge: Callable[[int | None], GateDecision]) -> GateDecision:
    """Judge a candidate and move the aliases; judge again if the champion has changed in between.

    Args:
        name: of the registered model.
        judge: returns the decision for a given champion's version (None: there is no champion).

    Raises:
        StoreError: the champion changed during each of `_MAX_ATTEMPTS` judgements, or the store does not answer.
    """
    for _ in range(_MAX_ATTEMPTS):
        incumbent = alias_version(name, "champion")
        decision = judge(incumbent)
        with _consistent_aliases(name):
            if alias_version(name, "champion") == incumbent:
                _record_decision(name, decision)
                return decision
    raise StoreError(f"{name}: another champion was promoted during each of {_MAX_ATTEMPTS} judgements. Run it again.")


def promote(name: str, version: str, force: bool, why: str = "") -> ChampionChange:
    """Make a version champion if the gate's recorded decision allows it over the current champion, or by force.

    User, time, reason and the replaced champion become tags of the version.

    Args:
        name: of the registered model.
        version: its number.
        force: promote whatever the gate has decided.
        why: reason for the force.

    Raises:
        CheckpointError: there is no such model or version, or it is damaged.
        StoreError: its artifacts can't be downloaded.
        InputError: the gate has not allowed it.
    """
    number = resolve_version(f"{name}/{version}")
    load_forecaster(f"{name}/{number}")  # --force overrides the gate, not damaged files
    with _consistent_aliases(name):
        current = alias_version(name, "champion")
        if current == number:
            return ChampionChange(name, number, alias_version(name, "previous"), "it was champion already")
        refusal = _refusal_reason(version_tags(name, number), current)
        if refusal and not force:
            raise InputError(f"{name}/{number}: is not promoted: {refusal}. To promote it anyway, add --force.")
        tags = {"promoted_by": _current_user(), "promoted_at": _utc_now(), "promoted_over": str(current or "none")}
        if refusal:
            tags = {key.replace("promoted", "forced"): value for key, value in tags.items()}
            tags["forced_reason"] = why or "not said"
            tags["forced_against"] = refusal
        tag_version(name, number, tags)
        _make_champion(name, number, current)
    return ChampionChange(name, number, current, f"forced, although {refusal}" if refusal else "")


def rollback(name: str) -> ChampionChange:
    """Make the previous champion champion again; the current one becomes `previous`.

    A second rollback in a row is refused, so that a retry changes nothing.

    Raises:
        CheckpointError: there is no such model, or it has no champion, or the previous one is damaged.
        StoreError: the artifacts of the previous champion can't be downloaded.
        InputError: there is no previous champion, or it was rolled back itself.
    """
    resolve_version(f"{name}@champion")
    with _consistent_aliases(name):
        current, previous = alias_version(name, "champion"), alias_version(name, "previous")
        if current is None or previous is None or previous == current:
            raise InputError(
                f"{name}: there is no previous champion to go back to. See lstm compare {name}, and promote a version."
            )
        if version_tags(name, previous).get("rolled_back_to") == str(current):
            raise InputError(
                f"{name}: version {previous}, the previous champion, was itself rolled back to version {current}. To "
                f"make it champion again: lstm promote {name} {previous}"
            )
        load_forecaster(f"{name}/{previous}")
        tags = {"rolled_back_by": _current_user(), "rolled_back_at": _utc_now(), "rolled_back_to": str(previous)}
        tag_version(name, current, tags)
        swap_aliases(name, champion=previous, previous=current)
    return ChampionChange(name, previous, current)


def finish_pending_swap(name: str) -> None:
    """Finish an alias swap that a killed process left unfinished.

    Raises:
        StoreError: the lock can't be acquired, or the store does not answer.
    """
    with _consistent_aliases(name):
        pass


@contextmanager
def _consistent_aliases(name: str) -> Iterator[None]:
    """Hold the promotion lock, after finishing a pending swap."""
    with promotion_lock(name):
        apply_pending_swap(name)
        yield


def promotion_lock(name: str) -> AbstractContextManager[None]:
    """Return the lock for alias changes of one registered model: in PostgreSQL if the registry is there, else a file.

    With an MLflow server, it only excludes processes that share `LSTM_HOME`.

    Raises:
        LockHeldError: another process holds it for longer than `_LOCK_TIMEOUT_S`.
        StoreError: the database, or the folder of the file, can't be used.
    """
    uri, key = os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri(), f"promotions of {name}"
    if uri.startswith("postgres"):
        return database_lock(uri, key, _LOCK_TIMEOUT_S)
    return file_lock(_lock_folder(uri) / f".promote-{name}.lock", key, _LOCK_TIMEOUT_S)


def _lock_folder(uri: str) -> Path:
    """Return the folder of an SQLite store, so that all its users share the lock; else `home()`."""
    database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    return database.parent if uri.startswith("sqlite:///") and database.parent.is_dir() else home()


def _record_decision(name: str, decision: GateDecision) -> None:
    """Write tags, then aliases: an alias never points at a version without its decision. Needs the lock."""
    if decision.incumbent_version == decision.version:
        return  # keep the tags of the decision that made it champion
    if decision.champion or version_tags(name, decision.version).get("gate") != "champion":
        tag_version(name, decision.version, decision.tags)  # a past promotion stays on record
    if decision.champion:
        _make_champion(name, decision.version, decision.incumbent_version)
    else:
        set_alias(name, "challenger", decision.version)


def _make_champion(name: str, number: int, current: int | None) -> None:
    if current is not None:
        swap_aliases(name, champion=number, previous=current)
        return
    set_alias(name, "champion", number)
    if alias_version(name, "challenger") == number:
        delete_alias(name, "challenger")


def _refusal_reason(tags: Mapping[str, str], current: int | None) -> str:
    """Return why the gate's record does not allow a version over the current champion; empty if it does."""
    if "gate" not in tags:
        return "the gate has not judged it"
    against, passed = tags.get("gate_against", "none"), tags.get("gate_passed", "").split(",")
    if not {"serves", "baseline"} <= set(passed):
        return f"the gate refused it ({tags.get('gate_reason', '')})"
    if current is None:
        return ""
    if against != str(current):
        judged = "when there was no champion" if against == "none" else f"against version {against}"
        return f"it was judged {judged}, but version {current} is champion now"
    return "" if tags["gate"] == "champion" else f"the gate refused it ({tags.get('gate_reason', '')})"


def _current_user() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # in a container, the user id may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _utc_now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
