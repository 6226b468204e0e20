"""Addresses and sockets of local servers."""

import socket
from ipaddress import IPv6Address, ip_address

from lstm.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Return whether a server that listens on `host`, an address or a name, can be reached from this machine only."""
    try:
        texts = {entry[4][0] for entry in socket.getaddrinfo(host or "0.0.0.0", None)}
    except (OSError, UnicodeError):  # the name does not resolve
        return False
    addresses = [ip_address(text) for text in texts]
    mapped = [(isinstance(address, IPv6Address) and address.ipv4_mapped) or address for address in addresses]
    return all(address.is_loopback for address in mapped)


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_listener(host: str, port: int, option: str) -> socket.socket:
    """Open a listening socket that child processes can inherit.

    Args:
        host: IPv4 or IPv6 address.
        port: 0: any free port.
        option: command-line option that sets the port, for the message.

    Raises:
        ConfigError: the address can't be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With IPPROTO_TCP, asyncio sets TCP_NODELAY. Without that, each answer waits 40 ms for an acknowledgement.
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
