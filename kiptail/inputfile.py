"""A file that somebody names in a setting: what has no end is refused, and nothing is waited for.

A pipe is read where somebody gave it to this process, as ``/dev/stdin`` or ``<(kubectl …)``: its other end is open. One
in the file system may have none.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from pathlib import Path

__all__ = ["read"]

#: What is open in this process already.
_DESCRIPTOR = re.compile(r"/dev/stdin|/dev/fd/\d{1,9}|/proc/self/fd/\d{1,9}")


def read(path: Path, limit: int) -> bytes:
    """The file's content. Raises OSError, whose ``strerror`` says why not, also for more than ``limit`` bytes."""
    # Without waiting: for whoever opens the other end of a pipe, or for the kernel's next message.
    number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(number)
        if stat.S_ISDIR(status.st_mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR))
        if stat.S_ISFIFO(status.st_mode) and _DESCRIPTOR.fullmatch(str(path)):
            os.set_blocking(number, True)
        elif not (stat.S_ISREG(status.st_mode) or _is_dev_null(status)):
            raise OSError(errno.EINVAL, "it is no regular file")
        if status.st_size <= limit:
            with open(number, "rb", closefd=False) as file:
                data = file.read(limit + 1)
            if len(data) <= limit:
                return data
    finally:
        os.close(number)
    raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MiB")


def _is_dev_null(status: os.stat_result) -> bool:
    """The usual name for an empty file."""
    return stat.S_ISCHR(status.st_mode) and os.path.samestat(status, os.stat(os.devnull))
