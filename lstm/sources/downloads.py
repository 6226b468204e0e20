"""Files from the network, through fsspec: streamed to disk, complete or not at all, and kept by their content.

An address may hold a password or a signature. So no text of another library's error reaches a message: the kind of
the error picks one of ours.
"""

import errno
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

from lstm.errors import DataError
from lstm.sources.files import Files, Pin, file_format, is_table, table_suffix

_UNREACHABLE = "no network: {place} could not be reached ({reason})"
_DENIED = "{place} may not be read ({reason})"
_MISSING = "there is no file at {place} ({reason})"
_BROKEN = "{place} could not be fetched ({reason})"
_KINDS = {  # by the name of the error's class, so that no optional package is imported to ask
    "ClientConnectorDNSError": (_UNREACHABLE, "the name of the host is unknown"),
    "ClientConnectorCertificateError": (_UNREACHABLE, "its TLS certificate is not trusted"),
    "EndpointConnectionError": (_UNREACHABLE, "connection failed"),
    "ConnectTimeoutError": (_UNREACHABLE, "timed out"),
    "ServerDisconnectedError": (_BROKEN, "the connection broke off"),
    "ClientPayloadError": (_BROKEN, "the connection broke off before the end of the file"),
    "IncompleteRead": (_BROKEN, "the connection broke off before the end of the file"),
    "NoCredentialsError": (_DENIED, "there are no credentials in the environment"),
    "PartialCredentialsError": (_DENIED, "the credentials in the environment are incomplete"),
    "TimeoutError": (_UNREACHABLE, "timed out"),
    "FSTimeoutError": (_UNREACHABLE, "timed out"),
    "FileNotFoundError": (_MISSING, "not found"),
    "NoSuchBucket": (_MISSING, "no such bucket"),
    "PermissionError": (_DENIED, "access denied"),
    "InvalidURL": (_BROKEN, "not an address"),
    "ParamValidationError": (_BROKEN, "not an address"),
    "ValueError": (_BROKEN, "not an address"),
}
_OF_THE_DISK = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Remote:
    """A place on the network."""

    url: str = field(repr=False)
    name: str  # of the source, in messages
    place: str  # the address in messages: without credentials and query
    fix: str = "Check the address and the network."

    @classmethod
    def of(cls, url: str) -> "Remote":
        """The place that a configuration names."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return cls(url, PurePosixPath(parts.path).name or host, f"{parts.scheme}://{host}{parts.path}")

    @classmethod
    def secret(cls, url: str, alias: str) -> "Remote":
        """The place that a variable of the environment names: no part of it is ever shown."""
        return cls(url, alias, "its address", "Check the address in the variable, and the network.")

    @property
    def suffix(self) -> str:
        """The extension of a table in the address, if there is one."""
        return table_suffix(urlsplit(self.url).path)


def url_scheme(source: str) -> str | None:
    """`https` of `https://…`; None for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return match[1].lower() if match else None


def fetch(remote: Remote, downloads: Path, pin: Pin | None = None) -> Files:
    """Download, unless the pinned content is there already.

    Args:
        remote: where from.
        downloads: folder that keeps each content under its sha256.
        pin: the content that is wanted.

    Raises:
        DataError: there is no network, no such file, no right to it, it broke off, or it is another content than the
            pinned one. Nothing is left behind.
    """
    kept = _kept(downloads / pin.sha256, remote.name) if pin else None
    if kept and all(part.endswith(remote.suffix) for part in kept.parts):
        return kept
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=downloads) as scratch:
            return _keep(_copy(remote, Path(scratch) / "content").check(pin), downloads)
    except OSError as error:  # of the disk: the network's own are told by then
        raise DataError(
            f"{remote.name}: can't be kept in {downloads} ({error.strerror}). Make room, or allow it."
        ) from None


def _kept(folder: Path, name: str) -> Files | None:
    """What an earlier download left, unless it was damaged since."""
    with suppress(OSError):
        os.utime(folder)  # in use: downloads that nobody has used for long are removed some day
    parts = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    files = Files(name, folder, parts, many=len(parts) > 1)
    return files if parts and files.sha256 == folder.name else None


def _keep(files: Files, downloads: Path) -> Files:
    """Move a complete download to its place, where the same content may be already."""
    place = downloads / files.sha256
    if not _moved(files, place):
        kept = _kept(place, files.name)  # looked at only now: another run may have just put it there, and read it
        if kept is None or kept.parts != files.parts:
            shutil.rmtree(place, ignore_errors=True)
            _moved(files, place)
    return Files(files.name, place, files.parts, files.many, files.sha256)


def _moved(files: Files, place: Path) -> bool:
    """Whether the files could be moved to a place where nothing was."""
    try:
        os.replace(files.base, place)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _copy(remote: Remote, folder: Path) -> Files:
    """Stream all files of a place into `folder`."""
    with _told(remote):
        system, path = _file_system(remote)
        sources = _listed(remote, system, path)
        many = sources is not None
        if sources is None:
            file_format(remote.suffix, remote.name)
            sources = {f"table{remote.suffix}": path}
        for part, source in sources.items():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(source, str(folder / part))
    return Files(remote.name, folder, tuple(sorted(sources)), many)


def _listed(remote: Remote, system: Any, path: str) -> dict[str, str] | None:
    """The tables of a folder or pattern by their path below it; None for a single file, as always on the web."""
    pattern = re.search(r"[*\[]", path)
    if url_scheme(remote.url) in ("http", "https") or not (pattern or system.isdir(path)):
        return None
    base = path[: pattern.start()].rpartition("/")[0] if pattern else path.rstrip("/")
    found = {str(file)[len(base) :].lstrip("/"): str(file) for file in (system.glob if pattern else system.find)(path)}
    tables = {part: file for part, file in found.items() if pattern or is_table(part)}
    for part in tables:
        file_format(part, part)
        if ".." in part.split("/"):
            raise DataError(f"{remote.name}: the name {part!r} leads out of its folder. Rename it.")
    if not tables:
        raise DataError(f"{remote.name}: there is no .csv, .csv.gz or .parquet file at {remote.place}. Check the path.")
    return tables


def _file_system(remote: Remote) -> tuple[Any, str]:
    from fsspec.core import url_to_fs
    from fsspec.registry import known_implementations

    scheme = url_scheme(remote.url)
    if scheme not in known_implementations:
        raise DataError(
            f"{remote.name}: nothing can read the scheme of its address. Use a path, https:// or s3://; for a "
            "database, write data.source: {sql: …, uri: env:NAME}."
        )
    try:
        system, path = url_to_fs(remote.url, skip_instance_cache=True, **_options(remote.url))
    except ImportError:
        package = "lstm[s3]" if scheme in ("s3", "s3a") else f"fsspec[{scheme}]"
        raise DataError(f"{remote.name}: {scheme}:// needs another package. Run: pip install '{package}'") from None
    return system, str(path)


def _options(url: str) -> dict[str, Any]:
    """A large file takes its time, but a server that says nothing for a minute is gone; proxies are honoured."""
    if url_scheme(url) not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return {"encoded": "%" in url, "client_kwargs": {"timeout": timeout, "trust_env": True}}


@contextmanager
def _told(remote: Remote) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # each file system raises kinds of its own
        if getattr(error, "errno", None) in _OF_THE_DISK:
            raise
        what, reason = _explained(error)
        raise DataError(f"{remote.name}: {what.format(place=remote.place, reason=reason)}. {remote.fix}") from None


def _explained(error: Exception) -> tuple[str, str]:
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return _DENIED if status in (401, 403) else _BROKEN, f"HTTP status {status}"
    for link in filter(None, (error, error.__cause__)):
        for name in (cls.__name__ for cls in type(link).__mro__):
            if name in _KINDS:
                return _KINDS[name]
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number < 0:  # getaddrinfo's
        return _KINDS["ClientConnectorDNSError"]
    if isinstance(number, int) and number != errno.EIO:
        return _UNREACHABLE, os.strerror(number).lower()
    network = "Connection" in "".join(cls.__name__ for cls in type(error).__mro__)
    return _UNREACHABLE if network else _BROKEN, type(error).__name__
