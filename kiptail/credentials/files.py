"""The files with credentials: read with an error that names them, noticed when they change, written privately."""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from kiptail.errors import ClusterError
from kiptail.text import one_line

__all__ = [
    "CREDENTIAL_BYTES",
    "Stamp",
    "TokenFile",
    "clean_token",
    "read_file",
    "stamp",
    "why",
    "write_secret",
    "write_whole",
]

Stamp: TypeAlias = tuple[int, int, int] | None

#: Limit for a certificate, key or token file.
CREDENTIAL_BYTES = 1 << 20
#: A token file is read again after this time even if it looks the same.
TOKEN_READ_S = 60.0


def stamp(path: Path) -> Stamp:
    """What changes when a file is rewritten, or when a symlink on the way to it is moved."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size


def read_file(path: Path, what: str, limit: int, *, hint: str = "") -> bytes:
    """The file's bytes. Raises ClusterError, in which ``what`` names the file's role."""
    shown = f"{what} {one_line(str(path))}"
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError as error:
        raise ClusterError(f"{shown} does not exist{hint}") from error
    except PermissionError as error:
        problem = f"{shown} may not be read by this user (uid {os.geteuid()})"
        raise ClusterError(problem, remedy="run as root, or let this user read it") from error
    except (OSError, ValueError) as error:
        raise ClusterError(f"{shown} cannot be read: {why(error)}") from error
    if len(data) > limit:
        raise ClusterError(f"{shown} is larger than {limit >> 20} MiB")
    return data


def why(error: Exception) -> str:
    """The error's text without its errno and path, on one line."""
    return one_line(getattr(error, "strerror", None) or str(error) or error.__class__.__name__)


def clean_token(text: str, where: str) -> str:
    """``text`` stripped. http.client refuses a header with a newline, with a message that shows the token."""
    token = text.strip()
    if not re.fullmatch(r"[\x21-\x7e]+", token):
        raise ClusterError(f"{where} is empty or holds blanks or control characters")
    return token


def write_secret(path: Path, data: bytes) -> None:
    """Make ``path`` hold ``data``, for its owner alone (0600), all of it or not at all. Raises OSError."""
    write_whole(path, data, mode=0o600)


def write_whole(path: Path, data: bytes, *, mode: int) -> None:
    """Make ``path`` hold ``data``, with this mode whatever the umask is, all of it or not at all. Raises OSError."""
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
            file.flush()
            if mode != 0o600:
                os.fchmod(fd, mode)
            os.fsync(fd)
        fresh.replace(path)
    except BaseException:
        with suppress(OSError):
            fresh.unlink()
        raise
    with suppress(OSError):
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)


class TokenFile:
    """A bearer token in a file that somebody else renews; the loader reads it once, newline and all."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read_at = 0.0
        self._stamp: Stamp = None
        self._token = ""

    def token(self) -> str:
        """The token; the last one while the file cannot be read. Raises ClusterError if there is none."""
        current = stamp(self._path)
        if self._token and current == self._stamp and time.monotonic() < self._read_at + TOKEN_READ_S:
            return self._token
        try:
            text = read_file(self._path, "the token file", CREDENTIAL_BYTES).decode(errors="replace")
            self._token = clean_token(text, f"the token file {self._path}")
        except ClusterError:
            if not self._token:
                raise
        self._stamp, self._read_at = current, time.monotonic()
        return self._token
