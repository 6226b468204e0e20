"""Work in a process of its own, which leaves nothing behind, however it or the process that asked for it ends.

A program that is killed can't end what it has started. So two processes watch each other: the one that was started,
which passes signals on, and its child, which does the work. Each adopts what its descendants leave behind (on Linux,
by `PR_SET_CHILD_SUBREAPER`), so that whichever of the two survives finds all of it.
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
_PATIENCE = 20.0  # seconds that the work has to end by itself


def kept(work: Callable[[], int]) -> int:
    """Run `work` in a child process; return its exit code, by `lstm`'s rules where it raises.

    SIGINT and SIGTERM raise KeyboardInterrupt in it, as does the death of this process; a second one kills at once.
    """
    _adopt_orphans()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(writing)
        _work(work, reading)
    os.close(reading)
    _pass_signals_on(child)
    _, status = os.waitpid(child, 0)
    os.close(writing)
    kill_descendants()
    return os.waitstatus_to_exitcode(status) if os.WIFEXITED(status) else 1


def kill_descendants() -> None:
    """Kill all descendants, those too that they start meanwhile."""
    while found := psutil.Process().children(recursive=True):
        for one in found:
            with suppress(psutil.NoSuchProcess):
                one.kill()
        with suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        time.sleep(0.05)


def _work(work: Callable[[], int], parent: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, _nothing)  # not SIG_IGN, which what it starts would inherit
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


def _pass_signals_on(child: int) -> None:
    asked = 0

    def tell(*_: Any) -> None:
        nonlocal asked
        asked += 1
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGTERM if asked == 1 else signal.SIGKILL)
        signal.alarm(int(_PATIENCE))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, tell)


def _end_with_parent(pipe: int) -> None:
    os.read(pipe, 1)  # returns when the other end is closed: the parent is no more
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(_PATIENCE)
    kill_descendants()
    os._exit(1)


def _nothing(*_: Any) -> None:
    """What is told by another signal, or was told before."""


def _interrupt(*_: Any) -> NoReturn:
    signal.signal(signal.SIGTERM, _nothing)  # asked once is enough: the end must not be interrupted
    raise KeyboardInterrupt


def _adopt_orphans() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)
