"""Where flow records go: to journald with all their fields or, where nothing connects the log with it, to the log."""

from __future__ import annotations

import logging
import socket
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from kiptail.config.settings import Settings
from kiptail.events.journaling import RecordSink
from kiptail.stdio import stderr_is_the_journal

__all__ = ["JournalRecords", "LogRecords", "encode", "open_record_sink"]

log = logging.getLogger(__name__)

#: Where journald takes entries with fields, as datagrams (systemd.io/JOURNAL_NATIVE_PROTOCOL).
SOCKET = Path("/run/systemd/journal/socket")
_PREFIX = "KIPTAIL_"


def open_record_sink(settings: Settings, stack: ExitStack) -> RecordSink | None:
    """Where this run's records go; None for a run without: a dry one, or one that logs less than info.

    ``stack`` closes it.
    """
    if settings.dry_run or settings.log_level not in {"debug", "info"}:
        return None
    if settings.log_format != "auto" or not stderr_is_the_journal():
        return LogRecords()
    sink = JournalRecords()
    stack.callback(sink.close)
    return sink


def encode(fields: Mapping[str, str]) -> bytes:
    """One entry in journald's native protocol; names of fields are capitals, digits and underscores."""
    lines = []
    for name, value in fields.items():
        data = value.encode("utf-8", "replace")
        if b"\n" in data:
            lines.append(name.encode() + b"\n" + len(data).to_bytes(8, "little") + data)
        else:
            lines.append(name.encode() + b"=" + data)
    return b"\n".join(lines) + b"\n"


class JournalRecords:
    """To journald, without ever waiting: libsystemd's own calls do where its queue is full."""

    def __init__(self, path: Path = SOCKET) -> None:
        self._path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)

    def write(self, fields: Mapping[str, str]) -> None:
        """Write one record; OSError when journald is away or its queue is full."""
        # By the path each time: journald, started anew, has another socket there.
        self._socket.sendto(encode({"SYSLOG_IDENTIFIER": "kiptail", **fields}), self._path)

    def close(self) -> None:
        """Write no more."""
        self._socket.close()


class LogRecords:
    """To the log, as a line of their message; one in JSON has the fields as well."""

    def write(self, fields: Mapping[str, str]) -> None:
        """Write one record."""
        extra = {name: value for name, value in fields.items() if name.startswith(_PREFIX)}
        log.info("%s", fields["MESSAGE"], extra=extra)
