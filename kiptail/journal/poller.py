"""When a read may find something: by inotify, by the journal's end and by time.

sd_journal_wait(3) swallows signals, and journald holds its notice of a change back for up to 250 ms: this polls.
"""

from __future__ import annotations

import select
import time

from kiptail.journal.reader import Reader

__all__ = ["Poller"]

#: Seconds between polls when nothing happens, soon after a kernel line, and how long "soon" lasts.
_QUIET_POLL = 0.1
_BUSY_POLL = 0.02
_BUSY_SECONDS = 2.0


class Poller:
    """Waits until something may have been written."""

    def __init__(self) -> None:
        #: The journal's end before the last read, as a time, and whether the read before that saw the same: journald
        #: adds an entry to the list of all, which has that time, before it adds it to those that matches look in.
        self._end_us = 0
        self._settled = False
        #: Of time.monotonic(), seconds.
        self._busy_until = 0.0

    def note_end(self, reader: Reader) -> None:
        """Before a read: what is written until now, it finds; OSError."""
        end_us = reader._get_end()
        self._settled = end_us == self._end_us
        self._end_us = end_us

    def note_entries(self) -> None:
        """A read found some: more are likely soon."""
        self._busy_until = time.monotonic() + _BUSY_SECONDS

    def wait(self, timeout: float, reader: Reader | None, *fds: int | None) -> None:
        """Wait for ``timeout`` seconds, until one of ``fds`` can be read, or until something was written."""
        poll = select.poll()
        for fd in fds:
            if fd is not None:
                poll.register(fd, select.POLLIN)
        deadline = time.monotonic() + timeout
        while True:
            now = time.monotonic()
            busy = now < self._busy_until
            pause = max(0.0, min(deadline - now, _BUSY_POLL if busy else _QUIET_POLL))
            if poll.poll(pause * 1000) or busy or now + pause >= deadline or self._may_find(reader):
                return

    def _may_find(self, reader: Reader | None) -> bool:
        """Whether a read may find something. To ask that instead halves what kiptail costs while nothing happens."""
        if reader is None or not self._settled:
            return True
        try:
            return reader._get_end() != self._end_us
        except OSError:
            return True
