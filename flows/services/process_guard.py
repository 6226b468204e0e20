"""Run work in a child process and leave no descendant behind, whichever of the two processes is killed.

A killed process can't end what it has started, so parent and child watch each other: the parent forwards signals, the
child does the work. On Linux both adopt orphaned descendants (`PR_SET_CHILD_SUBREAPER`), so that the survivor finds
and kills all of them.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import psutil

from lstm.errors import InputError, LstmError

_PR_SET_CHILD_SUBREAPER = 36
_TIMEOUT_S = 20.0  # for the work to end after the first signal


def run_guarded(work: Callable[[], int]) -> int:
    """Run `work` in a child process and return its exit code.

    The first SIGINT or SIGTERM, and the death of this process, raise KeyboardInterrupt in `work`; a second signal kills
    it. An InputError exits with 2, another error with 1, as in the `lstm` command.
    """
    _adopt_orphans()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        _child_main(work, reading)
    os.close(reading)
    _forward_signals(child)
    _, status = os.waitpid(child, 0)
    os.close(writing)
    kill_descendants()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1


def kill_descendants() -> None:
    """Kill all descendants, repeatedly until none is left."""
    while descendants := psutil.Process().children(recursive=True):
        for process in descendants:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def _child_main(work: Callable[[], int], parent: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, _ignore)  # not SIG_IGN, which child processes would inherit
        signal.signal(signal.SIGTERM, _interrupt)
        _adopt_orphans()
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
        code = work()
    except KeyboardInterrupt:
        code = 0
    except LstmError as error:
        print(f"lstm: {' '.join(str(error).split())}", file=sys.stderr)
        code = 2 if isinstance(error, InputError) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        kill_descendants()
        with suppress(OSError, ValueError):
            sys.stdout.flush()
        os._exit(code)


def _forward_signals(child: int) -> None:
    n_signals = 0

    def forward(*_: Any) -> None:
        nonlocal n_signals
        n_signals += 1
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM if n_signals == 1 else signal.SIGKILL)
        signal.alarm(int(_TIMEOUT_S))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, forward)


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # returns when the other end is closed: the parent is dead
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_TIMEOUT_S)
    kill_descendants()
    os._exit(1)


def _ignore(*_: Any) -> None:
    """Handle a signal by doing nothing."""


def _interrupt(*_: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, _ignore)  # a second signal must not interrupt the clean-up
    raise KeyboardInterrupt


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
