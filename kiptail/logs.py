"""Log lines for journald or a terminal: one line each, whatever a foreign text holds."""

from __future__ import annotations

import logging
import os
import sys

from kiptail.errors import one_line

__all__ = ["configure"]

#: A line that is longer says nothing more.
_LIMIT = 2_000

#: Levels as sd-daemon(3) writes them in front of a line.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


class _Formatter(logging.Formatter):
    def __init__(self, *, for_journal: bool) -> None:
        super().__init__()
        self._for_journal = for_journal

    def format(self, record: logging.LogRecord) -> str:
        text = one_line(record.getMessage(), _LIMIT)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)  # an internal error: the traceback is wanted
        if self._for_journal:
            return f"<{_PRIORITIES.get(record.levelno, 6)}>{text}"
        return f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()}: {text}"


def configure(level: str, *, drops: bool = False) -> None:
    """Log to the standard error, in journald's notation when it reads there (``$JOURNAL_STREAM``).

    ``drops``: whoever asked for a record of each drop gets it at any level.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Formatter(for_journal="JOURNAL_STREAM" in os.environ))
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kiptail").setLevel(level.upper())
    logging.getLogger("kiptail.drops").setLevel(logging.INFO if drops else logging.NOTSET)
