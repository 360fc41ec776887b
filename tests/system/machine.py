"""A booted Debian in systemd-nspawn: its own PID 1, users and files; this machine's network and kernel log."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

__all__ = ["Machine", "booted"]

#: All mounts are in a mount namespace of the machine's own, and vanish with its last process. A test run that is killed
#: takes the machine along: to systemd-nspawn SIGTERM means to switch it off.
_BOOT = """
set -eu
mount -t tmpfs tmpfs "$2"
mkdir "$2/upper" "$2/work" "$2/root"
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
exec setpriv --pdeathsig TERM systemd-nspawn --quiet --directory "$2/root" --machine "$3" --hostname worker-3 \
  --register=no --keep-unit --boot --bind=/dev/kmsg --capability=all --console=pipe
"""
BOOTING_S = 90
#: Without a systemd here that gives it one, a machine makes its control group below ours. Two would share it, and each
#: PID 1 would take the other's processes for its own.
_ONE_AT_A_TIME = Path("/run/lock/kiptail-system-test")
#: What a program in the machine may take, in seconds.
PATIENCE_S = 120


class Machine:
    """Runs commands in it, reads and writes its files by way of :attr:`files`."""

    def __init__(self, process: subprocess.Popen[bytes], console: Path) -> None:
        self._process = process
        self._console = console
        self._leader = 0

    @property
    def files(self) -> Path:
        """Its root directory, as seen from here."""
        return Path(f"/proc/{self._leader}/root")

    def wait_for_boot(self) -> None:
        """Until systemd says that it is running."""
        self.until(self._is_up, "the machine boots", seconds=BOOTING_S)

    def _is_up(self) -> bool:
        assert self._process.poll() is None, f"systemd-nspawn ended: {self._console.read_text(errors='replace')}"
        with contextlib.suppress(FileNotFoundError, IndexError):
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
            self._leader = int(children.split()[0])
            return self.try_run("systemctl", "is-system-running").stdout.strip() in ("running", "degraded")
        return False

    def try_run(self, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command to its end, as root and with nothing of this process's environment."""
        inside = ["nsenter", "-t", str(self._leader), "-m", "-u", "-i", "-n", "-p", "-r", "-w", "--"]
        clean = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8", "HOME=/root", "TERM=dumb"]
        return subprocess.run(
            [*inside, *clean, "DEBIAN_FRONTEND=noninteractive", *command],
            input=text, capture_output=True, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip

    def run(self, *command: str, text: str = "") -> str:
        """The same; it has to succeed."""
        done = self.try_run(*command, text=text)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def bind_network(self, namespace: str, path: str) -> None:
        """Have a named network namespace of this machine's as a file there, for units to be in (see ip-netns(8))."""
        self.run("touch", path)
        with Path("/run/netns", namespace).open() as file:
            inside = ["nsenter", "-t", str(self._leader), "-m", "-p", "-r", "--"]
            command = [*inside, "mount", "--no-canonicalize", "--bind", f"/proc/self/fd/{file.fileno()}", path]
            subprocess.run(command, check=True, timeout=PATIENCE_S, pass_fds=[file.fileno()])

    def install(self, package: Path) -> None:
        """Install or upgrade a package, as an administrator would; it fails where apt would have to ask."""
        shutil.copy(package, self.files / "srv")
        self.run("apt-get", "install", "--yes", "--no-install-recommends", f"/srv/{package.name}")

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, as systemctl show gives them."""
        lines = self.run("systemctl", "show", unit, f"--property={','.join(properties)}").splitlines()
        return dict(line.split("=", 1) for line in lines)

    def active(self, unit: str) -> str:
        return self.show(unit, "ActiveState")["ActiveState"]

    def journal(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", "--unit", unit)

    def until(self, condition: Callable[[], object], what: str, *, seconds: float = 30.0) -> None:
        """Wait until it holds, or say what the units said instead."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() >= deadline:
                told = self.try_run("journalctl", "--no-pager", "--lines=60", "--unit=kiptail*", "--unit=init.scope")
                raise AssertionError(f"not within {seconds} s: {what}\n{told.stdout}")
            time.sleep(0.1)

    def end(self) -> None:
        """Switch it off, by the ids of what was started here."""
        if self._leader and self._process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._leader, signal.SIGRTMIN + 4)  # systemd: power off
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            # The leader is PID 1 of its namespace: without it the kernel ends all that run there.
            with contextlib.suppress(ProcessLookupError):
                if self._leader:
                    os.kill(self._leader, signal.SIGKILL)
            self._process.kill()
            self._process.wait(20)


def _remove_groups() -> None:
    """The control groups that systemd-nspawn --keep-unit made below ours, in every hierarchy, and leaves behind."""
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, ours = line.split(":", 2)
        for mount in ("", "unified", controllers.removeprefix("name=")):
            for name in ("payload", "supervisor"):
                top = Path("/sys/fs/cgroup", mount, ours.lstrip("/"), name)
                for group, _, _ in os.walk(top, topdown=False):
                    # Nobody's but those that are empty.
                    with contextlib.suppress(OSError):
                        Path(group).rmdir()


@contextlib.contextmanager
def booted(root: Path, directory: Path) -> Iterator[Machine]:
    """A machine that starts from ``root`` as it is there, and leaves it so; ``directory`` is an empty one."""
    console, mounts = directory / "console", directory / "machine"
    mounts.mkdir(parents=True)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _BOOT, "sh"]
    with _ONE_AT_A_TIME.open("w") as lock, console.open("wb") as output:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            [*command, str(root), str(mounts), f"kiptail-{os.getpid()}"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
        machine = Machine(process, console)
        try:
            machine.wait_for_boot()
            yield machine
        finally:
            machine.end()
            _remove_groups()
