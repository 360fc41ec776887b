"""kiptail as a process of its own, started as systemd would start it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["Kiptail", "run_kiptail", "with_file", "without_names", "without_room"]

ROOT = Path(__file__).parents[2]
#: No name server is at this address of the loopback.
NO_NAME_SERVER = "127.255.255.53"
#: Run in a mount namespace of its own: puts a file over another for the rest of the command line.
WITH_FILE = 'mount --bind "$1" "$2"; shift 2; exec "$@"'
#: The same, with a full disk for /tmp and /var/tmp; what is in the first two arguments' directories stays where it is.
WITHOUT_ROOM = """
mount -t tmpfs tmpfs /mnt
mkdir /mnt/1 /mnt/2
mount --bind "$1" /mnt/1
mount --bind "$2" /mnt/2
for full in /var/tmp /tmp; do
  mount -t tmpfs -o size=4k tmpfs "$full"
done
mkdir -p "$1" "$2"
mount --bind /mnt/1 "$1"
mount --bind /mnt/2 "$2"
shift 2
for full in /var/tmp /tmp; do
  head -c 4096 /dev/zero >"$full/full"
done
cd /proc
exec "$@"
"""
#: So much of the end of a log is shown when a test fails, in characters.
LOG_TOLD = 8_000


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("KIPTAIL_", "KUBE"))}
    return kept | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "PYTHONUNBUFFERED": "1"} | dict(extra)


def with_file(path: Path, over: Path) -> tuple[str, ...]:
    """What to run a command ``within``, so that it finds ``path`` in the place of another file."""
    return ("unshare", "--mount", "--propagation", "private", "sh", "-ec", WITH_FILE, "sh", str(path), str(over))


def without_room(directory: Path) -> tuple[str, ...]:
    """What to run a command ``within`` that cannot make a temporary file; ``directory`` and the project stay."""
    return (
        "unshare",
        "--mount",
        "--propagation",
        "private",
        "sh",
        "-ec",
        WITHOUT_ROOM,
        "sh",
        str(ROOT),
        str(directory),
    )


def without_names(directory: Path) -> tuple[str, ...]:
    """What to run a command ``within`` that is to ask nobody for names; ``directory`` is for a file."""
    resolv_conf = directory / "resolv.conf"
    resolv_conf.write_text(f"nameserver {NO_NAME_SERVER}\n")
    return with_file(resolv_conf, Path("/etc/resolv.conf"))


def run_kiptail(
    *arguments: object, stdin: bytes = b"", timeout: float = 60, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run ``kiptail`` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kiptail", *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
        env=_environment(environment),
    )


class Kiptail:
    """A running ``kiptail``; what it tells systemd is in ``notes``.

    ``within`` is a command that runs the rest of its command line: in a namespace, say.
    """

    def __init__(
        self,
        directory: Path,
        *arguments: object,
        module: str = "kiptail",
        within: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self.notes: list[str] = []
        self.log_file = directory / f"kiptail-{time.monotonic_ns()}.log"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        address = directory / f"notify-{time.monotonic_ns()}"
        self._socket.bind(str(address))
        self._socket.setblocking(False)
        with self.log_file.open("wb") as log:
            self._process = subprocess.Popen(
                [*within, sys.executable, "-m", module, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment({"NOTIFY_SOCKET": str(address)} | environment),
            )

    def __enter__(self) -> Kiptail:
        try:
            self.wait_for(lambda: "READY=1" in self.notes, "READY=1")
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            self.stop()
        self._socket.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    def wait_for(self, condition: Callable[[], object], what: str, timeout: float = 20.0) -> None:
        """Wait until it holds, or say what kiptail logged instead."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert self._process.poll() is None, f"ended with {self._process.returncode}: {self.log[-LOG_TOLD:]}"
            assert time.monotonic() < deadline, f"not within {timeout} s: {what}\n{self.log[-LOG_TOLD:]}"
            time.sleep(0.02)
            self._receive()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """End it and return its exit code."""
        self._process.send_signal(number)
        code = self._process.wait(30)
        self._receive()
        self._socket.close()
        return code

    def watch(self, seconds: float) -> None:
        """Let it run, and hear what it tells systemd."""
        end = time.monotonic() + seconds
        self.wait_for(lambda: time.monotonic() >= end, "the time is over", timeout=seconds + 10)

    @property
    def counted(self) -> int:
        """How many drops it said last that it had counted."""
        said = [re.match(r"STATUS=(\d+) drops counted", note) for note in self.notes]
        return max((int(match[1]) for match in said if match), default=0)

    def ended(self, timeout: float) -> int | None:
        """The exit code, if it ends by itself within ``timeout`` seconds."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """As a crash would."""
        self._process.kill()
        self._process.wait(30)
        self._socket.close()

    def _receive(self) -> None:
        while True:
            try:
                self.notes += self._socket.recv(4096).decode().splitlines()
            except (BlockingIOError, OSError):
                return
