"""What the raw fields of a journal entry say (pure): whether the kernel or ulogd wrote it, when, and what.

Field names are those of systemd.journal-fields(7).
"""

from __future__ import annotations

import re

__all__ = [
    "ENDED_MESSAGE_IDS",
    "MESSAGE_LIMIT",
    "MISSED_MESSAGE_ID",
    "MOST_DIGITS",
    "STARTED_MESSAGE_ID",
    "is_of_ulogd",
    "is_start_of_service",
    "is_trusted",
    "loses_packets",
    "microseconds",
    "missed_messages",
    "suppressed_messages",
    "text_of",
]

#: SD_MESSAGE_JOURNAL_MISSED: journald's own notice that the kernel's ring buffer overran before it was read.
MISSED_MESSAGE_ID = "e9bf28e6e834481bb6f48f548ad13606"

#: What systemd says of a service: SD_MESSAGE_UNIT_STARTED, and that it stops, has stopped, or failed in some way
#: (UNIT_STOPPING, STOPPED, SUCCESS, FAILED, FAILURE_RESULT, PROCESS_EXIT, RESTART_SCHEDULED).
STARTED_MESSAGE_ID = "39f53479d3a045ac8e11786248231fbf"
ENDED_MESSAGE_IDS = (
    "de5b426a63be47a7b6ac3eaac82e2f6f",
    "9d1aaa27d60140bd96365438aad20286",
    "7ad2d189f7e94e70a38c781354912448",
    "be02cf6855d2428ba40df7e9d022f03d",
    "d9b373ed55a64feb8242e02dbe79a49c",
    "98e322203f7a4ed290d09fe03c09fe15",
    "5eb03494b6584870a536b337290809b3",
)

#: A message is cut at this many bytes. The kernel's lines end at 2 KiB (PRINTK_MESSAGE_MAX), so nothing that
#: counts is lost; a file written by something else may hold hundreds of megabytes in one field.
MESSAGE_LIMIT = 8192

#: Digits of a time: 18 are 30,000 years, and fit into SQLite's integers.
MOST_DIGITS = 18

#: What ulogd says when packets came faster than it could read them, of its plugin NFLOG: with a buffer that can grow,
#: and where that is at its end, which is said once.
_LOSING = (b"We are losing events", b"Maximum buffer size (")
_SUPPRESSED = re.compile(rb"Suppressed ([0-9]{1,20}) messages from (\S{1,256})")
_MISSED = re.compile(rb"Missed ([0-9]{1,20}) kernel messages")


def is_trusted(transport: bytes, facility: bytes) -> bool:
    """Whether the kernel itself wrote an entry with this ``_TRANSPORT`` and ``SYSLOG_FACILITY``.

    journald sets ``_TRANSPORT``; nobody else can. What root writes to /dev/kmsg has it too, but with another
    facility than the kernel's 0. ``SYSLOG_IDENTIFIER=kernel`` proves nothing: any user can send it.
    """
    return transport == b"kernel" and facility == b"0"


def is_of_ulogd(transport: bytes, identifier: bytes) -> bool:
    """Whether ulogd wrote an entry of the unit that runs it, with this ``_TRANSPORT`` and ``SYSLOG_IDENTIFIER``.

    The unit is ``_SYSTEMD_UNIT``, which journald takes from the sender's control group: what a user starts is in
    user@UID.service, whatever it is called. The identifier proves nothing, and leaves out what systemd says of it.
    """
    return transport == b"syslog" and identifier == b"ulogd"


def text_of(message: bytes) -> str:
    r"""``MESSAGE`` as text, cut at :data:`MESSAGE_LIMIT` bytes; bytes that are not UTF-8 become ``\xNN``."""
    return message[:MESSAGE_LIMIT].decode("utf-8", "backslashreplace")


def missed_messages(message: bytes) -> int | None:
    """N of journald's notice "Missed N kernel messages"; None when ``message`` is not that."""
    found = _MISSED.fullmatch(message)
    return int(found[1]) if found else None


def suppressed_messages(message: bytes) -> tuple[int, bytes] | None:
    """N and the unit of journald's notice "Suppressed N messages from UNIT"; None when ``message`` is not that."""
    found = _SUPPRESSED.fullmatch(message)
    return (int(found[1]), found[2]) if found else None


def is_start_of_service(message_id: bytes, job_result: bytes, message: bytes) -> bool:
    """Whether systemd, which wrote an entry with these fields, says that a service runs.

    That it was skipped, for want of a condition, differs in the text only.
    """
    return message_id == STARTED_MESSAGE_ID.encode() and job_result == b"done" and message.startswith(b"Started ")


def loses_packets(message: bytes) -> bool:
    """Whether ulogd says of itself that packets of its NFLOG group were lost; it does not say how many."""
    return message.startswith(_LOSING)


def microseconds(field: bytes) -> int | None:
    """The number in a field such as ``_SOURCE_MONOTONIC_TIMESTAMP``; None when it holds anything else."""
    return int(field) if field.isdigit() and len(field) <= MOST_DIGITS else None
