"""When a run has to stop: a signal, a reader that left, or a thread that died."""

from __future__ import annotations

import logging
import select
import signal
import socket
import threading
from contextlib import ExitStack, suppress
from types import FrameType

__all__ = ["StopSignal"]

log = logging.getLogger(__name__)


class StopSignal:
    """Set by SIGTERM or SIGINT, or by a thread that died; wakes whoever polls :meth:`fileno`."""

    def __init__(self, stack: ExitStack) -> None:
        """Takes the signals over, in the main thread, until ``stack`` is closed."""
        self._set = threading.Event()
        #: A thread ended with an exception: the run must not go on as if nothing had happened.
        self.crashed = False
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)
            stack.callback(end.close)
        stack.callback(signal.set_wakeup_fd, signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False))
        for number in (signal.SIGTERM, signal.SIGINT):
            stack.callback(signal.signal, number, signal.signal(number, self._on_signal))
        before = threading.excepthook
        threading.excepthook = self._on_crash
        stack.callback(setattr, threading, "excepthook", before)

    def is_set(self) -> bool:
        """It is time to stop."""
        return self._set.is_set()

    def wait(self, seconds: float) -> bool:
        """Wait for it at most this long; whether it is set."""
        # Not by the Event: a handler that sets it while this waits for it could find its lock taken.
        select.select([self._read], [], [], seconds)
        return self.is_set()

    def fileno(self) -> int:
        """A descriptor that can be read from then on."""
        return self._read.fileno()

    def set(self) -> None:
        """Ask for a stop, from any thread."""
        self._set.set()
        self.wake()

    def wake(self) -> None:
        """Wake whoever polls :meth:`fileno`, from any thread, though it is not time to stop."""
        with suppress(OSError):  # full: it is readable already
            self._write.send(b"\0")

    def heard(self) -> None:
        """Whoever polls is awake. The descriptor stays readable when it is time to stop."""
        if self.is_set():
            return
        with suppress(BlockingIOError):
            self._read.recv(4096)
        if self.is_set():  # meanwhile: what was read may have been that
            self.wake()

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        # Nothing is logged here: the main thread may be in the middle of a line.
        self._set.set()

    def _on_crash(self, args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else "a thread"
        if args.exc_value is not None:
            log.critical("internal error in %s", name, exc_info=args.exc_value)
        self.crashed = True
        self.set()
