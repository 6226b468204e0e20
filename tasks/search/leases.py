"""Whose a running trial is: its owner, the owner's signs of life, and the lock under which trials are taken.

A trial is asked for, given its owner and a first sign of life under the lock of the study. So a running trial without
an owner was begun by a process that died within the lock, and is free at once. One with an owner is free when that
process is dead, which another machine can only tell by its silence.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, timedelta
from pathlib import Path
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState

from tasks.runtime.locks import database_lock, file_lock
from tasks.runtime.process_owner import heartbeat, is_dead, now, this_process
from tasks.search.storage import GRACE_PERIOD_S, heartbeat_storage, postgres_address

HEARTBEAT_S = 5.0  # seconds between two signs of life
_OWNER, _SHARE, _SEEN, _RUN = "owner", "share", "seen", "run"
_LOCK_TIMEOUT_S = 120.0  # seconds that the lock of a study is waited for, which is held for some milliseconds
_active_ids: set[str] = set()  # shares of this process


class TrialLeases:
    """What one share of a search holds of its study."""

    def __init__(self, study: optuna.Study, folder: Path, run: str) -> None:
        """`run`: as `search_session` gives it. Use `claims`."""
        self._study, self._folder, self._run, self.alone = study, folder, run, not run
        self.share = uuid4().hex
        self._held: dict[int, optuna.Trial] = {}
        self.called_off = False

    def asking(self) -> AbstractContextManager[object]:
        """The lock under which trials are counted, asked for, taken, and compared with those of other shares."""
        if self.alone:
            return nullcontext()
        return study_lock(f"the trials of {self._study.study_name}", self._folder / "trials.lock", _LOCK_TIMEOUT_S)

    def take(self, trial: optuna.Trial) -> None:
        """Make the trial this share's own."""
        self._held[trial.number] = trial
        self._live(trial)
        if not self.alone:
            trial.set_user_attr(_SHARE, self.share)
        trial.set_user_attr(_OWNER, this_process())

    def has(self, trial: optuna.Trial) -> bool:
        """Whether the trial still is this share's own, and not of one that took it for dead."""
        if self.alone:
            return True
        return bool(self._study._storage.get_trial(trial._trial_id).user_attrs.get(_SHARE) == self.share)

    def numbers(self) -> set[int]:
        """Of the trials that are held."""
        return set(self._held)

    def let_go(self, number: int) -> None:
        """The trial has ended."""
        self._held.pop(number, None)

    def others(self) -> bool:
        """Whether trials are running that are not this share's."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(trial.number not in self._held for trial in running)

    def check(self) -> None:
        """Notice whether another training run has taken the study over, or this one has ended."""
        self.called_off = self.called_off or self._study.user_attrs.get(_RUN, "") != self._run

    def beat(self) -> None:
        """Sign of life of every trial that is held."""
        self.check()
        for trial in list(self._held.values()):
            with suppress(RuntimeError):  # it has ended since
                self._live(trial)

    def _live(self, trial: optuna.Trial) -> None:
        if storage := heartbeat_storage(self._study._storage):
            storage.record_heartbeat(trial._trial_id)
        elif not self.alone:
            trial.set_user_attr(_SEEN, now())

    def give_back(self) -> None:
        """What is still held is anybody's."""
        for trial in self._held.values():
            with suppress(Exception):  # whatever it is: the owner's death or silence says the same
                trial.set_user_attr(_OWNER, "")


@contextmanager
def trial_leases(study: optuna.Study, folder: Path, run: str) -> Iterator[TrialLeases]:
    """With signs of life as long as the block runs; then all that is held is given back. `run`: see `search_session`."""
    mine = TrialLeases(study, folder, run)
    _active_ids.add(mine.share)
    try:
        watched = not mine.alone or heartbeat_storage(study._storage) is not None
        with heartbeat(mine.beat, HEARTBEAT_S) if watched else nullcontext():
            yield mine
    finally:
        _active_ids.discard(mine.share)
        mine.give_back()


@contextmanager
def search_session(study: optuna.Study, shared: bool) -> Iterator[str]:
    """The search as the work of one training run. Shares look at its id now and then: where it is another, they end.

    Args:
        study: held by this training run alone.
        shared: whether several shares are to work it off.

    Yields:
        The id; empty: the search is this process's alone, since no shares of a dead run can be at it either.
    """
    mine = uuid4().hex if shared or study.user_attrs.get(_RUN) else ""
    if mine:
        study.set_user_attr(_RUN, mine)
    try:
        yield mine
    finally:
        if mine:
            with suppress(Exception):  # the study can't be told: the next run will call them off
                study.set_user_attr(_RUN, "")


def study_lock(key: str, file: Path, patience: float) -> AbstractContextManager[None]:
    """A lock in the studies' database where that is PostgreSQL, else in a file. `patience`: seconds; 0 is without end.

    Raises:
        LockHeldError: another process has held it for so long.
        StoreError: it can't be had at all.
    """
    if address := postgres_address():
        return database_lock(address, key, patience)
    return file_lock(file, key, patience)


def is_orphaned(trial: FrozenTrial, silent: frozenset[int] | None) -> bool:
    """Whether nobody is at a running trial any more; `silent`: as `stale_trial_ids` gives it."""
    owner = trial.user_attrs.get(_OWNER)
    if not owner:
        return True
    if owner == this_process() and trial.user_attrs.get(_SHARE) not in _active_ids:
        return True
    if silent is not None:
        return trial._trial_id in silent or is_dead(owner)
    started = trial.datetime_start.astimezone(UTC).isoformat() if trial.datetime_start else ""
    return is_dead(owner, trial.user_attrs.get(_SEEN, started), timedelta(seconds=GRACE_PERIOD_S))


def stale_trial_ids(study: optuna.Study) -> frozenset[int] | None:
    """Ids of the running trials whose last heartbeat in the database is too old, by its own clock; None: a journal."""
    storage = heartbeat_storage(study._storage)
    return None if storage is None else frozenset(storage._get_stale_trial_ids(study._study_id))
