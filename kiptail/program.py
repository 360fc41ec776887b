"""Another program, run for a moment: one deadline for all of it, bounded output, and nothing of it stays.

``subprocess`` has a timeout for the program, not for a child that keeps its output open, and takes in whatever is
printed. Here a program is over when it ends itself; then, and when its time is, its whole process group is ended. What
a child that made a session of its own does is out of reach: of that, only the pipes are closed.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from kiptail.text import one_line

__all__ = ["Finished", "ProgramError", "in_memory", "run_program"]

#: How often the end of the program is looked for, and whether it is to be broken off, in seconds.
TICK_S = 0.02
#: After it was asked to end (SIGTERM), the time until it is killed, in seconds.
GRACE_S = 0.5
#: What is kept of what it complains about, in bytes.
COMPLAINT_BYTES = 4 << 10
_PIPE_BYTES = 64 << 10


class ProgramError(Exception):
    """It could not be run, or not to its end; says why, on one line."""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, and what it said."""

    #: Its exit code; of a signal that ended it, the negative number.
    code: int
    output: bytes
    #: The beginning of what it wrote to its standard error, on one line.
    complaint: str

    @property
    def fate(self) -> str:
        """How it ended, in words."""
        if self.code >= 0:
            return f"ended with {self.code}"
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(-self.code).name}"
        return f"was ended by signal {-self.code}"


def run_program(
    command: Sequence[str],
    *,
    env: Mapping[str, str],
    seconds: float,
    limit: int,
    stdin: int = subprocess.DEVNULL,
    on_terminal: bool = False,
    stopped: Callable[[], bool] = bool,
) -> Finished:
    """Run it to its end. Raises ProgramError.

    It may take ``seconds`` and write ``limit`` bytes to each of its outputs, and is broken off once ``stopped()``.
    ``stdin`` is a descriptor. ``on_terminal``: it may ask there, and what it complains about is seen there; it stays in
    our process group, so that it can.
    """
    try:
        process = subprocess.Popen(  # noqa: S603 - no shell
            command,
            stdin=None if on_terminal else stdin,
            stdout=subprocess.PIPE,
            stderr=None if on_terminal else subprocess.PIPE,
            env=env,
            start_new_session=not on_terminal,
        )
    except (OSError, ValueError) as error:
        raise ProgramError(f"cannot be run: {one_line(getattr(error, 'strerror', None) or str(error))}") from error
    group = None if on_terminal else process.pid
    with contextlib.ExitStack() as stack:
        stack.callback(_end, process, group)
        pipes = [stack.enter_context(pipe) for pipe in (process.stdout, process.stderr) if pipe is not None]
        said = [bytearray() for _ in pipes]
        # Its end is looked for without taking notice of it: until then no other process can have its number.
        with selectors.PollSelector() as selector:
            for pipe, data in zip(pipes, said, strict=True):
                os.set_blocking(pipe.fileno(), False)
                selector.register(pipe.fileno(), selectors.EVENT_READ, data)
            deadline = time.monotonic() + seconds
            while not _over(process):
                if stopped():
                    raise ProgramError("was broken off, for kiptail stops")
                if time.monotonic() >= deadline:
                    raise ProgramError(f"took longer than {seconds:g} s")
                if selector.get_map():
                    _read(selector, limit, TICK_S)
                else:
                    time.sleep(TICK_S)
            while selector.get_map() and _read(selector, limit, 0):
                pass
    complaint = bytes(said[1][:COMPLAINT_BYTES]) if len(said) > 1 else b""
    code = -signal.SIGKILL if process.returncode is None else process.returncode
    return Finished(code, bytes(said[0]), one_line(complaint.decode(errors="replace")))


def _read(selector: selectors.BaseSelector, limit: int, patience: float) -> bool:
    """Take in what there is within ``patience`` seconds; False when there was nothing. Raises ProgramError."""
    ready = selector.select(patience)
    for key, _ in ready:
        part = os.read(key.fd, _PIPE_BYTES)
        key.data.extend(part)
        if not part:
            selector.unregister(key.fd)
        if len(key.data) > limit:
            raise ProgramError(f"printed more than {limit >> 20} MiB")
    return bool(ready)


def _over(process: subprocess.Popen[bytes]) -> bool:
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # somebody has the kernel forget children at once
        return True


def _end(process: subprocess.Popen[bytes], group: int | None) -> None:
    """End it, and those that it has started."""
    if not _over(process):
        _signal(process, group, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while not _over(process) and time.monotonic() < deadline:
            time.sleep(TICK_S)
    _signal(process, group, signal.SIGKILL)
    with contextlib.suppress(subprocess.TimeoutExpired):  # it hangs in the kernel, or is another user's
        process.wait(GRACE_S)


def _signal(process: subprocess.Popen[bytes], group: int | None, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if group is None:
            os.kill(process.pid, number)
        else:
            os.killpg(group, number)


@contextlib.contextmanager
def in_memory(data: bytes) -> Iterator[int]:
    """A descriptor of a file that holds ``data``, on no disk and with no name. Raises OSError."""
    fd = os.memfd_create("kiptail", os.MFD_CLOEXEC)
    with open(fd, "wb") as file:
        file.write(data)
        file.flush()
        file.seek(0)
        yield fd
