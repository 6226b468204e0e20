"""Who a piece of work belongs to: host, process, and when that was started; and whether it is dead."""

import os
import socket

import psutil


def this_process() -> str:
    """`host:pid:start`, which no other process ever has."""
    return f"{socket.gethostname()}:{os.getpid()}:{psutil.Process().create_time():.2f}"


def is_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that is no more; of another machine nobody here knows."""
    host, _, process = owner.partition(":")
    number, _, started = process.partition(":")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        return f"{psutil.Process(int(number)).create_time():.2f}" != started
    except psutil.NoSuchProcess:
        return True
