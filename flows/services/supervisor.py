"""Supervise services: start them, check their health, and restart those that end or hang."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from flows.services.processes import answers, descendants, kill, start
from lstm.errors import LstmError

_START_TIMEOUT_S = 180.0  # a new database takes a minute on a busy machine
_MAX_EXITS, _EXIT_WINDOW_S = 3, 60.0  # more exits in this time: give up
_POLL_INTERVAL_S = 0.2
_HEALTH_INTERVAL_S, _MAX_UNANSWERED = 10.0, 12  # a service that misses so many health checks in a row hangs


class ServiceError(LstmError):
    """A service does not start, or ends again and again."""


@dataclass
class Service:
    """A program that runs until it is stopped."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(repr=False)
    health: str  # URL that answers 200 when the service is healthy
    shown: str  # printed when it becomes healthy
    log: Path
    inherit: Sequence[int] = ()
    leaves: bool = False  # its children survive it: a worker's flow runs
    healthy: bool = False
    exits: list[float] = field(default_factory=list)  # times of the newest ones
    below: Sequence[psutil.Process] = field(default=(), repr=False)  # its descendants when it became healthy
    process: subprocess.Popen[bytes] = field(init=False, repr=False)
    since: float = field(init=False)
    checked: float = field(init=False)  # time of the last health check
    unanswered: int = field(init=False)  # failed health checks in a row

    def start(self) -> None:
        """Start the program; `check` finds out when it is healthy."""
        self.process = start(self.command, self.log, self.environment, self.inherit)
        self.since, self.healthy = time.monotonic(), False

    def check(self, print_line: Callable[[str], None]) -> None:
        """Report a service that has become healthy, restart one that has ended, kill one that hangs.

        Raises:
            ServiceError: it ends again and again, or does not become healthy in time.
        """
        if self.process.poll() is not None:
            self._restart(print_line)
        elif not self.healthy and answers(self.health, timeout=0.5):
            self.healthy, self.below = True, descendants(self.process.pid)
            self.checked, self.unanswered = time.monotonic(), 0
            print_line(f"{self.name:<9} {self.shown}")
        elif not self.healthy and time.monotonic() - self.since > _START_TIMEOUT_S:
            raise ServiceError(
                f"{self.name} does not answer at {self.health} after {_START_TIMEOUT_S:.0f} s: see {self.log}."
            )
        elif self.healthy and time.monotonic() - self.checked > _HEALTH_INTERVAL_S:
            self._check_health(print_line)

    def _check_health(self, print_line: Callable[[str], None]) -> None:
        self.unanswered = 0 if answers(self.health) else self.unanswered + 1
        self.checked = time.monotonic()
        if self.unanswered == _MAX_UNANSWERED:
            print_line(f"{self.name:<9} has not answered {_MAX_UNANSWERED} times in a row, and is killed")
            self.process.kill()
            self.process.wait()

    def _restart(self, print_line: Callable[[str], None]) -> None:
        now, code = time.monotonic(), self.process.returncode
        self.exits = [moment for moment in self.exits if now - moment < _EXIT_WINDOW_S] + [now]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        if len(self.exits) >= _MAX_EXITS:
            raise ServiceError(
                f"{self.name} {how}, the {_MAX_EXITS}rd time within {_EXIT_WINDOW_S:.0f} s: see {self.log}."
            )
        if not self.leaves:
            kill(self.below)  # a child of a server would keep the port
        print_line(f"{self.name:<9} {how}; started again (log: {self.log})")
        self.start()


def watch(services: Sequence[Service], print_line: Callable[[str], None]) -> None:
    """Keep started services running forever."""
    while True:
        for service in services:
            service.check(print_line)
        time.sleep(_POLL_INTERVAL_S)


def wait_until_healthy(services: Sequence[Service], print_line: Callable[[str], None]) -> None:
    """Return when all services are healthy."""
    while not all(service.healthy for service in services):
        for service in services:
            service.check(print_line)
        time.sleep(_POLL_INTERVAL_S / 4)
