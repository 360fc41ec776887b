"""Where reading has got to, and how a reader that was just opened gets there.

A cursor never says "gone": sd_journal_seek_cursor(3) lands on some other entry. So a position holds the times too, and
after a vacuum, or a flush from /run to /var, they decide what has been read already.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from kiptail.journal.losses import Losses
from kiptail.journal.position import Position, is_later, was_read
from kiptail.journal.reader import Reader, position_of
from kiptail.journal.seeking import begin, go_after, go_to, is_passed_by

__all__ = ["Bookmark"]


class Bookmark:
    """The position of the journal's reading, without the clocks."""

    def __init__(
        self,
        position: Position | None,
        since_us: int | None,
        running_boot: str,
        losses: Losses,
        last_line: Callable[[], Position | None],
    ) -> None:
        """``position`` is where an earlier reader had got to and wins over ``since_us``, a time (realtime, µs).

        ``last_line`` gives the position of the last line that was found, less its cursor; it is asked for when the
        reader cannot tell its own.
        """
        #: The last position that is known. ``_moved``: the reader has got to a later entry since.
        self._known = replace(position, clock=None, times=None) if position else None
        self._moved = False
        #: The position where reading began at a time asked for; an earlier reader's, if it is before all entries.
        self._beginning = self._known if position and not position.cursor else None
        self._since_us = since_us if position is None else None
        #: Set when a cursor was not found, until the journal's end: what is not later has been read already.
        self._skip_until: Position | None = None
        self._running_boot = running_boot
        self._losses = losses
        self._last_line = last_line

    def position(self, reader: Reader | None) -> Position | None:
        """Of the entry that ``reader`` is at, if it has moved; None as long as nothing is known."""
        if self._moved and reader is not None:
            self._moved = False
            try:
                self._known = position_of(reader)
            except OSError:
                # The file is gone. What came after the last wanted entry will be looked at once more.
                self._known = self._last_line() or self._known
        return self._known

    @property
    def asked_for_us(self) -> int | None:
        """The time at which reading was to begin, as long as nothing has been read."""
        return self._since_us if self._known == self._beginning else None

    def go_there(self, reader: Reader) -> None:
        """Put a reader without matches at the known position, else at the time asked for; OSError.

        Without either it stays at the head.
        """
        self._skip_until = None
        if self._known is not None:
            found = go_to(reader, self._known.cursor)
            if not found or is_passed_by(reader, self._known, self._running_boot):
                self._skip_until = self._known
                if not found:
                    self.report_loss(reader)
                go_after(reader, self._known, self._running_boot)
        elif self._since_us is not None:
            self._known = self._beginning = begin(reader, self._since_us, self._running_boot)

    def report_loss(self, reader: Reader) -> None:
        """See whether entries after the known position were deleted unread; OSError."""
        if self._known is None or (self._known == self._beginning and not self._known.cursor):
            # There was no entry before it, so the first one there is now says nothing of deleted ones.
            return
        self._losses.report(reader, self._known)

    @property
    def skip(self) -> Callable[[Reader], bool] | None:
        """Whether an entry has been read already; None when none that is to come has."""
        return None if self._skip_until is None else self._was_read

    def _was_read(self, reader: Reader) -> bool:
        try:
            entry = position_of(reader)
        except OSError:
            return False
        if self._skip_until is not None and was_read(entry, self._skip_until, self._running_boot):
            return True
        self._known = entry
        return False

    def note_moved(self) -> None:
        """The reader has got to a later entry. While entries are skipped, the position is kept by that."""
        self._moved = self._skip_until is None

    def note_end(self) -> None:
        """The journal's end was reached: nothing that has been read is still to come."""
        self._skip_until = None

    def pass_to(self, last: Position, reader: Reader) -> None:
        """Move on to ``last``, the journal's last entry, unless that would be back."""
        if is_later(last, self.position(reader), self._running_boot):
            self._known = last
