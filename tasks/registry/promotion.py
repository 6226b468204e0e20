"""Who is champion: aliases move under a lock, and only over the champion that was judged."""

import getpass
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lstm.errors import InputError, StoreError
from tasks.registry.alias_swap import complete, move
from tasks.registry.models import (
    alias_version,
    drop_alias,
    load_forecaster,
    resolved,
    set_alias,
    tag_version,
    version_tags,
)
from tasks.runtime.locks import database_lock, file_lock
from tasks.settings import home, tracking_uri

_TRIES = 5  # judgements, while others move the champion
_PATIENCE = 120  # seconds that a lock is waited for
_FIGURES = (
    *("test_rmse", "baseline_test_rmse", "folds_won", "folds", "incumbent_test_rmse", "effect", "statistic"),
    *("p_value", "origins", "freedom", "alpha", "min_effect"),
)


@dataclass(frozen=True)
class Check:
    """One condition of the gate."""

    name: str  # serves | baseline | champion
    passed: bool
    reason: str


@dataclass(frozen=True)
class Promotion:
    """What was decided, and why: the content of `promotion.json`. RMSEs are in raw units."""

    version: int
    kind: str
    champion: bool
    reason: str
    val_rmse: float
    test_rmse: float
    incumbent_version: int | None = None  # champion at that time
    checks: tuple[Check, ...] = ()  # in order; none after the first that failed
    baseline: str = ""  # what had to be beaten
    baseline_test_rmse: float | None = None
    folds_won: int | None = None
    folds: int | None = None
    incumbent_test_rmse: float | None = None  # on the windows that both can forecast
    effect: float | None = None  # share of the champion's scaled RMSE that is gone on them
    statistic: float | None = None  # Diebold–Mariano, positive: the candidate is better
    p_value: float | None = None
    origins: int | None = None  # origin times that both forecast from
    freedom: int | None = None  # degrees of freedom of the test
    alpha: float | None = None
    min_effect: float | None = None
    notice: str = ""  # such as that no new version was made

    @property
    def tags(self) -> dict[str, str]:
        """Of the version."""
        figures = {name: value for name in _FIGURES if (value := getattr(self, name)) is not None}
        return {
            "gate": "champion" if self.champion else "challenger",
            "gate_reason": self.reason,
            "gate_against": str(self.incumbent_version or "none"),
            "gate_passed": ",".join(check.name for check in self.checks if check.passed),
            **{f"gate_{name}": f"{value:.6g}" for name, value in figures.items()},
        }

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready."""
        return asdict(self)


@dataclass(frozen=True)
class Move:
    """Of the alias champion by hand."""

    name: str
    version: int  # champion now
    before: int | None  # champion before, which is `previous` now
    remark: str = ""


def settle(name: str, judge: Callable[[int | None], Promotion]) -> Promotion:
    """Judge against the champion of the moment, and move the aliases if it still is champion then; else judge again.

    Args:
        name: of the registered model.
        judge: what is to be done where this version is champion (None: there is none).

    Raises:
        StoreError: the champion moved during each of several judgements, or the store does not answer.
    """
    for _ in range(_TRIES):
        incumbent = alias_version(name, "champion")
        decision = judge(incumbent)
        with _settled(name):
            if alias_version(name, "champion") == incumbent:
                _apply(name, decision)
                return decision
    raise StoreError(f"{name}: another champion was promoted during each of {_TRIES} judgements. Run it again.")


def promote(name: str, version: str, force: bool, why: str = "") -> Move:
    """Make a version champion where its recorded judgement allows that over the current one, or by force.

    Args:
        name: of the registered model.
        version: its number.
        force: whatever the gate has said; who did it, when, why and over which champion becomes tags of the version.
        why: of the force.

    Raises:
        CheckpointError: there is no such model or version, or it is damaged.
        StoreError: its artifacts can't be fetched.
        InputError: the gate has not allowed it.
    """
    number = resolved(f"{name}/{version}")
    load_forecaster(f"{name}/{number}")  # --force is about the gate: what can't be loaded is no champion
    with _settled(name):
        current = alias_version(name, "champion")
        if current == number:
            return Move(name, number, alias_version(name, "previous"), "it was champion already")
        refused = _refusal(version_tags(name, number), current)
        if refused and not force:
            raise InputError(f"{name}/{number}: is not promoted: {refused}. To do it all the same, add --force.")
        tags = {"promoted_by": _who(), "promoted_at": _now(), "promoted_over": str(current or "none")}
        if refused:
            tags = {key.replace("promoted", "forced"): value for key, value in tags.items()}
            tags["forced_reason"] = why or "not said"
            tags["forced_against"] = refused
        tag_version(name, number, tags)
        _make_champion(name, number, current)
    return Move(name, number, current, f"forced, although {refused}" if refused else "")


def rollback(name: str) -> Move:
    """Make the previous champion champion again; the one that was is `previous` then. Once: a retry changes nothing.

    Raises:
        CheckpointError: there is no such model, or it has no champion, or the previous one is damaged.
        StoreError: the artifacts of the previous champion can't be fetched.
        InputError: there is no previous champion, or it was rolled back itself.
    """
    resolved(f"{name}@champion")
    with _settled(name):
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
        tags = {"rolled_back_by": _who(), "rolled_back_at": _now(), "rolled_back_to": str(previous)}
        tag_version(name, current, tags)
        move(name, champion=previous, previous=current)
    return Move(name, previous, current)


def finish_move(name: str) -> None:
    """Carry out what a process that was killed in the middle of it was at.

    Raises:
        StoreError: the lock can't be had, or the store does not answer.
    """
    with _settled(name):
        pass


@contextmanager
def _settled(name: str) -> Iterator[None]:
    """Under the lock, with the aliases as the last promotion meant them."""
    with promotion_lock(name):
        complete(name)
        yield


def promotion_lock(name: str) -> AbstractContextManager[None]:
    """Held by one process at a time: in the database of the registry where that is PostgreSQL, else in a file.

    Behind an MLflow server it keeps apart the processes that share `LSTM_HOME`.

    Raises:
        LockHeldError: another one holds it for minutes.
        StoreError: the database, or the folder of the file, can't be used.
    """
    uri, key = os.environ.get("MLFLOW_REGISTRY_URI") or tracking_uri(), f"promotions of {name}"
    if uri.startswith("postgres"):
        return database_lock(uri, key, _PATIENCE)
    return file_lock(_lock_folder(uri) / f".promote-{name}.lock", key, _PATIENCE)


def _lock_folder(uri: str) -> Path:
    """Beside an SQLite store, so that all who use it share the lock."""
    database = Path(uri.removeprefix("sqlite:///").partition("?")[0])
    return database.parent if uri.startswith("sqlite:///") and database.parent.is_dir() else home()


def _apply(name: str, decision: Promotion) -> None:
    """Under the lock: tags first, so that no alias ever points at what says nothing of its judgement."""
    if decision.incumbent_version == decision.version:
        return  # the champion stays, with the judgement that made it champion
    if decision.champion or version_tags(name, decision.version).get("gate") != "champion":
        tag_version(name, decision.version, decision.tags)  # what it has earned once is not taken from the record
    if decision.champion:
        _make_champion(name, decision.version, decision.incumbent_version)
    else:
        set_alias(name, "challenger", decision.version)


def _make_champion(name: str, number: int, current: int | None) -> None:
    if current is not None:
        move(name, champion=number, previous=current)
        return
    set_alias(name, "champion", number)
    if alias_version(name, "challenger") == number:
        drop_alias(name, "challenger")


def _refusal(tags: Mapping[str, str], current: int | None) -> str:
    """Why a version may not take the champion's place; empty: it may."""
    if "gate" not in tags:
        return "it has never met the gate"
    against, passed = tags.get("gate_against", "none"), tags.get("gate_passed", "").split(",")
    if not {"serves", "baseline"} <= set(passed):
        return f"the gate refused it ({tags.get('gate_reason', '')})"
    if current is None:
        return ""
    if against != str(current):
        judged = "when there was no champion" if against == "none" else f"against version {against}"
        return f"it was judged {judged}, but version {current} is champion now"
    return "" if tags["gate"] == "champion" else f"the gate refused it ({tags.get('gate_reason', '')})"


def _who() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container without such a user
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
