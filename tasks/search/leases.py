"""Which process owns a running trial: owner, heartbeats, and the lock for acquiring trials.

A trial is asked for, and gets its owner and a first heartbeat, under the lock of the study. So a running trial without
an owner was started by a process that died while it held the lock; it is orphaned. A trial with an owner is orphaned
when that process is dead; another machine knows that only from stale heartbeats.
`next_trial` hands out orphaned trials.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, timedelta
from pathlib import Path
from uuid import uuid4

import optuna
from optuna.trial import FrozenTrial, TrialState

from tasks.runtime.locks import database_lock, file_lock
from tasks.runtime.process_owner import heartbeat, heartbeat_time, is_process_dead, this_process
from tasks.search.storage import GRACE_PERIOD_S, heartbeat_storage, postgres_address

HEARTBEAT_S = 5.0  # between two heartbeats
_OWNER, _HOLDER, _HEARTBEAT, _OWNER_RUN = "owner", "share", "seen", "run"  # keys in the study
_LOCK_TIMEOUT_S = 120.0  # for the lock of a study, which is held for milliseconds
_active_ids: set[str] = set()  # of the `TrialLeases` of this process


class TrialLeases:
    """The trials of a study that one node runs."""

    def __init__(self, study: optuna.Study, folder: Path, owner_run_id: str, shared: bool) -> None:
        """Use `trial_leases`."""
        self._study, self._folder, self._owner_run_id, self._shared = study, folder, owner_run_id, shared
        self.id = uuid4().hex
        self._held: dict[int, optuna.Trial] = {}
        self.cancelled = False

    def lock(self) -> AbstractContextManager[None]:
        """Return the lock under which trials are counted, asked for, acquired and compared with running ones."""
        return study_lock(f"the trials of {self._study.study_name}", self._folder / "trials.lock", _LOCK_TIMEOUT_S)

    def acquire(self, trial: optuna.Trial) -> None:
        """Take the lease of a trial."""
        self._held[trial.number] = trial
        self._record_heartbeat(trial)
        trial.set_user_attr(_HOLDER, self.id)
        trial.set_user_attr(_OWNER, this_process())

    def holds(self, trial: optuna.Trial) -> bool:
        """Whether the lease is still ours; another node takes it over when our heartbeats are stale."""
        return bool(self._study._storage.get_trial(trial._trial_id).user_attrs.get(_HOLDER) == self.id)

    def trial_numbers(self) -> set[int]:
        """Return the numbers of the leased trials."""
        return set(self._held)

    def release(self, number: int) -> None:
        """Give up the lease of a trial that has ended."""
        self._held.pop(number, None)

    def any_foreign(self) -> bool:
        """Whether a trial is running without a lease of ours."""
        running = self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
        return any(trial.number not in self._held for trial in running)

    def check_cancelled(self) -> None:
        """Set `cancelled` if the training run has ended, or another one has taken over the study."""
        self.cancelled = self.cancelled or self._study.user_attrs.get(_OWNER_RUN, "") != self._owner_run_id

    def heartbeat(self) -> None:
        """Renew every lease."""
        self.check_cancelled()
        for trial in list(self._held.values()):
            with suppress(RuntimeError):  # it has just ended
                self._record_heartbeat(trial)

    def _record_heartbeat(self, trial: optuna.Trial) -> None:
        if storage := heartbeat_storage(self._study._storage):
            storage.record_heartbeat(trial._trial_id)
        elif self._shared:  # on one machine the process table tells as much, and the journal stays short
            trial.set_user_attr(_HEARTBEAT, heartbeat_time())

    def release_all(self) -> None:
        """Give up every lease; the trials are orphaned."""
        for trial in self._held.values():
            with suppress(Exception):  # without it, the dead owner or stale heartbeats tell the same
                trial.set_user_attr(_OWNER, "")


@contextmanager
def trial_leases(study: optuna.Study, folder: Path, owner_run_id: str, shared: bool) -> Iterator[TrialLeases]:
    """Send heartbeats of all leases while the block runs; release them at its end.

    Args:
        study: whose trials are leased.
        folder: of the study.
        owner_run_id: see `search_session`.
        shared: whether nodes on other machines work on the study too.
    """
    leases = TrialLeases(study, folder, owner_run_id, shared)
    _active_ids.add(leases.id)
    try:
        with heartbeat(leases.heartbeat, HEARTBEAT_S):
            yield leases
    finally:
        _active_ids.discard(leases.id)
        leases.release_all()


@contextmanager
def search_session(study: optuna.Study) -> Iterator[str]:
    """Register this training run as the owner of the study; yield its owner id.

    Workers on other machines poll the owner id, and stop when it changes. The caller holds the lock of the search.
    """
    owner_run_id = uuid4().hex
    study.set_user_attr(_OWNER_RUN, owner_run_id)
    try:
        yield owner_run_id
    finally:
        with suppress(Exception):  # the storage is away: the next training run sets another id
            study.set_user_attr(_OWNER_RUN, "")


def study_lock(key: str, file: Path, timeout: float) -> AbstractContextManager[None]:
    """Return a lock in the database of the studies if that is PostgreSQL, else in a file.

    `timeout`: in seconds; 0 waits without end.

    Raises:
        LockHeldError: another process has held the lock for `timeout` seconds.
        StoreError: the database or the file can't be used.
    """
    if address := postgres_address():
        return database_lock(address, key, timeout)
    return file_lock(file, key, timeout)


def is_orphaned(trial: FrozenTrial, stale: frozenset[int] | None) -> bool:
    """Whether no living process runs a RUNNING trial; `stale`: see `stale_trial_ids`."""
    owner = trial.user_attrs.get(_OWNER)
    if not owner:
        return True
    if owner == this_process() and trial.user_attrs.get(_HOLDER) not in _active_ids:
        return True
    if stale is not None:
        return trial._trial_id in stale or is_process_dead(owner)
    started = trial.datetime_start.astimezone(UTC).isoformat() if trial.datetime_start else ""
    return is_process_dead(owner, trial.user_attrs.get(_HEARTBEAT, started), timedelta(seconds=GRACE_PERIOD_S))


def stale_trial_ids(study: optuna.Study) -> frozenset[int] | None:
    """Return the ids of the running trials whose last heartbeat in the database is too old by the database's clock.

    None: the study is in a journal.
    """
    storage = heartbeat_storage(study._storage)
    return None if storage is None else frozenset(storage._get_stale_trial_ids(study._study_id))
