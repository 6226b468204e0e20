"""Downloads through fsspec: complete or not at all, stored under the sha256 of their content.

A URL may contain a password or a signature. So messages never repeat the text of another library's error; the type of
the error selects one of our texts.
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
_ERRORS = {  # by name of the class, so that no optional package needs to be imported
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
_DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class Remote:
    """A URL of a file, a folder or a pattern."""

    url: str = field(repr=False)
    name: str  # of the source, in messages
    place: str  # the URL in messages: without credentials and query
    fix: str = "Check the address and the network."

    @classmethod
    def of(cls, url: str) -> "Remote":
        """Return the URL that a configuration names."""
        parts = urlsplit(url)
        host = parts.netloc.rpartition("@")[2]
        return cls(url, PurePosixPath(parts.path).name or host, f"{parts.scheme}://{host}{parts.path}")

    @classmethod
    def secret(cls, url: str, alias: str) -> "Remote":
        """Return the URL that an environment variable names; no part of it is shown in messages."""
        return cls(url, alias, "its address", "Check the address in the variable, and the network.")

    @property
    def suffix(self) -> str:
        """The extension of a table in the URL, if there is one."""
        return table_suffix(urlsplit(self.url).path)


def url_scheme(source: str) -> str | None:
    """Return `https` of `https://…`; None for a path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", source)
    return match[1].lower() if match else None


def fetch(remote: Remote, downloads: Path, pin: Pin | None = None) -> Files:
    """Download files, unless the pinned content is stored already.

    Args:
        remote: the URL.
        downloads: folder that stores each content under its sha256.
        pin: the sha256 that the content must have.

    Raises:
        DataError: the file can't be reached, found, read or downloaded to its end, or the content has another sha256.
            No file is left then.
    """
    stored = _stored_files(downloads / pin.sha256, remote.name) if pin else None
    if stored and all(part.endswith(remote.suffix) for part in stored.parts):
        return stored
    try:
        downloads.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=downloads) as scratch:
            return _store(_download(remote, Path(scratch) / "content").check(pin), downloads)
    except OSError as error:  # of the disk; errors of the network are DataErrors by now
        raise DataError(
            f"{remote.name}: can't be kept in {downloads} ({error.strerror}). Make room, or allow it."
        ) from None


def _stored_files(folder: Path, name: str) -> Files | None:
    """Return the files of an earlier download, unless they are missing or damaged."""
    with suppress(OSError):
        os.utime(folder)  # marks the download as used: unused ones are removed after a while
    parts = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    files = Files(name, folder, parts, many=len(parts) > 1)
    return files if parts and files.sha256 == folder.name else None


def _store(files: Files, downloads: Path) -> Files:
    """Move a complete download to the folder of its content, which may exist already."""
    folder = downloads / files.sha256
    if not _move(files, folder):  # another run may have stored the same content just now
        stored = _stored_files(folder, files.name)
        if stored is None or stored.parts != files.parts:
            shutil.rmtree(folder, ignore_errors=True)
            _move(files, folder)
    return Files(files.name, folder, files.parts, files.many, files.sha256)


def _move(files: Files, folder: Path) -> bool:
    """Move the files to `folder`; return False if it exists already."""
    try:
        os.replace(files.base, folder)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def _download(remote: Remote, folder: Path) -> Files:
    """Download all files of a URL into `folder`."""
    with _download_errors(remote):
        system, path = _file_system(remote)
        sources = _list_tables(remote, system, path)
        many = sources is not None
        if sources is None:
            file_format(remote.suffix, remote.name)
            sources = {f"table{remote.suffix}": path}
        for part, source in sources.items():
            (folder / part).parent.mkdir(parents=True, exist_ok=True)
            system.get_file(source, str(folder / part))
    return Files(remote.name, folder, tuple(sorted(sources)), many)


def _list_tables(remote: Remote, system: Any, path: str) -> dict[str, str] | None:
    """Return the tables of a folder or pattern by relative path; None for a single file, as any HTTP URL is."""
    pattern = re.search(r"[*\[]", path)
    if url_scheme(remote.url) in ("http", "https") or not (pattern or system.isdir(path)):
        return None
    base = path[: pattern.start()].rpartition("/")[0] if pattern else path.rstrip("/")
    paths = map(str, (system.glob if pattern else system.find)(path))
    files = {file[len(base) :].lstrip("/"): file for file in paths}
    tables = {part: file for part, file in files.items() if pattern or is_table(part)}
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
        system, path = url_to_fs(remote.url, skip_instance_cache=True, **_http_options(remote.url))
    except ImportError:
        package = "lstm[s3]" if scheme in ("s3", "s3a") else f"fsspec[{scheme}]"
        raise DataError(f"{remote.name}: {scheme}:// needs another package. Run: pip install '{package}'") from None
    return system, str(path)


def _http_options(url: str) -> dict[str, Any]:
    """Return options for HTTP: no limit for the whole download, 60 s without data, and proxies are used."""
    if url_scheme(url) not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=30, sock_read=60)
    return {"encoded": "%" in url, "client_kwargs": {"timeout": timeout, "trust_env": True}}


@contextmanager
def _download_errors(remote: Remote) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # each file system raises its own types
        if getattr(error, "errno", None) in _DISK_ERRORS:
            raise
        template, reason = _download_error(error)
        raise DataError(f"{remote.name}: {template.format(place=remote.place, reason=reason)}. {remote.fix}") from None


def _download_error(error: Exception) -> tuple[str, str]:
    """Return the template and the reason of the message for an error."""
    status = getattr(error, "status", None)
    if isinstance(status, int):
        return _DENIED if status in (401, 403) else _BROKEN, f"HTTP status {status}"
    for link in filter(None, (error, error.__cause__)):
        for name in (cls.__name__ for cls in type(link).__mro__):
            if name in _ERRORS:
                return _ERRORS[name]
    number = getattr(error, "errno", None)
    if isinstance(number, int) and number < 0:  # getaddrinfo's
        return _ERRORS["ClientConnectorDNSError"]
    if isinstance(number, int) and number != errno.EIO:
        return _UNREACHABLE, os.strerror(number).lower()
    network = "Connection" in "".join(cls.__name__ for cls in type(error).__mro__)
    return _UNREACHABLE if network else _BROKEN, type(error).__name__
