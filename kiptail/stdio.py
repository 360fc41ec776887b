"""The standard streams, whatever they are connected with: closed, full, a broken pipe, or unable to show a character.

A write to the standard output raises :class:`OutputClosed` or :class:`~kiptail.errors.KiptailError` and nothing else;
what goes to the standard error goes nowhere rather than end anything.
"""

from __future__ import annotations

import codecs
import errno
import fcntl
import io
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from kiptail.errors import KiptailError

__all__ = ["OutputClosed", "finish", "prepare", "require_output", "say", "stderr_is_the_journal", "write"]

#: The error handler of both streams: see :func:`_plain`.
_HANDLER = "kiptail-plain"
#: How a stream whose encoding lacks these shows them.
_PLAIN = {"→": "->", "…": "...", "–": "-", "’": "'", "“": '"', "”": '"'}
_CLOSED = "the standard output is closed"


class OutputClosed(Exception):
    """Nobody reads the standard output any more: whatever writes there has nothing left to do, which is no error."""


class _Output(io.TextIOWrapper):
    """The standard output, with errors that no other file's are taken for."""

    def write(self, text: str, /) -> int:
        with self._errors_told_apart():
            return super().write(text)

    def flush(self) -> None:
        with self._errors_told_apart():
            super().flush()

    @contextmanager
    def _errors_told_apart(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            _let_go(self)
            if isinstance(error, BrokenPipeError):
                raise OutputClosed from error
            if error.errno == errno.EBADF:
                raise KiptailError(_CLOSED) from error
            raise KiptailError(f"cannot write to the standard output: {error.strerror}") from error


def prepare() -> None:
    """Make the streams such that nothing printed ends in a traceback; once, before anything is printed.

    A number below 3 that is closed gets /dev/null: the next file that is opened would have it otherwise, and whatever a
    library writes to its standard error would go there.
    """
    for number, flags in ((0, os.O_RDONLY), (1, os.O_RDONLY), (2, os.O_WRONLY)):  # 1: so that writing fails
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, flags), True)
    codecs.register_error(_HANDLER, _plain)
    if sys.stdout is sys.__stdout__:
        encoding = sys.stdout.encoding if sys.stdout is not None else "utf-8"
        line_buffering = sys.stdout is not None and sys.stdout.line_buffering
        raw = open(1, "wb", closefd=False)  # noqa: SIM115 - it lasts as long as the process
        sys.stdout = _Output(raw, encoding=encoding, errors=_HANDLER, line_buffering=line_buffering)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=_HANDLER)
    elif sys.stderr is None:
        sys.stderr = open(2, "w", encoding="utf-8", errors=_HANDLER, closefd=False)  # noqa: SIM115 - likewise


def require_output() -> None:
    """Raise KiptailError where the standard output cannot be written to, so that nothing is begun for it."""
    try:
        mode = fcntl.fcntl(1, fcntl.F_GETFL) & os.O_ACCMODE
    except OSError as error:
        raise KiptailError(_CLOSED) from error
    if mode == os.O_RDONLY:
        raise KiptailError(_CLOSED)


def write(text: str) -> None:
    """Write ``text`` to the standard output, now. Raises OutputClosed, KiptailError."""
    sys.stdout.write(text)
    sys.stdout.flush()


def say(line: str) -> None:
    """Write a line to the standard error, if anybody can read it there."""
    try:
        sys.stderr.write(line + "\n")
        sys.stderr.flush()
    except OSError:
        _let_go(sys.stderr)


def stderr_is_the_journal() -> bool:
    """journald reads the standard error, by ``$JOURNAL_STREAM`` (systemd.exec(5)).

    Somebody may have redirected it since the variable was set, so that is compared with what is there.
    """
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(status.st_dev), str(status.st_ino))


def finish(code: int) -> int:
    """Write what is still in the streams; the exit code, which is 1 instead of 0 where that cannot be.

    What is left in them when the interpreter ends would change the exit code to 120.
    """
    try:
        sys.stdout.flush()
    except OutputClosed:
        pass
    except KiptailError as error:
        say(f"kiptail: {error}")
        code = code or error.exit_code
    try:
        sys.stderr.flush()
    except OSError:
        _let_go(sys.stderr)
    return code


def _let_go(stream: TextIO) -> None:
    """What is still in ``stream`` goes nowhere, and no complaint comes of it at exit."""
    with suppress(OSError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)


def _plain(error: UnicodeError) -> tuple[str, int]:
    """A codec's error handler: signs that the encoding lacks by others, and the rest as JSON escapes them."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    lacking = error.object[error.start : error.end]
    return "".join(_PLAIN.get(c) or json.dumps(c)[1:-1] for c in lacking), error.end
