"""Addresses that servers listen on."""

import socket
from ipaddress import IPv6Address, ip_address

from lstm.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether a server that listens on `host`, an address or a name, is reached from this machine only."""
    try:
        found = {entry[4][0] for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError):  # nobody knows what it stands for
        return False
    addresses = [ip_address(one) for one in found]
    mapped = [(isinstance(one, IPv6Address) and one.ipv4_mapped) or one for one in addresses]
    return all(one.is_loopback for one in mapped)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens on an address, and that processes which are started may inherit.

    Raises:
        ConfigError: the address can't be had; `option` is what chooses another port.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol said, asyncio turns Nagle's algorithm off: else each answer waits 40 ms for an acknowledgement.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except (OSError, OverflowError) as error:
        listener.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"{host}:{port}: can't be listened on ({reason}). Choose another {option} or --host."
        ) from None
    listener.set_inheritable(True)
    return listener
