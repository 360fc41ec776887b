"""The open journal, which is opened anew when it fails.

When a file is vacuumed under the reader, sd_journal_next(3) fails with EBADMSG for ever; a directory may be replaced,
or be away for a while. What is opened then goes on where reading had got to.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from kiptail.clock.trouble import Trouble
from kiptail.errors import JournalError
from kiptail.journal.reader import Reader, match_kernel
from kiptail.journal.scanner import JournalCounts
from kiptail.journal.source import Source, reason, unreadable

__all__ = ["OpenJournal"]

log = logging.getLogger(__name__)

#: Seconds between two tries to open the journal.
_REOPEN_SECONDS = 1.0


class OpenJournal:
    """A reader of kernel lines, while there is one, and why there is none."""

    def __init__(
        self,
        source: Source,
        go_there: Callable[[Reader], None],
        counts: JournalCounts,
        *,
        follow: bool,
        units: Sequence[str] = (),
    ) -> None:
        """``go_there`` puts a reader that was just opened where reading goes on; OSError.

        ``units`` are those whose entries are read as well.
        """
        self.reader: Reader | None = None
        #: inotify's file descriptor, with a reader. ``_deaf``: there was none to be had.
        self.fd: int | None = None
        self._source = source
        self._go_there = go_there
        self._counts = counts
        self._units = units
        self._asks_inotify = source.grows and follow
        self._deaf = False
        self._trouble = Trouble()
        #: Of time.monotonic(), seconds.
        self._reopen_due = 0.0

    @property
    def trouble(self) -> str:
        """Why nothing can be read at the moment, in one line; "" while all is well."""
        return self._trouble.text

    def open(self) -> None:
        """Open the journal where reading goes on; OSError, JournalError."""
        self._source.check()
        with contextlib.ExitStack() as on_error:
            reader = self._source.open()
            on_error.callback(reader.close)
            fd = self._inotify(reader)
            # Before the matches are set, for after that the reader is at no entry.
            self._go_there(reader)
            match_kernel(reader, self._units)
            on_error.pop_all()
        self.reader = reader
        self.fd = fd

    def close(self) -> None:
        """Give the files back."""
        if self.reader is not None:
            self.reader.close()
        self.reader = self.fd = None

    def open_again(self) -> bool:
        """Open the journal anew, unless that was tried within a second; whether it is open."""
        now = time.monotonic()
        if now < self._reopen_due:
            return False
        self._reopen_due = now + _REOPEN_SECONDS
        try:
            self.open()
        except (OSError, JournalError) as error:
            self._begin_trouble(error)
            return False
        self._counts.reopened += 1
        return True

    def recovers(self, error: OSError) -> bool:
        """After a read failed: whether the journal has been opened anew and reading can go on at once."""
        self.close()
        log.debug("%s: %s; opening it anew", self._source, reason(error))
        opened = self.open_again()
        if not opened and not self.trouble:  # why it cannot be opened tells more, where that was tried just now
            self._begin_trouble(error)
        return opened

    def end_trouble(self) -> None:
        """A read went well, though the journal may have to be opened anew for the next one."""
        if self.reader is not None and self._trouble.ends():
            log.info("%s can be read again", self._source)

    def _begin_trouble(self, error: OSError | JournalError) -> None:
        """Log a trouble when it begins, not each time that it is met."""
        why = str(error if isinstance(error, JournalError) else unreadable(self._source, error))
        if self._trouble.begins(why):
            log.error("%s; trying again every %d s", why, _REOPEN_SECONDS)

    def _inotify(self, reader: Reader) -> int | None:
        """inotify's file descriptor; asking for it is what makes :func:`changed` see new and deleted files."""
        if not self._asks_inotify:
            return None
        try:
            return reader.fileno()
        except OSError as error:
            if not self._deaf:
                self._deaf = True
                log.warning(
                    "no inotify (%s; see fs.inotify.max_user_instances): new journal files are found late",
                    error.strerror,
                )
            return None
