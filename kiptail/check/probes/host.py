"""Looks at this host for ``kiptail check`` and ``setup``: journal, kernel settings, state. Nothing is changed."""

from __future__ import annotations

import contextlib
import os
import platform
import stat
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from kiptail import __version__
from kiptail.check.facts import HostFacts, JournalFacts, StateFacts
from kiptail.check.probes.calico import gather_calico
from kiptail.check.probes.filters import gather_filters
from kiptail.check.probes.nflog import gather_nflog
from kiptail.check.probes.profiles import gather_profiles
from kiptail.check.probes.rules import gather_rules
from kiptail.config.settings import Settings
from kiptail.errors import JournalError
from kiptail.journal.entry import is_trusted, missed_messages, text_of
from kiptail.journal.reader import Reader, field, match_kernel
from kiptail.journal.source import Source, unreadable
from kiptail.netfilter.parser import Unparsed, split
from kiptail.netfilter.prefixes import Prefixes
from kiptail.netfilter.printed import is_printed
from kiptail.netfilter.reading import Logged, Untrusted, read
from kiptail.text import one_line

__all__ = ["gather_host", "gather_journal"]

#: What is counted: the last hour, in seconds.
_WINDOW_S = 3_600.0
#: Most kernel lines of it that are read, for how long (seconds), and most prefixes that are counted apart.
_MOST_LINES, _MOST_SECONDS, _MOST_PREFIXES = 200_000, 5.0, 500
_ALL_NETNS = Path("/proc/sys/net/netfilter/nf_log_all_netns")
_PRINTK = Path("/proc/sys/kernel/printk")
_CONF_BYTES = 1 << 18


def gather_host(settings: Settings, *, now: float) -> HostFacts:
    """``now`` is in seconds since the epoch."""
    return HostFacts(
        prefixes=settings.prefixes,
        filters=gather_filters(settings, now=now),
        nflog=gather_nflog(settings, now=now),
        profiles=settings.profiles,
        known_profiles=gather_profiles()[0],
        journal=gather_journal(settings, now=now),
        rules=gather_rules(),
        calico=gather_calico(),
        state=_state(settings.state_directory),
        all_netns=_all_netns(),
        console_level=_number(_read(_PRINTK).split()[:1]),
        versions=_versions(),
    )


def _versions() -> dict[str, str]:
    found = {"kiptail": __version__, "Python": platform.python_version()}
    for package in ("systemd-python", "kubernetes"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    found["Linux"] = platform.release()
    return found


# -- journal ----------------------------------------------------------------------------------------------------


class _Recent(NamedTuple):
    """What the journal holds of the time that is counted, as far as it was read."""

    #: As :class:`JournalFacts` has them.
    prefixes: dict[str, int]
    uncounted: dict[str, int]
    missed: int = 0
    incomplete: bool = False


def gather_journal(settings: Settings, *, now: float, window_s: float = _WINDOW_S) -> JournalFacts:
    """``now`` is in seconds since the epoch, and lines are counted from ``window_s`` before it on."""
    source = Source(settings.journal_directory, settings.journal_files)
    own = settings.journal_directory is None and not settings.journal_files
    name = str(source)
    try:
        source.check()
        persistent, runtime = _storage(source)
        last = _last_kernel(source)
        recent = _recent(source, Prefixes(settings.prefixes), now - window_s)
    except JournalError as error:
        return JournalFacts(name, refusal=str(error))
    except OSError as error:
        return JournalFacts(name, refusal=str(unreadable(source, error)))
    journald = _journald_settings() if own else {}
    return JournalFacts(
        name,
        persistent=persistent,
        runtime=runtime,
        last_kernel_at=last,
        settings=journald,
        **recent._asdict(),
    )


def _storage(source: Source) -> tuple[bool, bool]:
    """Whether it is (also) kept on disk, and in /run."""
    if source.directory is not None or source.files:
        places = source.files or (source.directory or Path(),)
        in_run = any(place.absolute().is_relative_to("/run") for place in places)
        return not in_run, in_run
    with contextlib.closing(source.open()) as reader:
        return reader.has_persistent_files(), reader.has_runtime_files()


def _last_kernel(source: Source) -> float | None:
    with contextlib.closing(source.open()) as reader:
        reader.add_match("_TRANSPORT=kernel")
        reader.seek_tail()
        return reader._get_realtime() / 1e6 if reader._previous() else None


def _recent(source: Source, wanted: Prefixes, since: float) -> _Recent:
    prefixes: dict[str, int] = {}
    uncounted: dict[str, int] = {}
    missed = 0
    until = time.monotonic() + _MOST_SECONDS
    with contextlib.closing(source.open()) as reader:
        match_kernel(reader)
        reader.seek_realtime(max(0, round(since * 1e6)))
        for number, message in enumerate(_messages(reader)):
            if number >= _MOST_LINES or time.monotonic() > until:
                return _Recent(prefixes, uncounted, missed, incomplete=True)
            missed += missed_messages(message) or 0
            if b" OUT=" not in message or not is_trusted(field(reader, "_TRANSPORT"), field(reader, "SYSLOG_FACILITY")):
                continue
            text = text_of(message)
            if wanted.wanted(message) and (why := _why_uncounted(text, wanted)):
                uncounted[why] = uncounted.get(why, 0) + 1
            parts = split(text)
            if parts is not None and is_printed(parts[1]) and (parts[0] in prefixes or len(prefixes) < _MOST_PREFIXES):
                prefixes[parts[0]] = prefixes.get(parts[0], 0) + 1
    return _Recent(prefixes, uncounted, missed)


def _why_uncounted(text: str, wanted: Prefixes) -> str:
    """Why kiptail does not count a line of the kernel's though it has a wanted prefix; "" when it does."""
    match read(text, wanted):
        case Untrusted(reason) | Logged(packet=Unparsed(reason)):
            return reason
    return ""


def _messages(reader: Reader) -> Iterator[bytes]:
    while reader._next():
        yield field(reader, "MESSAGE")


def _journald_settings() -> dict[str, str]:
    """journald.conf(5) and its drop-ins, the later of which win (systemd-system.conf(5))."""
    bases = [Path("/usr/lib/systemd"), Path("/usr/local/lib/systemd"), Path("/run/systemd"), Path("/etc/systemd")]
    drop_ins: dict[str, Path] = {}
    for base in bases:
        with contextlib.suppress(OSError):
            drop_ins |= {path.name: path for path in (base / "journald.conf.d").glob("*.conf")}
    main = next((b / "journald.conf" for b in reversed(bases) if (b / "journald.conf").is_file()), None)
    found: dict[str, str] = {}
    for path in [*([main] if main else []), *(drop_ins[name] for name in sorted(drop_ins))]:
        for line in _read(path).splitlines():
            key, equals, value = line.partition("=")
            if equals and not key.lstrip().startswith(("#", ";")):
                found[key.strip()] = value.strip()
    return {key: value for key, value in found.items() if value}


# -- kernel and state -------------------------------------------------------------------------------------------


def _all_netns() -> bool | None:
    text = _read(_ALL_NETNS).strip()
    return text == "1" if text else None


def _state(path: Path) -> StateFacts:
    shown = one_line(str(path))
    try:
        status = path.stat()
    except FileNotFoundError:
        place = next((parent for parent in path.absolute().parents if os.path.exists(parent)), Path("/"))
        return StateFacts(shown, refusal=_read_only(place), free=_free(place))
    except PermissionError:
        return StateFacts(shown, hidden=True)
    except OSError as error:
        return StateFacts(shown, refusal=one_line(error.strerror or str(error)))
    if not stat.S_ISDIR(status.st_mode):
        return StateFacts(shown, refusal="is not a directory")
    return StateFacts(shown, exists=True, refusal=_read_only(path), in_use=_is_locked(path / "lock"), free=_free(path))


def _read_only(path: Path) -> str:
    with contextlib.suppress(OSError):
        if os.statvfs(path).f_flag & os.ST_RDONLY:
            return "is in a read-only file system"
    return ""


def _free(path: Path) -> int | None:
    with contextlib.suppress(OSError):
        system = os.statvfs(path)
        return system.f_bavail * system.f_frsize
    return None


def _is_locked(path: Path) -> bool:
    """Whether somebody holds a flock(2): from /proc/locks, for taking it would keep a starting kiptail out."""
    try:
        status = path.stat()
    except OSError:
        return False
    device, inode = status.st_dev, status.st_ino
    wanted = f"{os.major(device):02x}:{os.minor(device):02x}:{inode}"
    return any(wanted in line.split() and " FLOCK " in line for line in _read(Path("/proc/locks")).splitlines())


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_CONF_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _number(words: list[str]) -> int | None:
    return int(words[0]) if words and words[0].isdecimal() else None
