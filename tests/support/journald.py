"""Journals for tests: a real systemd-journald without PID 1, and journal files made from given entries.

:class:`Journald` runs the machine's own systemd-journald(8) in a private mount namespace: nothing of the
machine's journal is read, written or signalled. It reads the real /dev/kmsg, and that is one for the whole
machine: give every line a token of your own.
"""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from tests.support.netns import all_netns

__all__ = [
    "BOOT",
    "ROOT_NEEDED",
    "GrowingJournal",
    "Journald",
    "export_to_journal",
    "fields_of",
    "kernel_entry",
    "kmsg",
    "netfilter_log",
    "until",
]

Value = str | bytes | int | Sequence[str | bytes]
Fields = Mapping[str, Value]

#: Why tests that use this module's Journald cannot run as another user.
ROOT_NEEDED = "needs root: a private mount namespace and /dev/kmsg"
#: A boot id that is no machine's.
BOOT = "b0070000000000000000000000000001"

_JOURNALD = "/lib/systemd/systemd-journald"
_JOURNAL_REMOTE = "/lib/systemd/systemd-journal-remote"

#: What the namespace is made of; it lasts as long as somebody holds the other end of standard input.
_NAMESPACE = """
set -eu
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/log
mkdir -p /run/systemd/journal /run/systemd/journald.conf.d /run/log/journal /var/log/journal
mount --bind "$1" /var/log/journal
echo ready
exec cat
"""


def until(condition: Callable[[], object], what: str, *, seconds: float = 10.0) -> None:
    """Poll ``condition`` until it is true; AssertionError that names ``what`` after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


class Journald:
    """A running systemd-journald of its own, whose files are below ``directory``.

    ``root`` is a new directory; its files are those of /var/log/journal. With ``flushed=False`` journald
    writes to /run/log/journal until :meth:`flush`, as on a machine that boots. ``settings`` are
    journald.conf(5)'s.
    """

    def __init__(self, root: Path, *, flushed: bool = True, settings: Mapping[str, str] | None = None) -> None:
        #: The files that outlive the machine, which kiptail is given as --journal-directory.
        self.directory = root
        root.mkdir(parents=True, exist_ok=True)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "--propagation", "private", "sh", "-c", _NAMESPACE, "sh", str(root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n", "no private mount namespace"
        values = {"Storage": "persistent", "Audit": "no", "ForwardToWall": "no", **(settings or {})}
        #: The namespace's root as others see it.
        self.inside = Path(f"/proc/{self._holder.pid}/root")
        #: The files of a machine that boots. On a tmpfs: journald refuses to empty any other file system.
        self.runtime_directory = self.inside / "run/log/journal"
        if flushed:
            (self.inside / "run/systemd/journal/flushed").touch()
        drop_in = self.inside / "run/systemd/journald.conf.d/test.conf"
        drop_in.write_text("[Journal]\n" + "".join(f"{k}={v}\n" for k, v in values.items()))
        self._journald: subprocess.Popen[bytes] | None = None
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Journald:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def command(self, *arguments: str) -> list[str]:
        """A command line that runs ``arguments`` inside, where this journal is the machine's."""
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", *arguments]

    def run(self, *arguments: str, text: str = "") -> str:
        """Run a command inside to its end and give its output."""
        done = self._try(*arguments, text=text)
        assert done.returncode == 0, f"{arguments}: {done.stderr}"
        return done.stdout

    def start(self) -> None:
        """Start journald, or start it again after :meth:`stop` or :meth:`kill`."""
        assert self._journald is None
        self._socket.unlink(missing_ok=True)
        # pdeathsig: a test run that is killed leaves no journald behind. It also ends with the thread that
        # started it.
        self._journald = subprocess.Popen(
            self.command("setpriv", "--pdeathsig", "KILL", "--", _JOURNALD),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        # It may be there and not listened to yet, also as one that a killed journald left behind.
        until(lambda: self._try("journalctl", "--sync").returncode == 0, "journald's answer")

    def stop(self) -> None:
        """An orderly end, as of ``systemctl stop``."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """An end without a chance to close the files."""
        self._end(signal.SIGKILL)

    def send_signal(self, number: signal.Signals) -> None:
        """Send journald a signal: SIGUSR2 rotates, SIGSTOP stalls it, SIGCONT ends the stall."""
        assert self._journald is not None
        self._journald.send_signal(number)

    def sync(self) -> None:
        """Return when everything sent so far is in the files."""
        self.run("journalctl", "--sync")

    def rotate(self) -> None:
        """Archive the active files and open new ones."""
        self.run("journalctl", "--rotate")

    def vacuum(self, *, files: int = 1) -> None:
        """Delete archived files until ``files`` are left, the active one included."""
        self.run("journalctl", f"--vacuum-files={files}")

    def flush(self) -> None:
        """Move from /run to /var (Storage=persistent, auto)."""
        self.run("journalctl", "--flush")

    def send_native(self, fields: Fields) -> None:
        """Send an entry as any program can, by the native protocol (systemd.io/JOURNAL_NATIVE_PROTOCOL)."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(_export(fields), str(self._socket))

    def systemd_cat(self, identifier: str, message: str) -> None:
        """Log a line as systemd-cat(1) does, under any name the sender likes."""
        self.run("systemd-cat", "-t", identifier, text=message + "\n")

    def close(self) -> None:
        """End what was started."""
        if self._journald is not None:
            self._end(signal.SIGKILL)
        assert self._holder.stdin is not None
        assert self._holder.stdout is not None
        self._holder.stdin.close()
        self._holder.stdout.close()
        self._holder.wait(10)

    def _try(self, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments)
        return subprocess.run(command, input=text, text=True, capture_output=True, timeout=30, check=False)

    @property
    def _socket(self) -> Path:
        return self.inside / "run/systemd/journal/socket"

    def _end(self, number: signal.Signals) -> None:
        assert self._journald is not None
        self._journald.send_signal(number)
        self._journald.communicate(timeout=20)
        self._journald = None


def kmsg(text: str) -> None:
    """Write a line to the kernel log as root does: the kernel gives it facility 1 ("user")."""
    with Path("/dev/kmsg").open("w") as log:
        log.write(f"<4>{text}\n")


@contextlib.contextmanager
def netfilter_log(prefix: str) -> Iterator[Callable[[], None]]:
    """Gives a function that has the kernel log a dropped packet under ``prefix``: a real netfilter line.

    The rule is in a network namespace of its own, so net.netfilter.nf_log_all_netns is set meanwhile.
    """
    rule = f'''
set -eu
ip link set lo up
nft add table ip kiptail
nft add chain ip kiptail out "{{ type filter hook output priority 0 ; }}"
nft add rule ip kiptail out udp dport 9 log prefix '"{prefix} "' drop
echo ready
while read line; do echo x > /dev/udp/127.0.0.1/9 || true; echo sent; done
'''
    with (
        all_netns() as log_here,
        subprocess.Popen(
            ["unshare", "--net", "bash", "-c", rule],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as shell,
    ):
        assert shell.stdin is not None
        assert shell.stdout is not None
        given, answers = shell.stdin, shell.stdout

        def send() -> None:
            log_here()
            given.write("\n")
            given.flush()
            assert answers.readline() == "sent\n"

        assert answers.readline() == "ready\n", "no nft rule in a network namespace"
        # Leaving closes the shell's standard input, which ends it.
        yield send


def kernel_entry(
    message: Value,
    *,
    realtime_us: int,
    monotonic_us: int,
    boot_id: str = BOOT,
    **fields: Value | None,
) -> dict[str, Value]:
    """The fields of a kernel log line as journald stores it; a field given as None is left out."""
    entry: dict[str, Value | None] = {
        "__REALTIME_TIMESTAMP": realtime_us,
        "__MONOTONIC_TIMESTAMP": monotonic_us,
        "_BOOT_ID": boot_id,
        "_MACHINE_ID": "3000000000000000000000000000000d",
        "_HOSTNAME": "node-1",
        "_TRANSPORT": "kernel",
        "SYSLOG_FACILITY": 0,
        "SYSLOG_IDENTIFIER": "kernel",
        "PRIORITY": 4,
        "_SOURCE_MONOTONIC_TIMESTAMP": monotonic_us,
        "MESSAGE": message,
    }
    entry.update(fields)
    return {key: value for key, value in entry.items() if value is not None}


class GrowingJournal:
    """A journal file that systemd-journal-remote(8) writes while it is read, as journald's own is.

    What was appended is in the file within milliseconds: the file is mapped into memory by who writes and who reads
    it. An entry names ``__REALTIME_TIMESTAMP``, ``__MONOTONIC_TIMESTAMP`` (µs) and ``_BOOT_ID``. A field with a list of
    values occurs that often. More than about 80,000 entries make more than one file: ``NAME@….journal``.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._remote = subprocess.Popen(
            [_JOURNAL_REMOTE, "-o", str(path), "-"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> GrowingJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._remote.stdin is not None
        # What could not be written fails here once more.
        with contextlib.suppress(BrokenPipeError):
            self._remote.stdin.close()
        code = self._remote.wait(120)
        assert kind is not None or code == 0, "systemd-journal-remote failed"

    def append(self, *entries: Fields) -> None:
        """Add entries, in this order."""
        self.extend(entries)

    def entries(self) -> list[dict[str, str]]:
        """What is in the file so far, as journalctl(1) tells it; nothing while there is no file."""
        return fields_of(self._path.parent) if self._path.exists() else []

    def extend(self, entries: Iterable[Fields]) -> None:
        """Add entries, in this order."""
        assert self._remote.stdin is not None
        for entry in entries:
            self._remote.stdin.write(_export(entry) + b"\n")
        self._remote.stdin.flush()


def export_to_journal(entries: Iterable[Fields], path: Path) -> None:
    """Write a journal file with these entries, in this order; to a file that is there they are added."""
    with GrowingJournal(path) as journal:
        journal.extend(entries)


def fields_of(journal: Path) -> list[dict[str, str]]:
    """Every entry of a directory of journal files as journalctl(1) tells it, oldest first."""
    out = subprocess.run(
        ["journalctl", "-D", str(journal), "-o", "json", "--all", "--no-pager", "-q"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [json.loads(line) for line in out.splitlines()]


def _export(fields: Fields) -> bytes:
    """The Journal Export Format (systemd.io/JOURNAL_EXPORT_FORMATS), without the empty line at the end."""
    lines = []
    for name, given in fields.items():
        for value in [given] if isinstance(given, str | bytes | int) else given:
            data = value if isinstance(value, bytes) else str(value).encode()
            if b"\n" in data or not data.isascii():
                lines.append(name.encode() + b"\n" + struct.pack("<Q", len(data)) + data + b"\n")
            else:
                lines.append(name.encode() + b"=" + data + b"\n")
    return b"".join(lines)
