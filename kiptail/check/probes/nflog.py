"""Looks at the units that run ulogd2, for ``kiptail check``: whether they run, and what they wrote."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable
from pathlib import Path

from kiptail.check.facts import NflogFacts
from kiptail.config.settings import Settings
from kiptail.errors import JournalError
from kiptail.journal.entry import is_of_ulogd, loses_packets, suppressed_messages, text_of
from kiptail.journal.reader import field, match_kernel
from kiptail.journal.source import Source
from kiptail.netfilter.nflog import NflogSource, unit_of_group
from kiptail.netfilter.parser import PacketDrop
from kiptail.netfilter.reading import ULOGD, Logged, read
from kiptail.program import ProgramError, run_program

__all__ = ["gather_listeners", "gather_nflog", "ulogd_is_installed"]

_ULOGD = Path("/usr/sbin/ulogd")
#: Who listens to which group: the first two numbers of a line are the group and its listener, a process as a rule.
_LISTENERS = Path("/proc/net/netfilter/nfnetlink_log")
_PROC = Path("/proc")
_WINDOW_S = 3_600.0
#: Most entries that are read, and for how long (seconds).
_MOST_ENTRIES, _MOST_SECONDS = 200_000, 5.0
#: The longest that systemctl may take (seconds), and print (bytes). Not $PATH: who runs this may be root.
_PROGRAM_SECONDS, _PROGRAM_BYTES, _PATH = 5.0, 1 << 16, "/usr/sbin:/usr/bin:/sbin:/bin"


def ulogd_is_installed() -> bool:
    return _ULOGD.exists()


def gather_listeners(groups: Iterable[int]) -> dict[int, str]:
    """Of these groups, those that another program than the unit for them listens to: by which."""
    found = {group: _listener(group) for group in groups}
    return {group: name for group, name in found.items() if name and not _is_unit_of(group)}


def gather_nflog(settings: Settings, *, now: float) -> tuple[NflogFacts, ...]:
    """One of each source that is configured. ``now`` is in seconds since the epoch."""
    own = settings.journal_directory is None and not settings.journal_files
    journal = Source(settings.journal_directory, settings.journal_files)
    return tuple(_facts(source, settings, journal, now - _WINDOW_S, own=own) for source in settings.nflog)


def _facts(source: NflogSource, settings: Settings, journal: Source, since: float, *, own: bool) -> NflogFacts:
    counted = other = overruns = suppressed = 0
    prefixes = source.prefixes(settings.prefixes)
    until = time.monotonic() + _MOST_SECONDS
    # What cannot be read is a finding of its own.
    with contextlib.suppress(OSError, JournalError), contextlib.closing(journal.open()) as reader:
        match_kernel(reader, (source.unit,))
        reader.seek_realtime(max(0, round(since * 1e6)))
        for _ in range(_MOST_ENTRIES):
            if time.monotonic() > until or not reader._next():
                break
            message, transport = field(reader, "MESSAGE"), field(reader, "_TRANSPORT")
            if transport == b"driver":
                notice = suppressed_messages(message)
                suppressed += notice[0] if notice and notice[1] == source.unit.encode() else 0
            elif is_of_ulogd(transport, field(reader, "SYSLOG_IDENTIFIER")):
                overruns += loses_packets(message)
                if b" OUT=" in message:
                    logged = read(text_of(message), prefixes, ULOGD)
                    counts = isinstance(logged, Logged) and isinstance(logged.packet, PacketDrop)
                    counted, other = counted + counts, other + (not counts)
    return NflogFacts(
        source.unit,
        source.name,
        source.group,
        source.verdict,
        state=_state(source.unit) if own else "",
        installed=ulogd_is_installed(),
        listener=_listener(source.group) if own and source.group is not None else "",
        counted=counted,
        uncounted=other,
        overruns=overruns,
        suppressed=suppressed,
    )


def _state(unit: str) -> str:
    command = ["systemctl", "show", "--property=ActiveState", "--value", unit]
    environment = {"PATH": _PATH, "LC_ALL": "C"}
    try:
        done = run_program(command, env=environment, seconds=_PROGRAM_SECONDS, limit=_PROGRAM_BYTES)
    except ProgramError:
        return ""
    return done.output.decode(errors="replace").strip() if done.code == 0 else ""


def _listener(group: int) -> str:
    """The name of the process that listens to the group; "" where that is nobody, or not known."""
    process = _process(group)
    if not process:
        return ""
    with contextlib.suppress(OSError):
        return (_PROC / process / "comm").read_text(errors="replace").strip()
    return f"process {process}"


def _is_unit_of(group: int) -> bool:
    """Whether the process that listens to the group is of the package's unit for it."""
    with contextlib.suppress(OSError):
        groups = (_PROC / _process(group) / "cgroup").read_text(errors="replace").splitlines()
        return any(line.endswith(f"/{unit_of_group(group)}") for line in groups)
    return False


def _process(group: int) -> str:
    """The number that the listener to the group has, of a process as a rule; "" where that is nobody, or not known."""
    try:
        lines = _LISTENERS.read_text().splitlines()
    except OSError:
        return ""
    return next((words[1] for words in map(str.split, lines) if words[:1] == [str(group)] and len(words) > 1), "")
