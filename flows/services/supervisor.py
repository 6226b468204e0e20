"""Services that are started, watched, started again, and ended together."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.services.processes import answers, descendants, kill, start
from lstm.errors import LstmError

_PATIENCE = 180.0  # seconds until the first answer: a new database takes a minute on a busy machine
_ENDS, _WITHIN = 3, 60.0  # as many ends within as many seconds: it will not work this time either
_LOOK = 0.2  # seconds between two looks
_EVERY, _UNANSWERED = 10.0, 12  # seconds between two questions to what is healthy; so many in vain: it is stuck


class ServiceError(LstmError):
    """A service does not come up, or does not stay."""


@dataclass
class Service:
    """A program that runs until it is told to end."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    health: str  # URL that answers 200 when it is
    shown: str  # what is said of it when it is healthy
    log: Path
    inherit: Sequence[int] = ()
    leaves: bool = False  # what it has started goes on when it dies: a worker's flow runs
    healthy: bool = False
    ends: list[float] = field(default_factory=list)
    below: Sequence[psutil.Process] = field(default=(), repr=False)  # what it had started when it was healthy
    process: subprocess.Popen[bytes] = field(init=False, repr=False)
    since: float = field(init=False)
    asked: float = field(init=False)
    unanswered: int = field(init=False)  # questions in a row

    def start(self) -> None:
        """Start it; it is healthy when `look` has found it so."""
        self.process = start(self.command, self.log, self.environment, self.inherit)
        self.since, self.healthy = time.monotonic(), False

    def look(self, said: Callable[[str], None]) -> None:
        """Say it when it has become healthy; start it again when it has ended, and end it when it is stuck.

        Raises:
            ServiceError: it ends again and again, or does not answer.
        """
        if self.process.poll() is not None:
            self._again(said)
        elif not self.healthy and answers(self.health, patience=0.5):
            self.healthy, self.below = True, descendants(self.process.pid)
            self.asked, self.unanswered = time.monotonic(), 0
            said(f"{self.name:<9} {self.shown}")
        elif not self.healthy and time.monotonic() - self.since > _PATIENCE:
            raise ServiceError(f"{self.name} does not answer at {self.health} after {_PATIENCE:.0f} s: see {self.log}.")
        elif self.healthy and time.monotonic() - self.asked > _EVERY:
            self._ask(said)

    def _ask(self, said: Callable[[str], None]) -> None:
        self.unanswered = 0 if answers(self.health) else self.unanswered + 1
        self.asked = time.monotonic()
        if self.unanswered == _UNANSWERED:
            said(f"{self.name:<9} has not answered {_UNANSWERED} times in a row, and is killed")
            self.process.kill()
            self.process.wait()

    def _again(self, said: Callable[[str], None]) -> None:
        now, code = time.monotonic(), self.process.returncode
        self.ends = [when for when in self.ends if now - when < _WITHIN] + [now]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if len(self.ends) >= _ENDS:
            raise ServiceError(f"{self.name} {how}, the {_ENDS}rd time within {_WITHIN:.0f} s: see {self.log}.")
        if not self.leaves:
            kill(self.below)  # a server's own child would go on holding the port
        said(f"{self.name:<9} {how}; started again (log: {self.log})")
        self.start()


def watch(services: Sequence[Service], said: Callable[[str], None]) -> None:
    """Keep started services running for ever."""
    while True:
        for service in services:
            service.look(said)
        time.sleep(_LOOK)


def until_healthy(services: Sequence[Service], said: Callable[[str], None]) -> None:
    """Return when all are healthy."""
    while not all(service.healthy for service in services):
        for service in services:
            service.look(said)
        time.sleep(_LOOK / 4)
