"""Log lines for journald, a terminal or a collector: one line each, whatever a foreign text holds.

Under systemd they go to journald with fields (systemd.journal-fields(7)): whatever is given as ``extra`` under a name
in capitals becomes one, such as KIPTAIL_POD of a posted Event.
"""

from __future__ import annotations

import json
import logging
import sys
from typing import Literal, TextIO

from kiptail.stdio import say, stderr_is_the_journal
from kiptail.text import one_line
from systemd import journal

__all__ = ["configure"]

#: A line that is longer says nothing more.
_LIMIT = 2_000
_PREFIX = "KIPTAIL_"


class _Formatter(logging.Formatter):
    """``12:00:00 info: text``; without the time and level for journald, which has fields for them."""

    def __init__(self, *, bare: bool = False) -> None:
        super().__init__()
        self._bare = bare

    def format(self, record: logging.LogRecord) -> str:
        text = one_line(record.getMessage(), _LIMIT)
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)  # an internal error: the traceback is wanted
        return text if self._bare else f"{self.formatTime(record, '%H:%M:%S')} {record.levelname.lower()}: {text}"


class _JsonFormatter(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, object] = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": one_line(record.getMessage(), _LIMIT),
        }
        own = {key: value for key, value in record.__dict__.items() if key.startswith(_PREFIX)}
        fields |= {key.removeprefix(_PREFIX).lower(): value for key, value in own.items()}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False)


class _StderrHandler(logging.StreamHandler[TextIO]):
    """To the standard error; where nothing can be written to that, an error of logging cannot be shown either."""

    def handleError(self, record: logging.LogRecord) -> None:
        """Only what is no matter of the stream is an internal error, which logging shows."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def configure(level: str, *, drops: bool = False, style: Literal["auto", "text", "json"] = "auto") -> None:
    """Log to journald where the standard error is connected with it (``$JOURNAL_STREAM``), else to that.

    ``drops``: whoever asked for a record of each drop gets it at any level.
    """
    handler: logging.Handler
    if style == "auto" and stderr_is_the_journal():
        handler = journal.JournalHandler(sender_function=_send, SYSLOG_IDENTIFIER="kiptail")
        handler.setFormatter(_Formatter(bare=True))
    else:
        handler = _StderrHandler(sys.stderr)
        handler.setFormatter(_JsonFormatter() if style == "json" else _Formatter())
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("kiptail").setLevel(level.upper())
    logging.getLogger("kiptail.drops").setLevel(logging.INFO if drops else logging.NOTSET)


def _send(message: str, **fields: object) -> None:
    """What the handler gives, without the record's attributes that are no fields, and its arguments."""
    wanted = {key: value for key, value in fields.items() if key.isupper() and key != "CODE_ARGS"}
    try:
        journal.send(message, **wanted)
    except OSError:
        say(message)  # journald starts anew, and its stream outlives it
